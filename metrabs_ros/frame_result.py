"""What one image became: the record between the pipeline's thread and the publishers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Header

from metrabs_ros.camera import Camera
from metrabs_ros.pose import TrackedPose
from metrabs_ros.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class FrameResult:
    """The people of one image, in the camera's frame and, where it is another, in the frame that they are published in.

    image_header: the image's own, frame_id the camera's optical frame; image_rgb [H,W,3] uint8 and camera as they came;
    poses in the optical frame, m; header: stamp of the image, frame_id of the published 3D; R_out_cam [3,3] and
    t_out_cam [3] m take points of the optical frame there; up [3], the world's up in the published frame; seconds: how
    long each stage took, by name.
    """

    image_header: Header
    image_rgb: NDArray[np.uint8]
    camera: Camera
    skeleton: Skeleton
    poses: tuple[TrackedPose, ...]
    header: Header
    R_out_cam: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    t_out_cam: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    up: tuple[float, float, float] = (0.0, -1.0, 0.0)
    seconds: dict[str, float] = field(default_factory=dict)

    def joints_out(self) -> NDArray[np.float64]:
        """[N,J,3] m: all joints in the published frame."""
        if not self.poses:
            return np.zeros((0, len(self.skeleton.joint_names), 3))
        return np.stack([pose.joints3d for pose in self.poses]) @ self.R_out_cam.T + self.t_out_cam
