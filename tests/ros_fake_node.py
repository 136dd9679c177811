"""The real PoseNode with a pipeline that needs no engine: python ros_fake_node.py DELAY_S [--ros-args ...]

The number of people, and faults, are in the image's first value; what the pipeline is asked to do is printed.
"""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from metrabs_ros import node
from metrabs_ros.camera import Camera
from metrabs_ros.pipeline import check_image
from metrabs_ros.pose import TrackedPose
from metrabs_ros.skeleton import Skeleton

FAULT = 250


class SlowFakePipeline:
    """Sees as many people as the image's first value says, standing side by side 3 m away, and takes ``delay_s``."""

    spec = SimpleNamespace(name="fake", licence="none")
    engine = SimpleNamespace(backend_name="fake", device="none")
    skeleton = Skeleton.from_names(
        ("head", "pelvis", "left_hand", "right_hand"),
        (("head", "pelvis"), ("left_hand", "pelvis"), ("right_hand", "pelvis")),
    )
    joints = np.array([[0.0, -0.8, 3.0], [0.0, 0.0, 3.0], [0.4, -0.3, 3.0], [-0.4, -0.3, 3.0]])

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s

    def process(self, image_rgb: np.ndarray, camera: Camera, stamp_s: float) -> list[TrackedPose]:
        check_image(image_rgb, camera)
        if self._delay_s:
            print(f"fake: working on {stamp_s:.6f}", flush=True)
            time.sleep(self._delay_s)
            print(f"fake: done with {stamp_s:.6f}", flush=True)
        if image_rgb[0, 0, 0] == FAULT:
            raise RuntimeError("a fault of the fake pipeline")
        poses = []
        for index in range(int(image_rgb[0, 0, 0])):
            joints = self.joints + [index, 0.0, 0.0]
            pixels, _ = camera.project(joints)
            poses.append(TrackedPose(np.zeros(4), 1.0, joints, pixels, np.full(4, np.nan), index + 1))
        return poses

    def warm_up(self) -> None:
        print("fake: warm", flush=True)

    def reset(self) -> None:
        print("fake: reset", flush=True)

    def close(self) -> None:
        print("fake: closed", flush=True)


def main() -> int:
    delay_s = float(sys.argv[1])

    def open_fake(engine: str, backend: str, **_: Any) -> Any:
        return SlowFakePipeline(delay_s)

    return node.main(sys.argv[1:], open_fake)


if __name__ == "__main__":
    sys.exit(main())
