"""Engines built of the small network, for the tests of building and running them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorrt_rtx as trt
from networks_for_tests import pose_network, spec_with, write_spec

from metrabs_ros.build_engine import Reports, build_engine
from metrabs_ros.built_engines import BuildOptions, BuiltEngine, Gpu, find_built
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import ModelSpec, load_spec

SMALL = BuildOptions("fp32", (1, 2, 8))
ADA = Gpu("NVIDIA RTX 4090", "8.9", "580.1")
HOPPER = Gpu("NVIDIA H200", "9.0", "580.159.04")
TURING = Gpu("NVIDIA RTX 2080 Ti", "7.5", "580.1")


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


def here(engine: BuiltEngine, gpu: Gpu = ADA, version: str = trt.__version__) -> BuiltEngine:
    return find_built(Path(engine.record.spec).with_name("small.onnx"), "tensorrt_rtx", version, gpu)
