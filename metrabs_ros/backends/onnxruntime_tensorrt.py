"""ONNX Runtime's TensorRT provider, which builds its own engine as it opens, for minutes the first time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metrabs_ros.backends.onnxruntime import SUFFIXES, OnnxRuntimeNetwork
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import InputSpec
from metrabs_ros.weights import cache_folder

__all__ = ["SUFFIXES", "OnnxRuntimeTensorRtNetwork"]

_TENSORRT = "TensorrtExecutionProvider"
# Crops at once that the engine is made fastest for.
_USUAL_CROPS = 4


class OnnxRuntimeTensorRtNetwork(OnnxRuntimeNetwork):
    """In float32; its engine and timings are kept in the user's cache.

    Raises InputError where this build of ONNX Runtime has no such provider, or it does not start: whoever names it
    wants no other.
    """

    backend_name = "onnxruntime_tensorrt"
    preferred = (_TENSORRT, "CUDAExecutionProvider", "CPUExecutionProvider")

    def __init__(self, path: Path, spec: InputSpec, outputs: Sequence[str]) -> None:
        super().__init__(path, spec, outputs)
        if self.device != "Tensorrt":
            self.close()
            raise InputError(
                "ONNX Runtime cannot start its TensorRT provider: install onnxruntime-gpu and the libraries of "
                "TensorRT and CUDA that it was built for, or take backend onnxruntime."
            )

    def _settings(self, provider: str, spec: InputSpec) -> dict[str, Any]:
        if provider != _TENSORRT:
            return {}
        kept = cache_folder() / "onnxruntime_tensorrt"
        kept.mkdir(parents=True, exist_ok=True)
        settings = {
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(kept),
            "trt_timing_cache_enable": True,
            "trt_timing_cache_path": str(kept),
        }
        if spec.dynamic_batch:
            side = f"{spec.size}x{spec.size}"
            crop = f"{side}x3" if spec.layout == "NHWC" else f"3x{side}"
            crops = {"min": 1, "opt": min(_USUAL_CROPS, spec.max_batch), "max": spec.max_batch}
            settings |= {f"trt_profile_{end}_shapes": f"{spec.tensor}:{count}x{crop}" for end, count in crops.items()}
        return settings
