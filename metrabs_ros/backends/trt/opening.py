"""From an ONNX to the engine that was built of it for this GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metrabs_ros.backends.trt.device import Device, open_device
from metrabs_ros.built_engines import check_gpu, find_built
from metrabs_ros.closing import closed_on_failure


def found(trt: Any, backend: str, onnx: Path, precision: str | None = None) -> tuple[bytes, bool, Device]:
    """The engine, whether it may bring host code, and the GPU, to be closed by whoever gets it.

    Raises InputError with the command where there is no engine to run.
    """
    device = open_device()
    with closed_on_failure(device.close):
        check_gpu(backend, device.gpu)
        engine = find_built(onnx, backend, trt.__version__, device.gpu, precision)
        content = engine.content()
    return content, engine.record.options.version_compatible, device
