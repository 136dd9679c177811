"""Building engines for real, with TensorRT for RTX, whose builder needs no GPU; and all that can go wrong meanwhile."""

from __future__ import annotations

import fcntl
import hashlib
import json
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorrt_rtx as trt
from engines_for_tests import ADA, SMALL, built, here, refusal, small_spec
from fake_gpu import FakeDevice
from networks_for_tests import pose_network

from metrabs_ros.backends.onnx_graphs.lowered import folded
from metrabs_ros.build_engine import Reports, build_engine, build_if_missing
from metrabs_ros.built_engines import BuildOptions, built_engines
from metrabs_ros.engine import open_engine
from metrabs_ros.model_spec import find_spec, known_specs, load_spec
from metrabs_ros.quantize import quantize
from metrabs_ros.weights import find_weights

pytestmark = pytest.mark.usefixtures("cache")

SHIPPED = [
    name
    for name, path in sorted(known_specs().items())
    if load_spec(path).weights.file.endswith(".onnx") and load_spec(path).weights.source is None
]


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


def test_what_is_quantised_anew_is_built_anew(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    arguments = (spec, "small", "tensorrt_rtx", BuildOptions("int8", (1, 2, 8)), Reports())
    path = quantize(spec, 100.0, lambda what, part: None).path
    first, _ = build_engine(*arguments)
    assert build_engine(*arguments) == (first, False)
    requantized = onnx.load(path)
    (scale,) = (each for each in requantized.graph.initializer if each.name == _activation_scale(requantized))
    scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * np.float32(1.5), scale.name))
    onnx.save(requantized, path)
    second, is_new = build_engine(*arguments)
    assert is_new
    assert second.record.network_sha256 == hashlib.sha256(path.read_bytes()).hexdigest() != first.record.network_sha256
    path.unlink()
    assert build_engine(*arguments) == (second, False), "nothing newer is there"


def _activation_scale(network: onnx.ModelProto) -> str:
    """Of the image's quantiser."""
    (quantizer,) = (node for node in network.graph.node if node.op_type == "QuantizeLinear" and "image" in node.input)
    return str(quantizer.input[1])


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


def test_too_little_workspace_is_a_sentence() -> None:
    options = BuildOptions("fp32", workspace_mib=16)
    text = refusal(lambda: built(load_spec(find_spec("metrabs_base")), options))
    assert "TensorRT could not build the engine" in text
    assert "try more --workspace" in text


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


def test_hardware_compatibility_is_nothing_that_tensorrt_rtx_has(tmp_path: Path) -> None:
    """It only warns of that, and builds for the compute capabilities that it is told."""
    spec = small_spec(tmp_path)
    for capabilities in ((), ("8.6",)):
        options = replace(SMALL, hardware_compatible=True, compute_capabilities=capabilities)
        text = refusal(lambda options=options: built(spec, options))
        assert "tensorrt_rtx builds for compute capabilities, whatever the GPU: leave --hardware-compatible out" in text
    assert built_engines() == []


def test_version_compatible_engines_need_a_library_that_the_wheel_of_tensorrt_rtx_lacks(tmp_path: Path) -> None:
    """TensorRT's lean runtime goes into such engines."""
    spec = small_spec(tmp_path)
    before = built(spec)
    text = refusal(lambda: built(spec, replace(SMALL, version_compatible=True)))
    assert "TensorRT could not build the engine (" in text
    assert "libnvinfer_lean.so" in text
    assert "or without --version-compatible" in text
    assert built_engines() == [before]


@pytest.mark.parametrize(
    ("options", "without_gpu", "expected"),
    [
        (BuildOptions(compute_capabilities=("current",)), True, ("8.9",)),
        (BuildOptions(compute_capabilities=("12.0", "current", "8.9")), True, ("12.0", "8.9")),
        (BuildOptions(), True, ()),
        (BuildOptions(), False, ("8.9",)),
        (BuildOptions(hardware_compatible=True), False, ()),
    ],
)
def test_the_compute_capabilities_of_a_record(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: BuildOptions,
    without_gpu: bool,
    expected: tuple[str, ...],
) -> None:
    """On a fake GPU, with a fake builder: the real ones need a GPU for these."""
    monkeypatch.setattr("metrabs_ros.build_engine.open_device", lambda: FakeDevice(gpu=ADA))
    monkeypatch.setattr("metrabs_ros.backends.trt.builder.build", lambda *arguments: (b"fake engine", b""))
    monkeypatch.setattr("metrabs_ros.backends.tensorrt_rtx.BUILDS_WITHOUT_GPU", without_gpu)
    engine = built(small_spec(tmp_path), options)
    assert engine.record.compute_capabilities == expected
    assert engine.record.gpu == ("" if without_gpu else ADA.name)
    assert here(engine) == engine


def test_a_network_for_one_crop_has_a_batch_of_one(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, pose_network(batch=1), input__dynamic_batch=False)
    assert built(spec, BuildOptions("fp32")).record.options.people == (1, 1, 1)
