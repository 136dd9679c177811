"""TensorRT for RTX on the GPU: runs the engines that `metrabs-engine build --backend tensorrt_rtx` made of an .onnx.

Its builder needs no GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tensorrt_rtx as trt

from metrabs_ros.backends.trt import opening
from metrabs_ros.backends.trt.network import TensorRtNetwork
from metrabs_ros.model_spec import InputSpec

SUFFIXES = (".onnx",)
BUILDS_WITHOUT_GPU = True
library = trt


class TensorRtRtxNetwork(TensorRtNetwork):
    """The engine that was last built of an ONNX, or that of a precision, for this GPU."""

    def __init__(self, path: Path, spec: InputSpec, outputs: Sequence[str], precision: str | None = None) -> None:
        engine, host_code, device = opening.found(trt, "tensorrt_rtx", path, precision)
        super().__init__(trt, "tensorrt_rtx", engine, outputs, device, host_code, spec)
