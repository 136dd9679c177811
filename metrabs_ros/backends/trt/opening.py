"""From an ONNX to the engine that was built of it for this GPU."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from metrabs_ros.backends.trt.device import Device, open_device
from metrabs_ros.built_engines import find_built


def found(trt: Any, backend: str, onnx: Path, precision: str | None = None) -> tuple[bytes, bool, Device]:
    """The engine, whether it may bring host code, and the GPU, to be closed by whoever gets it.

    Raises InputError with the command where there is no engine to run.
    """
    device = open_device()
    with ExitStack() as on_failure:
        on_failure.callback(device.close)
        engine = find_built(onnx, backend, trt.__version__, device.gpu, precision)
        content = engine.content()
        on_failure.pop_all()
    return content, engine.record.options.version_compatible, device
