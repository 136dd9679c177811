"""ONNX Runtime on the CPU whatever its build offers: what float32 is where other runtimes are compared with it."""

from __future__ import annotations

from metrabs_ros.backends.onnxruntime import SUFFIXES, OnnxRuntimeNetwork

__all__ = ["SUFFIXES", "OnnxRuntimeCpuNetwork"]


class OnnxRuntimeCpuNetwork(OnnxRuntimeNetwork):
    """On a GPU, ONNX Runtime rounds to TF32."""

    backend_name = "onnxruntime_cpu"
    preferred = ("CPUExecutionProvider",)
