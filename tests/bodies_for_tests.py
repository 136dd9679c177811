"""People with the joints of COCO who move as people can: bones keep their lengths, joints bend where people's bend."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from metrabs_ros.camera import Camera
from metrabs_ros.conventions import conversion
from metrabs_ros.pose import TrackedPose
from metrabs_ros.skeleton import Skeleton

NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
SKELETON = conversion(Skeleton(NAMES, ()), "coco_17").skeleton
CAMERA = Camera.from_fov(70, (640, 480))
# Axes of a body (x forward, y left, z up) that faces a level camera, in its optical frame.
_R_CAM_BODY = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])


def coco_person(t: float, size: float = 1.0) -> np.ndarray:
    """[17,3] m, hips at the origin, x forward, y left, z up: walks, waves, and looks around as t, s, goes by."""
    step, wave = np.sin(2 * np.pi * 0.9 * t), np.sin(2 * np.pi * 0.37 * t + 0.5)
    lean = Rotation.from_euler("ZYX", [0.15 * step, 0.1 + 0.1 * wave, 0.05 * wave])
    chest = lean.apply([0, 0, 0.46])
    head = lean * Rotation.from_euler("ZY", [0.6 * wave, 0.2 * step])
    points = {"nose": (0.12, 0, 0.17)}
    for side, y in (("left", 1), ("right", -1)):
        points[f"{side}_eye"] = (0.10, y * 0.032, 0.205)
        points[f"{side}_ear"] = (0.0, y * 0.075, 0.185)
    joints = {
        name: chest + lean.apply([0, 0, 0.05]) + head.apply(np.array(at) - [0, 0, 0.05]) for name, at in points.items()
    }
    for side, y in (("left", 1), ("right", -1)):
        swing = y * step
        hip = np.array([0, y * 0.09, 0])
        thigh = Rotation.from_euler("XY", [y * 0.08, -0.15 - 0.45 * swing])
        shank = thigh * Rotation.from_euler("Y", 0.35 + 0.3 * swing)
        joints[f"{side}_hip"] = hip
        joints[f"{side}_knee"] = hip + thigh.apply([0, 0, -0.41])
        joints[f"{side}_ankle"] = joints[f"{side}_knee"] + shank.apply([0, 0, -0.42])
        raised = 0.6 + 0.5 * wave if side == "right" else 0.15
        upper = lean * Rotation.from_euler("XY", [y * raised, -0.3 + 0.4 * swing])
        fore = upper * Rotation.from_euler("Y", -0.7 - 0.4 * wave)
        joints[f"{side}_shoulder"] = chest + lean.apply([0, y * 0.18, 0])
        joints[f"{side}_elbow"] = joints[f"{side}_shoulder"] + upper.apply([0, 0, -0.28])
        joints[f"{side}_wrist"] = joints[f"{side}_elbow"] + fore.apply([0, 0, -0.25])
    return size * np.stack([joints[name] for name in NAMES])


def tracked(track_id: int, t: float, uncertainty: float = 0.02) -> TrackedPose:
    """Person ``track_id`` at t: each of another size, at a place of their own, turned by a third of a right angle
    more."""
    R_facing = Rotation.from_euler("z", 30 * track_id, degrees=True).as_matrix()
    place = np.array([0.9 * (track_id - 2), 0.1, 3.5 + 0.3 * track_id])
    joints = coco_person(t + track_id, 0.9 + 0.05 * track_id) @ (_R_CAM_BODY @ R_facing).T + place
    pixels, _ = CAMERA.project(joints)
    low, high = pixels.min(0), pixels.max(0)
    box = np.concatenate([low, high - low])
    return TrackedPose(box, 0.5 + 0.05 * track_id, joints, pixels, np.full(len(NAMES), uncertainty), track_id)
