"""What an engine takes for a person, learned anew: from features that tell it, into its file and nothing else."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch", reason="training/ needs torch: see requirements/training.txt")

from metrabs_ros.errors import InputError  # noqa: E402
from tests.training_fakes import fake_person  # noqa: E402
from training import person_head  # noqa: E402
from training.examples import collate  # noqa: E402
from training.person_head import Features, Layer, Scored, fitted, judged, layer_in, put_in  # noqa: E402


def engine(weight_name: str = "network.head.person.weight") -> onnx.ModelProto:
    """Means of the three colours, a linear layer on them that says nothing yet, and its sigmoid."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["colours"], axes=[1, 2], keepdims=0),
        helper.make_node("Cast", [f"{weight_name}_half"], [weight_name], to=TensorProto.FLOAT),
        helper.make_node("Gemm", ["colours", weight_name, "network.head.person.bias"], ["logit"], transB=1),
        helper.make_node("Sigmoid", ["logit"], ["person_score"]),
    ]
    stored = [
        numpy_helper.from_array(np.array([[0.5, 0.5, 0.5]], np.float16), f"{weight_name}_half"),
        numpy_helper.from_array(np.zeros(1, np.float32), "network.head.person.bias"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", None, None, 3])
    score = helper.make_tensor_value_info("person_score", TensorProto.FLOAT, ["n", 1])
    graph = helper.make_graph(nodes, "tiny", [image], [score], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def told_apart(count: int = 400) -> Scored:
    """People are red, the rest is green; blue says nothing."""
    rng = np.random.default_rng(0)
    person = rng.random(count) < 0.3
    colours = np.stack([person, ~person, np.zeros(count)], 1) * 0.5 + rng.uniform(0, 0.3, (count, 3))
    return Scored(colours.astype(np.float32), person)


def test_the_layer_learns_what_tells_people_apart() -> None:
    old = Layer(np.array([0.5, 0.5, 0.5]), 0.0)
    seen = told_apart()
    layer = fitted(old, seen)
    scores = layer.scores(seen.features)
    assert scores[~seen.person].max() < scores[seen.person].min()
    assert (scores[seen.person] >= 0.5).mean() == pytest.approx(0.995, abs=0.01)
    assert "from 0.5 on 99." in judged(layer, seen)


def test_a_dear_change_leaves_the_weights_as_they_are() -> None:
    old = Layer(np.array([0.5, -0.2, 0.1]), -1.0)
    np.testing.assert_allclose(fitted(old, told_apart(), ridge=1e6).weight, old.weight, atol=1e-4)


def test_the_engine_scores_by_the_new_layer_alone() -> None:
    model = engine()
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    layer = Layer(np.array([3.0, -2.0, 0.25]), -0.5)
    put_in(model, layer)
    assert layer_in(model).weight.tolist() == [3.0, -2.0, 0.25]
    assert {tensor.name: numpy_helper.to_array(tensor).dtype for tensor in model.graph.initializer} == {
        name: value.dtype for name, value in before.items()
    }
    image = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"image": image})
    np.testing.assert_allclose(scores[:, 0], layer.scores(image.mean((1, 2))), atol=1e-5)


def test_features_are_what_the_layer_sees() -> None:
    people = collate([fake_person(np.random.default_rng(i)) for i in range(3)])
    seen = Features(engine()).of(people)
    np.testing.assert_allclose(seen.features, people.image.numpy().mean((1, 2)) / 255, atol=1e-5)
    np.testing.assert_array_equal(seen.person, people.person.numpy())


def test_a_part_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = [fake_person(np.random.default_rng(i)) for i in range(3)]
    monkeypatch.setattr(person_head.stream, "block", lambda config, seed, number: people)
    monkeypatch.setattr(person_head.stream, "empty_block", lambda config, seed, number, count: people)
    monkeypatch.setattr(person_head, "negatives", lambda *arguments: collate(people))
    made = person_head.part_of(Features(engine()), tmp_path / "part.npz", 0, held_out=False)
    monkeypatch.setattr(person_head, "negatives", None)
    again = person_head.part_of(Features(engine()), tmp_path / "part.npz", 0, held_out=False)
    np.testing.assert_array_equal(made.features, again.features)
    # One of the three people is seen turned, too.
    assert len(made.person) == 10


def test_an_engine_without_a_person_score_is_refused() -> None:
    with pytest.raises(InputError, match="no person score"):
        Features(engine("network.head.other.weight"))


def test_a_damaged_engine_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "engine.onnx"
    damaged.write_bytes(b"no engine")
    for path in (damaged, tmp_path / "nothing.onnx"):
        with pytest.raises(InputError, match=rf"{path.name} cannot be read"):
            person_head.opened(path)
