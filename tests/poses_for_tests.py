"""People made of sticks: random poses with the proportions of a body."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from metrabs_ros.pose import Pose3D
from metrabs_ros.skeleton import Skeleton

# Joint, parent, and where it is from its parent when standing, m: x to the person's left, y down, facing the camera.
_BODY = (
    ("hips", None, (0, 0, 0)),
    ("left_hip", "hips", (0.11, 0.02, 0)),
    ("right_hip", "hips", (-0.11, 0.02, 0)),
    ("left_knee", "left_hip", (0, 0.43, 0)),
    ("right_knee", "right_hip", (0, 0.43, 0)),
    ("left_ankle", "left_knee", (0, 0.41, 0)),
    ("right_ankle", "right_knee", (0, 0.41, 0)),
    ("chest", "hips", (0, -0.35, 0)),
    ("neck", "chest", (0, -0.15, 0)),
    ("head", "neck", (0, -0.2, -0.03)),
    ("left_shoulder", "neck", (0.19, 0.03, 0)),
    ("right_shoulder", "neck", (-0.19, 0.03, 0)),
    ("left_elbow", "left_shoulder", (0.05, 0.29, 0)),
    ("right_elbow", "right_shoulder", (-0.05, 0.29, 0)),
    ("left_wrist", "left_elbow", (0.03, 0.26, -0.05)),
    ("right_wrist", "right_elbow", (-0.03, 0.26, -0.05)),
)
NAMES = tuple(name for name, _, _ in _BODY)
SKELETON = Skeleton.from_names(NAMES, [(parent, name) for name, parent, _ in _BODY if parent is not None])


def person(rng: np.random.Generator | None = None, bend_deg: float = 50.0) -> np.ndarray:
    """[16,3] m around the hips at the origin: standing, or with every joint turned and the body's size at random."""
    size = 1.0 if rng is None else rng.uniform(0.6, 1.2)
    turns = {
        "hips": Rotation.identity() if rng is None else Rotation.from_euler("y", rng.uniform(0, 360), degrees=True)
    }
    joints: dict[str, np.ndarray] = {"hips": np.zeros(3)}
    for name, parent, offset in _BODY[1:]:
        assert parent is not None
        joints[name] = joints[parent] + turns[parent].apply(size * np.array(offset, float))
        bend = np.zeros(3) if rng is None else np.radians(rng.uniform(-bend_deg, bend_deg, 3))
        turns[name] = turns[parent] * Rotation.from_rotvec(bend)
    return np.stack([joints[name] for name in NAMES])


def pose_at(place: tuple[float, float, float], score: float = 0.9, focal: float = 500.0) -> Pose3D:
    """Somebody standing at ``place`` m before a pinhole camera of 640x480."""
    joints3d = person() + np.array(place)
    joints2d = joints3d[:, :2] / joints3d[:, 2:] * focal + [319.5, 239.5]
    low, high = joints2d.min(0), joints2d.max(0)
    return Pose3D(np.concatenate([low, high - low]), score, joints3d, joints2d, np.full(len(joints3d), np.nan))
