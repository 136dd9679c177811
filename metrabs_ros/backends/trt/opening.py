"""From an ONNX to the engine that was built of it for this GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metrabs_ros.backends.trt.device import Device, open_device
from metrabs_ros.built_engines import BuiltEngine, find_built


def found(trt: Any, backend: str, onnx: Path, precision: str | None = None) -> tuple[BuiltEngine, Device]:
    """The engine and the GPU. Raises InputError with the command where there is none to run."""
    device = open_device()
    return find_built(onnx, backend, trt.__version__, device.gpu, precision), device
