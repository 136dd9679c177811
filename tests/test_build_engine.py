"""Building engines for real, with TensorRT for RTX, whose builder needs no GPU; and all that can go wrong meanwhile."""

from __future__ import annotations

import fcntl
import hashlib
import json
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import tensorrt_rtx as trt
import yaml
from networks_for_tests import SIZE, computed, pose_network, spec_with, write_spec

from metrabs_ros.backends.onnx_graphs.lowered import decoding_nodes, folded
from metrabs_ros.build_engine import Reports, build_engine, build_if_missing, network_in, open_in_precision
from metrabs_ros.built_engines import BuildOptions, BuiltEngine, Gpu, built_engines, find_built, store
from metrabs_ros.engine import open_engine
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import ModelSpec, find_spec, known_specs, load_spec
from metrabs_ros.parity import check, differences
from metrabs_ros.reference_people import crops_for_choosing, crops_for_measuring
from metrabs_ros.weights import find_weights

SMALL = BuildOptions("fp32", (1, 2, 8))
ADA = Gpu("NVIDIA RTX 4090", "8.9", "580.1")
SHIPPED = [
    name
    for name, path in sorted(known_specs().items())
    if load_spec(path).weights.file.endswith(".onnx") and load_spec(path).weights.source is None
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, empty."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("METRABS_ROS_CACHE", str(folder))
    return folder


def small_spec(folder: Path, network: bytes | None = None, **changes: Any) -> ModelSpec:
    return load_spec(write_spec(folder, spec_with(**changes), pose_network() if network is None else network))


def built(spec: ModelSpec, options: BuildOptions = SMALL, **more: Any) -> BuiltEngine:
    return build_engine(spec, str(spec.path), "tensorrt_rtx", options, more.pop("reports", Reports()), **more)[0]


def refusal(work: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as caught:
        work()
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text


def test_there_are_networks_of_our_own_to_build() -> None:
    assert "metrabs_base" in SHIPPED


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_network_compiles_for_two_compute_capabilities(name: str, precision: str) -> None:
    options = BuildOptions(precision, compute_capabilities=("8.6", "12.0"))
    spec = load_spec(find_spec(name))
    engine = built(spec, options)
    assert engine.record.compute_capabilities == ("8.6", "12.0")
    parameters = sum(
        int(np.prod(each.dims)) for each in folded(find_weights(spec.weights, spec.path)).graph.initializer
    )
    half = precision in ("fp16", "bf16")
    # One copy of the weights at least, in the precision that was asked for.
    assert parameters * (2 if half else 4) < engine.record.engine_bytes < parameters * (8 if not half else 3.9)
    assert hashlib.sha256(engine.path.read_bytes()).hexdigest() == engine.record.engine_sha256


def test_the_record_tells_what_was_built(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    options = BuildOptions("fp32", (1, 2, 8), 64, 2, compute_capabilities=("8.9",))
    engine = built(spec, options)
    data = json.loads(engine.path.with_suffix(".json").read_text())
    assert data["library_version"] == trt.__version__
    assert data["source_sha256"] == data["network_sha256"] == spec.weights.sha256
    assert data["options"]["people"] == [1, 2, 8]
    assert data["options"]["workspace_mib"] == 64
    assert data["compute_capabilities"] == ["8.9"]
    assert (data["gpu"], data["driver"]) == ("", "")
    assert data["engine_bytes"] == engine.path.stat().st_size
    assert data["build_seconds"] > 0
    assert built_engines() == [engine]


def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    parts: list[float] = []

    def progress(phase: str, part: float) -> bool:
        assert phase
        parts.append(part)
        return True

    built(small_spec(tmp_path), reports=Reports(progress))
    assert len(parts) > 5
    assert all(0 <= part <= 1 for part in parts)
    assert min(parts) < 0.5
    assert max(parts) > 0.9


def test_what_is_there_already_is_not_built_again(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    arguments = (spec, "small", "tensorrt_rtx", SMALL, Reports())
    first, is_new = build_engine(*arguments)
    assert is_new
    assert build_engine(*arguments) == (first, False)
    again, is_new = build_engine(*arguments, force=True)
    assert is_new
    assert again.record.built_at > first.record.built_at
    other, is_new = build_engine(*arguments[:3], replace(SMALL, people=(1, 4, 4)), Reports())
    assert is_new
    assert built_engines() == [other]


def test_a_damaged_engine_is_built_again(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    engine = built(spec)
    content = engine.path.read_bytes()
    for damaged in (content[:-1], content[:-1] + bytes([content[-1] ^ 1]), b""):
        engine.path.write_bytes(damaged)
        assert "is not the engine that was built" in refusal(engine.content)
    built(spec).content()


def test_a_second_builder_waits_and_takes_what_the_first_built(tmp_path: Path, cache: Path) -> None:
    spec = small_spec(tmp_path)
    built(spec)
    waited: list[str] = []
    results: list[bool] = []
    sentence = threading.Event()

    def waiting(text: str) -> None:
        waited.append(text)
        sentence.set()

    with (cache / "engines" / "small.tensorrt_rtx.fp32.engine.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(
            target=lambda: results.append(
                build_engine(spec, "small", "tensorrt_rtx", SMALL, Reports(waiting=waiting))[1]
            )
        )
        second.start()
        assert sentence.wait(20)
        assert results == []
    second.join(20)
    assert results == [False]
    assert waited == ["Another process is building small.tensorrt_rtx.fp32.engine; waiting for it."]


def test_the_lowered_network_is_near_float32_and_decodes_in_it() -> None:
    spec = load_spec(find_spec("metrabs_base"))
    crops = crops_for_measuring(spec.input.size)
    reference, lowered = open_engine(spec, "onnxruntime"), open_in_precision(spec, "onnxruntime", "fp16")
    found = differences(reference.infer(crops), lowered.infer(crops))
    reference.close()
    lowered.close()
    check(found, "fp16", "fp16 on the CPU")
    assert found[0].mean > 0.01, "nothing was lowered"
    model = onnx.load_from_string(network_in(spec, find_weights(spec.weights, spec.path), "fp16"))
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    soft = [node for node in model.graph.node if node.op_type == "Softmax"]
    assert len(soft) == 2
    assert {types[name] for node in soft for name in (*node.input, *node.output)} == {onnx.TensorProto.FLOAT}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert {types[node.output[0]] for node in convolutions} == {onnx.TensorProto.FLOAT16}


def test_decoding_is_what_follows_a_softmax() -> None:
    spec = load_spec(find_spec("metrabs_base"))
    model = folded(find_weights(spec.weights, spec.path))
    names = decoding_nodes(model)
    kinds = {node.op_type for node in model.graph.node if node.name in names}
    assert {"Softmax", "MatMul", "Sqrt"} <= kinds
    assert "Conv" not in kinds


def test_bfloat16_weights_are_rounded_halves(tmp_path: Path) -> None:
    onnx_file = tmp_path / "small.onnx"
    spec = small_spec(tmp_path)
    model = onnx.load_from_string(network_in(spec, onnx_file, "bf16"))
    kernel = next(each for each in model.graph.initializer if each.data_type == onnx.TensorProto.BFLOAT16)
    exact = next(each for each in onnx.load(onnx_file).graph.initializer if list(each.dims) == list(kernel.dims))
    weights = onnx.numpy_helper.to_array(exact)
    bits = np.frombuffer(kernel.raw_data, np.uint16).astype(np.uint32) << 16
    rounded = bits.view(np.float32).reshape(weights.shape)
    np.testing.assert_allclose(rounded, weights, rtol=2**-8)
    assert (rounded != weights).any()


def test_a_lowered_network_computes_what_the_network_does(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    session = ort.InferenceSession(network_in(spec, tmp_path / "small.onnx", "fp16"))
    crops = np.random.default_rng(0).random((2, SIZE, SIZE, 3)).astype(np.float32)
    names = [output.name for output in session.get_outputs()]
    got = dict(zip(names, session.run(names, {"image": crops.transpose(0, 3, 1, 2)}), strict=True))
    for name, values in computed(crops).items():
        np.testing.assert_allclose(got[name], values, atol=0.02)


@pytest.mark.parametrize("content", [b"", b"not a network", pose_network()[:3000]])
def test_corrupt_onnx_of_the_right_hash(tmp_path: Path, cache: Path, content: bytes) -> None:
    spec = small_spec(tmp_path, content)
    assert "TensorRT cannot read the ONNX" in refusal(lambda: built(spec))
    assert "fetch or export it again" in refusal(lambda: built(spec)).lower()
    assert "ONNX Runtime cannot read" in refusal(lambda: built(spec, BuildOptions("fp16")))
    assert not list((cache / "engines").glob("*.engine"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input__size": 32}, "of shape [-1, 3, 16, 16], but its spec says 'image' of [batch, 3, 32, 32]"),
        ({"input__tensor": "picture"}, "takes ['image'] of shape [-1, 3, 16, 16], but its spec says 'picture'"),
        ({"input__layout": "NHWC"}, "[batch, 16, 16, 3]"),
    ],
)
def test_a_network_of_another_input_is_not_built(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    assert words in refusal(lambda: built(small_spec(tmp_path, **changes)))


def test_a_network_for_one_crop_under_a_spec_for_many(tmp_path: Path) -> None:
    assert "takes batches of 1 only" in refusal(lambda: built(small_spec(tmp_path, pose_network(batch=1))))


def test_onnx_of_another_hash(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    with (tmp_path / "small.onnx").open("ab") as file:
        file.write(b"\0")
    assert "does not match its spec: expected sha256" in refusal(lambda: built(spec))


def test_tflite_is_not_built() -> None:
    assert "is no .onnx, which TensorRT needs" in refusal(lambda: built(load_spec(find_spec("blazepose_full"))))


def test_no_gpu_is_a_sentence(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    built(spec)
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU")
    for work in (
        lambda: open_engine(spec, "tensorrt_rtx"),
        lambda: built(spec, replace(SMALL, compute_capabilities=("current",))),
        lambda: build_if_missing(spec, "small", "tensorrt_rtx", Reports()),
    ):
        assert "There is no usable NVIDIA GPU (cudaError" in refusal(work)


def test_a_backend_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = small_spec(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.delitem(sys.modules, "metrabs_ros.backends.tensorrt_rtx", raising=False)
    assert "The backend tensorrt_rtx is not installed" in refusal(lambda: built(spec))
    assert "No backend can run small.onnx: tensorrt_rtx is not installed" in refusal(
        lambda: open_engine(spec, "tensorrt_rtx")
    )


def test_neither_way_to_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = small_spec(tmp_path)
    for name in ("pycuda", "cuda_python"):
        monkeypatch.setitem(sys.modules, f"metrabs_ros.backends.trt.device_{name}", None)
    text = refusal(lambda: open_engine(spec, "tensorrt_rtx"))
    assert "install pycuda (Debian, JetPack: python3-pycuda) or `pip install cuda-python`" in text


def test_unknown_compute_capabilities_precisions_and_batches(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    text = refusal(lambda: built(spec, replace(SMALL, compute_capabilities=("9.9",))))
    assert "8.6" in text
    assert "not for 9.9" in text
    assert "must be one of fp32" in refusal(lambda: BuildOptions("fp15"))
    assert "1 <= least <= usual <= most" in refusal(lambda: BuildOptions(people=(4, 2, 8)))
    assert "lie in 0..5" in refusal(lambda: BuildOptions(optimization_level=6))
    assert "are built for the backends tensorrt" in refusal(
        lambda: build_engine(spec, "small", "openvino", SMALL, Reports())
    )
    assert "no quantised ONNX of small" in refusal(lambda: built(spec, BuildOptions("int8")))


def test_a_network_for_one_crop_has_a_batch_of_one(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, pose_network(batch=1), input__dynamic_batch=False)
    assert built(spec, BuildOptions("fp32")).record.options.people == (1, 1, 1)


def here(engine: BuiltEngine, gpu: Gpu = ADA, version: str = trt.__version__) -> BuiltEngine:
    return find_built(Path(engine.record.spec).with_name("small.onnx"), "tensorrt_rtx", version, gpu)


def test_an_engine_built_elsewhere_is_not_run(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    engine = built(spec, replace(SMALL, compute_capabilities=("8.6", "8.9")))
    command = f"run `metrabs-engine build {spec.path} --backend tensorrt_rtx --precision fp32`"
    assert here(engine) == engine
    text = refusal(lambda: here(engine, replace(ADA, compute_capability="12.0")))
    assert "it was built for compute capability 8.6, 8.9, and here is 12.0 (NVIDIA RTX 4090)" in text
    assert command in text
    text = refusal(lambda: here(engine, version="1.8"))
    assert f"it was built with tensorrt_rtx {trt.__version__}, and here is 1.8; {command}" in text
    of_gpu = store(replace(engine.record, gpu="NVIDIA L4"), engine.path.read_bytes())
    assert "it was built for the NVIDIA L4, and here is a NVIDIA RTX 4090" in refusal(lambda: here(of_gpu))
    options = replace(engine.record.options, version_compatible=True, hardware_compatible=True)
    anywhere = store(replace(of_gpu.record, options=options), engine.path.read_bytes())
    assert here(anywhere, version="1.8") == anywhere
    assert "and here is 2.0" in refusal(lambda: here(anywhere, version="2.0"))


def test_an_engine_of_other_weights_is_not_run(tmp_path: Path) -> None:
    engine = built(small_spec(tmp_path))
    other = onnx.load(tmp_path / "small.onnx")
    other.doc_string = "retrained"
    onnx.save(other, tmp_path / "small.onnx")
    assert "it was built from another ONNX than the spec names" in refusal(lambda: here(engine))


def test_the_last_built_precision_that_fits_is_run(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    first = built(spec)
    second = built(spec, BuildOptions("fp16", (1, 2, 8)))
    assert here(first) == second
    assert "no tensorrt_rtx engine of small in int8" in refusal(
        lambda: find_built(tmp_path / "small.onnx", "tensorrt_rtx", trt.__version__, ADA, "int8")
    )


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "small"}', "\xff"])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    engine = built(small_spec(tmp_path))
    engine.path.with_suffix(".json").write_text(text, encoding="latin-1")
    assert str(engine.path.with_suffix(".json")) in refusal(lambda: here(engine))


def test_an_engine_without_a_record_is_not_run(tmp_path: Path) -> None:
    engine = built(small_spec(tmp_path))
    engine.path.with_suffix(".json").unlink()
    assert "There is no tensorrt_rtx engine of small" in refusal(lambda: here(engine))


def test_a_cache_that_cannot_be_written_is_told_before_building(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/sys takes no folders, whoever asks."""
    spec = small_spec(tmp_path)
    monkeypatch.setenv("METRABS_ROS_CACHE", "/sys/metrabs_ros")
    progress: list[float] = []

    def note(phase: str, part: float) -> bool:
        progress.append(part)
        return True

    text = refusal(lambda: built(spec, reports=Reports(note)))
    assert "Cannot write /sys/metrabs_ros/engines/small.tensorrt_rtx.fp32.engine.lock" in text
    assert "choose another folder with METRABS_ROS_CACHE" in text
    assert progress == []


def test_a_full_disk_keeps_the_engine_that_was_there(tmp_path: Path, cache: Path) -> None:
    """A limit on the size of files stands for the disk: the engine is above it."""
    spec = small_spec(tmp_path)
    before = built(spec)
    limit = before.path.stat().st_size // 2
    command = ["build", spec.path, "--backend", "tensorrt_rtx", "--precision", "fp32", "--force"]
    result = subprocess.run(
        [sys.executable, "-m", "metrabs_ros.cli.engine", *command],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "Cannot write" in result.stderr
    assert "make room there" in result.stderr
    assert built_engines() == [before]
    before.content()
    assert not list((cache / "engines").glob("*.part"))


def test_the_reference_people_are_two_halves_that_share_nobody() -> None:
    choosing, measuring = crops_for_choosing(128), crops_for_measuring(128)
    assert len(choosing) >= 16
    assert len(measuring) >= 16
    assert choosing.dtype == np.float32
    assert choosing.shape[1:] == (128, 128, 3)
    assert not any((crop == other).all() for crop in choosing for other in measuring)


def test_the_reference_people_are_people() -> None:
    spec = load_spec(find_spec("metrabs_base"))
    engine = open_engine(spec, "onnxruntime")
    scores = engine.infer(crops_for_measuring(spec.input.size)).person_score
    engine.close()
    assert (scores > 0.5).mean() > 0.8


def test_commands_build_list_and_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from metrabs_ros.cli import engine as command

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["metrabs-engine", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            command.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), " ".join(captured.out.split()), captured.err

    spec = small_spec(tmp_path)
    code, out, _ = run("build", spec.path, "--backend", "tensorrt_rtx", "--precision", "fp32", "--max-people", 8)
    assert code == 0
    assert "small: built in" in out
    assert "1-4-8 people" in out
    assert "any from 8.0 on" in out
    assert (
        "already there"
        in run("build", spec.path, "--backend", "tensorrt_rtx", "--precision", "fp32", "--max-people", 8)[1]
    )
    assert "built tensorrt_rtx fp32" in run("info", spec.path)[1]
    code, _, error = run("verify", spec.path, "--backend", "tensorrt_rtx", "--precision", "fp32")
    if not Path("/dev/nvidiactl").exists():
        assert (code, "There is no usable NVIDIA GPU" in error) == (2, True)
    assert "1 engines deleted" in run("clean", spec.path)[1]
    assert built_engines() == []
    assert run("clean", spec.path)[0] == 2


def test_verify_tells_the_joints_and_refuses_what_is_too_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from metrabs_ros import parity
    from metrabs_ros.cli import engine as command

    def run(name: object) -> tuple[int, str, str]:
        arguments = ["verify", str(name), "--backend", "onnxruntime", "--precision", "fp16"]
        monkeypatch.setattr(sys, "argv", ["metrabs-engine", *arguments])
        with pytest.raises(SystemExit) as ended:
            command.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), " ".join(captured.out.split()), captured.err

    code, out, _ = run("metrabs_base")
    assert code == 0
    for output in ("coords3d_rel", "coords2d", "spread3d", "confidence", "person_score"):
        assert output in out
    assert "within the bound of fp16: 1 mm" in out
    monkeypatch.setitem(parity.BOUNDS_MM, "fp16", 1e-6)
    code, out, error = run(small_spec(tmp_path).path)
    assert code == 2
    assert "coords3d_rel" in out
    assert "mm away from float32 on the CPU" in error
    assert "expected at most 1e-06 mm in fp16" in error


def test_joints_that_are_no_numbers_fail_parity() -> None:
    spec = load_spec(find_spec("metrabs_base"))
    engine = open_engine(spec, "onnxruntime")
    output = engine.infer(crops_for_measuring(spec.input.size)[:1])
    engine.close()
    check(differences(output, output), "fp32", "it")
    nowhere = replace(output, coords3d_rel=np.full_like(output.coords3d_rel, np.nan))
    assert "nan mm away" in refusal(lambda: check(differences(output, nowhere), "fp32", "it"))


def test_a_spec_beside_its_network_is_named_by_its_path(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    text = refusal(lambda: find_built(tmp_path / "small.onnx", "tensorrt", "10.3", ADA))
    assert f"run `metrabs-engine build {spec.path} --backend tensorrt` on this machine" in text
    assert yaml.safe_load(spec.path.read_text())["name"] == "small"
