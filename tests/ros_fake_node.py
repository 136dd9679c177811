"""The real PoseNode with a pipeline that needs no engine: python ros_fake_node.py DELAY_S [--ros-args ...]

The number of people, and faults, are in the image's first value; what the pipeline is asked to do is printed.
"""

from __future__ import annotations

import math
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from metrabs_ros import node
from metrabs_ros.camera import Camera
from metrabs_ros.camera_pipelines import CameraPipelines
from metrabs_ros.plausibility import PlausibilityParams
from metrabs_ros.pose import Detections, TrackedPose
from metrabs_ros.skeleton import Skeleton
from metrabs_ros.smoothing import SmoothingParams
from metrabs_ros.tracking import TrackingParams

FAULT = 250
BROKEN = "broken"


def say(text: str) -> None:
    """A line at once: the pipelines of several cameras speak in threads of their own."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class SlowFakePipeline:
    """Sees as many people as the image's first value says, standing side by side 3 m away, and takes ``delay_s``."""

    spec = SimpleNamespace(name="fake", licence="none")
    engine = SimpleNamespace(backend_name="fake", device="none", reason="", warning="")
    skeleton = Skeleton.from_names(
        ("head", "pelvis", "left_hand", "right_hand"),
        (("head", "pelvis"), ("left_hand", "pelvis"), ("right_hand", "pelvis")),
    )
    min_score: float
    plausible: PlausibilityParams
    tracking: TrackingParams
    smoothing: SmoothingParams
    joints = np.array([[0.0, -0.8, 3.0], [0.0, 0.0, 3.0], [0.4, -0.3, 3.0], [-0.4, -0.3, 3.0]])

    def __init__(self, delay_s: float, first_id: int = 1, id_step: int = 1) -> None:
        self._delay_s = delay_s
        self._ids = (first_id, id_step)
        self._last_stamp_s = -math.inf
        self.seconds_back = 0.0
        self.num_aug = 1
        self.up: Any = None
        self.camera_height = 0.0
        self._said: tuple[Any, ...] = ()

    def process(
        self, image_rgb: np.ndarray, camera: Camera, stamp_s: float, detections: Detections | None = None
    ) -> list[TrackedPose]:
        camera.check_image(image_rgb)
        self.seconds_back = max(0.0, self._last_stamp_s - stamp_s)
        if self.seconds_back:
            self.reset()
        self._last_stamp_s = stamp_s
        self._say_settings()
        if self._delay_s:
            say(f"fake: working on {stamp_s:.6f}")
            time.sleep(self._delay_s)
            say(f"fake: done with {stamp_s:.6f}")
        if image_rgb[0, 0, 0] == FAULT:
            raise RuntimeError("a fault of the fake pipeline")
        poses = []
        count = int(image_rgb[0, 0, 0]) if detections is None else len(detections)
        for index in range(count):
            joints = self.joints + [index, 0.0, 0.0]
            pixels, _ = camera.project(joints)
            box = np.zeros(4) if detections is None else detections.boxes[index]
            track_id = self._ids[0] + index * self._ids[1]
            poses.append(TrackedPose(box, 1.0, joints, pixels, np.full(4, np.nan), track_id))
        return poses

    def _say_settings(self) -> None:
        up = [round(float(part), 3) for part in self.up]
        same_pose = self.plausible.same_pose
        settings = (self.num_aug, self.min_score, same_pose, self.tracking.forget_s, self.smoothing.method, up)
        settings += (round(self.camera_height, 3),)
        if settings != self._said:
            names = ("num_aug", "min_score", "same_pose", "forget_s", "smoothing", "up", "camera_height")
            say("fake: " + ", ".join(f"{name} {value}" for name, value in zip(names, settings, strict=True)))
            self._said = settings

    def warm_up(self) -> None:
        say("fake: warm")

    def release_memory(self) -> None:
        say("fake: memory released")

    def reset(self) -> None:
        self._last_stamp_s = -math.inf
        say("fake: reset")

    def close(self) -> None:
        say("fake: closed")


def main() -> int:
    delay_s = float(sys.argv[1])

    def open_fake(engine: str, backend: str, cameras: int, **_: Any) -> CameraPipelines:
        if engine == BROKEN:
            raise RuntimeError("a fault of the fake engine")
        pipelines: list[Any] = [SlowFakePipeline(delay_s, i + 1, cameras) for i in range(cameras)]
        return CameraPipelines(pipelines)

    return node.main(sys.argv[1:], open_fake)


if __name__ == "__main__":
    sys.exit(main())
