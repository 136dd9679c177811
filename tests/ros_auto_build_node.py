"""pose_node on a machine with a fake GPU: what needs CUDA is faked, what builds engines is real.

With the argument "pipeline" its pipeline is the package's own, else the fake one of ros_fake_node.
"""

from __future__ import annotations

import sys

from fake_gpu import FakeDevice
from ros_fake_node import SlowFakePipeline

from metrabs_ros import build_engine, node
from metrabs_ros.backends.trt import opening
from metrabs_ros.camera_pipelines import CameraPipelines


def open_fake(*_: object, **__: object) -> CameraPipelines:
    return CameraPipelines([SlowFakePipeline(0.0, 1, 1)])  # type: ignore[list-item]


def main() -> int:
    for module in (build_engine, opening):
        module.open_device = FakeDevice  # type: ignore[attr-defined]
    opener = CameraPipelines.from_engine if sys.argv[1] == "pipeline" else open_fake
    return node.main(sys.argv[1:], opener)


if __name__ == "__main__":
    sys.exit(main())
