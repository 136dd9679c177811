"""OpenVINO on Intel's GPU in float16: faster there, and less exact."""

from __future__ import annotations

from metrabs_ros.backends.openvino import SUFFIXES, OpenVinoNetwork

__all__ = ["SUFFIXES", "OpenVinoGpuFp16Network"]


class OpenVinoGpuFp16Network(OpenVinoNetwork):
    """Raises InputError where OpenVINO finds no GPU, or one without float16."""

    backend_name = "openvino_gpu_fp16"
    target = "GPU"
    precision = "f16"
