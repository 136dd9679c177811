"""OpenVINO on a CPU that computes with bfloat16: faster there, and less exact."""

from __future__ import annotations

from metrabs_ros.backends.openvino import SUFFIXES, OpenVinoNetwork

__all__ = ["SUFFIXES", "OpenVinoBf16Network"]


class OpenVinoBf16Network(OpenVinoNetwork):
    """Raises InputError where the CPU has no instructions for it."""

    backend_name = "openvino_bf16"
    precision = "bf16"
