"""Checkpoint to engine: the same numbers in torch, ONNX Runtime, OpenVINO and the runtime's own decoding."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="training/ needs torch: see requirements/training.txt")

from metrabs_ros import reconstruct as runtime  # noqa: E402
from metrabs_ros.engine import open_engine  # noqa: E402
from metrabs_ros.errors import InputError  # noqa: E402
from metrabs_ros.model_spec import CropSpec, load_spec  # noqa: E402
from tests.training_fakes import CONFIG, SIDE, FakePeopleStream  # noqa: E402
from training import checkpoint, export, losses, reconstruct  # noqa: E402
from training.export import Recipe  # noqa: E402
from training.framing import PAPER  # noqa: E402
from training.heatmap import Grid  # noqa: E402
from training.losses import RELEASED, LossConfig  # noqa: E402
from training.model.metrabs import Metrabs, MetrabsConfig  # noqa: E402
from training.protocols import looks  # noqa: E402
from training.trainer import Trainer  # noqa: E402

FUSED = MetrabsConfig(
    backbone="blazepose_random",
    grid=Grid(side=SIDE, stride=16, centred=False),
    fuse=16,
    neck=(16, 16),
)


def exported(folder: Path, config: MetrabsConfig, recipe: Recipe) -> tuple[Metrabs, Path]:
    """A network after two updates, restored from its checkpoint, and the spec of its engine."""
    loss = replace(CONFIG.loss, confidence_weights=config.confidence)
    trainer = Trainer(replace(CONFIG, model=config, frozen_encoder_steps=0, loss=loss), torch.device("cpu"))
    stream = CONFIG.data.batches(2, 0, 0, 0)
    for _ in range(2):
        trainer.update(next(stream))
    trainer.save(folder / "run", {})
    place = checkpoint.latest(folder / "run")
    assert place is not None
    network, restored, facts = export.restored(place)
    for name, value in trainer.ema.state.items():
        assert torch.equal(network.state_dict()[name], value)
    return network, export.export(network, restored, facts, folder / "tiny.onnx", recipe)


def test_weights_go_back_to_those_of_another_by_a_part(tmp_path: Path) -> None:
    network, spec = exported(tmp_path, CONFIG.model, Recipe(half=False))
    later = Trainer(CONFIG, torch.device("cpu"))
    later.update(next(CONFIG.data.batches(2, 5, 0, 0)))
    later.save(tmp_path / "later", {})
    place = checkpoint.latest(tmp_path / "later")
    engine = spec.with_suffix(".onnx")
    for part in (0.0, 0.25, 1.0):
        mixed, _, _ = export.restored(place, back_to=engine, part=part)
        for name, value in mixed.state_dict().items():
            expected = (1 - part) * later.ema.state[name] + part * network.state_dict()[name]
            torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)
    counted = {"scale": torch.zeros(2), "count": torch.tensor(7)}
    assert checkpoint.between(counted, {"scale": torch.ones(2), "count": torch.tensor(9)}, 0.5)["count"] == 7
    refused = CliRunner().invoke(export.app, [str(place), str(tmp_path / "x.safetensors"), "--back-to", str(engine)])
    assert refused.exit_code == 1
    assert not (tmp_path / "x.safetensors").exists()
    with pytest.raises(InputError, match="a part of 0 to 1, got 2"):
        export.restored(place, back_to=engine, part=2)
    _, other = exported(tmp_path / "other", FUSED, Recipe())
    with pytest.raises(InputError, match="Weights of two different networks cannot be mixed"):
        export.restored(place, back_to=other.with_suffix(".onnx"), part=0.5)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("config", [CONFIG.model, FUSED], ids=["plain", "fused"])
def test_parity(tmp_path: Path, config: MetrabsConfig, layout: str) -> None:
    network, spec_path = exported(tmp_path, config, Recipe(half=False, layout=layout))
    spec = load_spec(spec_path)
    assert spec.joints == CONFIG.skeleton.joint_names
    assert spec.skeleton.edges == CONFIG.skeleton.edges
    assert spec.reconstruction.border == config.grid.stride
    crops = np.random.default_rng(0).random((5, SIDE, SIDE, 3), np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(crops).permute(0, 3, 1, 2))
    K = np.tile(np.array([[90.0, 0, 32], [0, 90, 32], [0, 0, 1]]), (5, 1, 1))
    inside = reconstruct.in_fov(expected.coords2d, SIDE, config.grid.stride)
    confidence = None if expected.confidence_logit is None else expected.confidence_logit.sigmoid()
    pose = reconstruct.absolute(
        expected.coords2d.double(), expected.coords3d_rel.double(), torch.from_numpy(K), inside, confidence
    )
    for backend in ("onnxruntime", "openvino"):
        engine = open_engine(spec, backend)
        got = engine.infer(crops)
        np.testing.assert_allclose(got.coords2d, expected.coords2d, atol=5e-3)
        np.testing.assert_allclose(got.coords3d_rel, expected.coords3d_rel, atol=1e-4)
        np.testing.assert_allclose(got.spread2d, expected.spread2d, atol=5e-3)
        np.testing.assert_allclose(got.spread3d, expected.spread3d, atol=1e-4)
        assert engine.scores_people == config.person
        if confidence is not None:
            np.testing.assert_allclose(got.confidence, confidence, atol=1e-4)
            np.testing.assert_allclose(got.person_score, expected.person_logit.sigmoid(), atol=1e-4)
        # The whole way from one prediction: torch's reconstruction against the runtime's, in metres.
        twin = runtime.absolute(
            expected.coords2d,
            expected.coords3d_rel,
            K,
            inside.numpy(),
            None if confidence is None else confidence.numpy(),
        )
        np.testing.assert_allclose(twin, pose, atol=1e-4)
        single = engine.infer(crops[:1])
        np.testing.assert_allclose(single.coords3d_rel, got.coords3d_rel[:1], atol=1e-4)
        engine.close()


def test_mirrored_average(tmp_path: Path) -> None:
    """A crop and its mirror image give mirrored poses, the mean of what the bare network sees in both."""
    network, spec_path = exported(tmp_path, CONFIG.model, Recipe(half=False, mirror=True))
    spec = load_spec(spec_path)
    crops = np.random.default_rng(0).random((3, SIDE, SIDE, 3), np.float32)
    counterparts = spec.skeleton.mirror
    with torch.no_grad():
        seen, turned = (
            network(torch.from_numpy(np.ascontiguousarray(picture)).permute(0, 3, 1, 2))
            for picture in (crops, crops[:, :, ::-1])
        )
    back3d = turned.coords3d_rel.numpy()[:, counterparts] * [-1, 1, 1]
    back2d = turned.coords2d.numpy()[:, counterparts] * [-1, 1] + [SIDE - 1, 0]
    for backend in ("onnxruntime", "openvino"):
        engine = open_engine(spec, backend)
        got, other = engine.infer(crops), engine.infer(np.ascontiguousarray(crops[:, :, ::-1]))
        np.testing.assert_allclose(got.coords3d_rel, (seen.coords3d_rel + back3d) / 2, atol=1e-4)
        np.testing.assert_allclose(got.coords2d, (seen.coords2d + back2d) / 2, atol=5e-3)
        np.testing.assert_allclose(got.spread3d, (seen.spread3d + turned.spread3d[:, counterparts]) / 2, atol=1e-4)
        scores = (seen.person_logit.sigmoid() + turned.person_logit.sigmoid()) / 2
        np.testing.assert_allclose(got.person_score, scores, atol=1e-4)
        np.testing.assert_allclose(other.coords3d_rel[:, counterparts] * [-1, 1, 1], got.coords3d_rel, atol=1e-4)
        engine.close()
    assert spec.second_look is not None


def test_half_storage_halves_the_file_and_computes_with_rounded_weights(tmp_path: Path) -> None:
    network, full_path = exported(tmp_path / "full", CONFIG.model, Recipe(half=False))
    _, half_path = exported(tmp_path / "half", CONFIG.model, Recipe(half=True))
    sizes = [path.with_suffix(".onnx").stat().st_size for path in (full_path, half_path)]
    assert sizes[1] < 0.55 * sizes[0]
    opsets = {entry.domain: entry.version for entry in onnx.load(str(half_path.with_suffix(".onnx"))).opset_import}
    assert opsets[""] == export.OPSET
    for tensor in onnx.load(str(half_path.with_suffix(".onnx"))).graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        np.testing.assert_array_equal(values.astype(np.float16), values, tensor.name)
    for parameter in network.parameters():
        parameter.data = parameter.data.half().float()
    crops = np.random.default_rng(0).random((3, SIDE, SIDE, 3), np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(crops).permute(0, 3, 1, 2))
    for backend in ("onnxruntime", "openvino"):
        got = open_engine(load_spec(half_path), backend).infer(crops)
        np.testing.assert_allclose(got.coords2d, expected.coords2d, atol=5e-3)
        np.testing.assert_allclose(got.coords3d_rel, expected.coords3d_rel, atol=1e-4)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (LossConfig(perspective="weak"), ("weak", 32.0, 0.0, 0.0)),
        (RELEASED, ("full", 24.0, 0.5, 0.01)),
        (LossConfig(), ("full", 32.0, 0.0, 0.0)),
    ],
)
def test_people_are_framed_and_placed_as_in_training(
    tmp_path: Path, loss: LossConfig, expected: tuple[str, float, float, float]
) -> None:
    config = replace(CONFIG, loss=loss, data=FakeDataSet())
    Trainer(config, torch.device("cpu")).save(tmp_path, {})
    network, restored, facts = export.restored(checkpoint.latest(tmp_path))
    spec = load_spec(export.export(network, restored, facts, tmp_path / "tiny.onnx", Recipe(half=False)))
    placed = spec.reconstruction
    assert (placed.perspective, placed.border, placed.mix_3d, placed.ridge) == expected
    assert (spec.crop.box_scale, spec.crop.upright) == (1.0, "world")
    seen = looks.engine_of_checkpoint(tmp_path).spec
    assert (seen.reconstruction, seen.crop) == (placed, spec.crop)
    assert not list(tmp_path.glob("*.part"))
    # Checkpoints from before this was kept are of synthetic people.
    old = {name: value for name, value in facts.items() if name not in ("framing", "reconstruction")}
    spec = load_spec(export.export(network, restored, old, tmp_path / "old.onnx", Recipe(half=False)))
    assert (spec.crop.box_scale, spec.crop.upright, spec.reconstruction.border) == (1.25, "body", 32.0)


def test_how_poses_are_placed_may_be_told_at_export(tmp_path: Path) -> None:
    Trainer(CONFIG, torch.device("cpu")).save(tmp_path, {})
    network, config, facts = export.restored(checkpoint.latest(tmp_path))
    as_trained = load_spec(export.export(network, config, facts, tmp_path / "as_trained.onnx", Recipe()))
    recipe = Recipe(mix_3d=0.4, weights="spread", scale=1.03)
    told = load_spec(export.export(network, config, facts, tmp_path / "told.onnx", recipe))
    expected = replace(as_trained.reconstruction, mix_3d=0.4, weights="spread")
    assert (told.reconstruction, as_trained.reconstruction.weights) == (expected, "confidence")
    assert {name: output.scale for name, output in told.outputs.items() if output.scale != 1} == {
        "coords3d_rel": 1.03,
        "spread3d": 1.03,
    }
    with pytest.raises(InputError, match="weights must be one of confidence, spread"):
        export.export(network, config, facts, tmp_path / "wrong.onnx", Recipe(weights="wrong"))
    with pytest.raises(InputError, match="scale must be a positive number, got 0"):
        Recipe(scale=0.0)
    assert not list(tmp_path.glob("wrong*"))


def test_followed_people_may_be_framed_otherwise(tmp_path: Path) -> None:
    Trainer(CONFIG, torch.device("cpu")).save(tmp_path, {})
    network, config, facts = export.restored(checkpoint.latest(tmp_path))
    as_trained = load_spec(export.export(network, config, facts, tmp_path / "as_trained.onnx", Recipe()))
    told = load_spec(export.export(network, config, facts, tmp_path / "told.onnx", Recipe(pose_scale=1.1)))
    assert as_trained.crop.pose_scale is None
    assert told.crop == replace(as_trained.crop, pose_scale=1.1)
    with pytest.raises(InputError, match="pose_scale"):
        export.export(network, config, facts, tmp_path / "wrong.onnx", Recipe(pose_scale=-1.0))
    assert not (tmp_path / "wrong.yaml").exists()


@dataclass(frozen=True)
class FakeDataSet(FakePeopleStream):
    framing: ClassVar[CropSpec] = PAPER


def test_a_checkpoint_predicts_densely_where_asked(tmp_path: Path) -> None:
    Trainer(CONFIG, torch.device("cpu")).save(tmp_path, {})
    network, config, _ = export.restored(checkpoint.latest(tmp_path), stride=16)
    assert config.grid.stride == 16
    assert network.encoder(torch.zeros(1, 3, SIDE, SIDE)).shape[-2:] == (SIDE // 16, SIDE // 16)
    engine = looks.engine_of_checkpoint(tmp_path, stride=16)
    assert engine.spec.reconstruction.border == 16
    assert np.isfinite(engine.infer(np.full((1, SIDE, SIDE, 3), 0.5, np.float32)).coords2d).all()


def test_confidence_is_only_used_where_training_used_it(tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, torch.device("cpu"))
    trainer.save(tmp_path, {})
    network, config, facts = export.restored(checkpoint.latest(tmp_path))
    spec = load_spec(export.export(network, config, facts, tmp_path / "tiny.onnx", Recipe()))
    assert "confidence" not in spec.outputs
    assert "person_score" in spec.outputs


def test_training_places_people_where_the_runtime_does() -> None:
    batch = next(CONFIG.data.batches(3, 0, 0, 0))
    predicted = Trainer(CONFIG, torch.device("cpu")).model.eval()(torch.rand(3, 3, SIDE, SIDE))
    pose = losses.absolute_pose(predicted, batch, CONFIG.model.grid, replace(CONFIG.loss, mix=0.0), 10**6)
    coords2d, coords3d = predicted.coords2d.detach().numpy(), predicted.coords3d_rel.detach().numpy()
    inside = runtime.in_fov(coords2d, SIDE, CONFIG.model.grid.stride)
    expected = runtime.absolute(coords2d, coords3d, batch.K.numpy(), inside)
    np.testing.assert_allclose(pose.detach().numpy(), expected, rtol=1e-3, atol=1e-3)


def test_the_teacher_labels_joints_by_name() -> None:
    from metrabs_ros.errors import InputError
    from metrabs_ros.skeleton import Skeleton
    from training.distill import Teacher

    teacher = Teacher("blazepose_full", CONFIG.skeleton)
    names = [CONFIG.skeleton.joint_names[i] for i in teacher.student_joints]
    assert len(names) == 21
    assert "left_foot" in names
    with pytest.raises(InputError, match="no joint in common"):
        Teacher("blazepose_full", Skeleton(("tail",), ()))
