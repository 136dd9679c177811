"""TensorRT on the GPU: runs the engines that `metrabs-engine build --backend tensorrt` made of an .onnx on this GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tensorrt as trt

from metrabs_ros.backends.trt import opening
from metrabs_ros.backends.trt.network import TensorRtNetwork
from metrabs_ros.model_spec import InputSpec

SUFFIXES = (".onnx",)
BUILDS_WITHOUT_GPU = False
library = trt


class TensorRtFullNetwork(TensorRtNetwork):
    """The engine that was last built of an ONNX, or that of a precision, on this GPU."""

    def __init__(self, path: Path, spec: InputSpec, outputs: Sequence[str], precision: str | None = None) -> None:
        engine, host_code, device = opening.found(trt, "tensorrt", path, precision)
        super().__init__(trt, "tensorrt", engine, outputs, device, host_code, spec)
