"""OpenVINO on Intel's GPU, the integrated one of many processors, in float32."""

from __future__ import annotations

from metrabs_ros.backends.openvino import SUFFIXES, OpenVinoNetwork

__all__ = ["SUFFIXES", "OpenVinoGpuNetwork"]


class OpenVinoGpuNetwork(OpenVinoNetwork):
    """Raises InputError where OpenVINO finds no GPU."""

    backend_name = "openvino_gpu"
    target = "GPU"
