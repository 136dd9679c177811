"""On which processor ONNX Runtime is asked to run: on CUDA where its build has it, but never as the reference."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest
from engines_for_tests import small_spec

from metrabs_ros.auto_backend import CANDIDATES
from metrabs_ros.build_engine import open_in_precision
from metrabs_ros.cli import engine as command
from metrabs_ros.engine import REFERENCE, open_engine
from metrabs_ros.errors import InputError
from metrabs_ros.quantize import quantize

pytestmark = [
    pytest.mark.usefixtures("cache"),
    pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'"),
]

TENSORRT = "TensorrtExecutionProvider"
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def asked_of(monkeypatch: pytest.MonkeyPatch, *offered: str) -> list[list[str]]:
    """What sessions are asked to run on from now on, where the build of ONNX Runtime offers so much."""
    asked: list[list[str]] = []

    class Session(ort.InferenceSession):  # type: ignore[misc]
        def __init__(self, *arguments: Any, providers: list[str], **options: Any) -> None:
            asked.append([provider if isinstance(provider, str) else provider[0] for provider in providers])
            super().__init__(*arguments, providers=providers, **options)

    monkeypatch.setattr(ort, "get_available_providers", lambda: list(offered))
    monkeypatch.setattr(ort, "InferenceSession", Session)
    return asked


@pytest.mark.parametrize(
    ("offered", "expected"),
    [((TENSORRT, CUDA, CPU), [CUDA, CPU]), (("AzureExecutionProvider", CPU), [CPU])],
)
def test_the_gpu_is_asked_for_where_the_build_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offered: tuple[str, ...], expected: list[str]
) -> None:
    """Without a GPU the session then says that it runs on the CPU, and does."""
    installed = ort.get_available_providers()
    asked = asked_of(monkeypatch, *offered)
    engine = open_engine(small_spec(tmp_path), "onnxruntime")
    assert asked == [expected]
    assert engine.device == "CPU" or CUDA in installed
    engine.close()


def test_the_reference_runs_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, float32 would be TF32."""
    spec = small_spec(tmp_path)
    asked = asked_of(monkeypatch, CUDA, CPU)
    for engine in (open_engine(spec, REFERENCE), open_in_precision(spec, "onnxruntime", "fp32")):
        assert (engine.backend_name, engine.device) == ("onnxruntime_cpu", "CPU")
        engine.close()
    assert asked == [[CPU], [CPU]]


def test_tensorrts_provider_is_there_for_who_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """What the provider is told, by a session that stands for one with TensorRT: nothing here can run it."""
    told: dict[str, dict[str, object]] = {}

    class FakeTensorRtSession(ort.InferenceSession):  # type: ignore[misc]
        def __init__(self, *arguments: Any, providers: list[tuple[str, dict[str, object]]], **options: Any) -> None:
            told.update(providers)
            super().__init__(*arguments, providers=[CPU], **options)

        def get_providers(self) -> list[str]:
            return [TENSORRT, CUDA, CPU]

    monkeypatch.setattr(ort, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(ort, "InferenceSession", FakeTensorRtSession)
    spec = small_spec(tmp_path)
    engine = open_engine(spec, "onnxruntime_tensorrt")
    assert engine.device == "Tensorrt"
    assert list(told) == [TENSORRT, CUDA, CPU]
    side = spec.input.size
    assert told[TENSORRT]["trt_profile_max_shapes"] == f"image:{spec.input.max_batch}x3x{side}x{side}"
    assert Path(str(told[TENSORRT]["trt_engine_cache_path"])).parent == cache
    engine.close()


def test_without_its_provider_nobody_gets_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_of(monkeypatch, CPU)
    with pytest.raises(InputError, match="cannot start its TensorRT provider: install onnxruntime-gpu"):
        open_engine(small_spec(tmp_path), "onnxruntime_tensorrt")
    assert "onnxruntime_tensorrt" not in CANDIDATES


@pytest.mark.slow
def test_commands_compare_with_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = small_spec(tmp_path)
    asked = asked_of(monkeypatch, CUDA, CPU)
    arguments = ["verify", str(spec.path), "--backend", "onnxruntime", "--precision", "fp32"]
    monkeypatch.setattr(sys, "argv", ["metrabs-engine", *arguments])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert not ended.value.code
    assert asked == [[CPU], [CPU]]
    quantize(spec, 100.0, lambda what, part: None)
    assert len(asked) > 5
    assert all(providers == [CPU] for providers in asked)
