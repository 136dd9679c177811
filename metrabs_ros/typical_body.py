"""How long bones usually are, for any skeleton whose joints have known names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.skeleton import Skeleton

# An adult of 1.7 m with the arms held out: across the body, down from the hips, forward, m; of joints that exist on
# both sides the left one. Proportions of Drillis and Contini (1966; in Winter, Biomechanics and Motor Control of Human
# Movement), the face roughly. Bones are judged by factors of three: no more is needed.
_MIDDLE = {
    "pelvis": (0, 0), "hips": (0, 0), "spine": (-0.25, 0), "chest": (-0.35, 0), "thorax": (-0.5, 0),
    "neck": (-0.52, 0), "head": (-0.68, -0.05), "head_top": (-0.8, 0), "nose": (-0.64, 0.12),
}  # fmt: skip
_SIDE = {
    "hip": (0.1, 0, 0), "knee": (0.1, 0.42, 0), "ankle": (0.1, 0.84, 0), "heel": (0.1, 0.9, -0.05),
    "foot": (0.1, 0.9, 0.18), "shoulder": (0.19, -0.5, 0), "elbow": (0.5, -0.5, 0), "wrist": (0.75, -0.5, 0),
    "hand": (0.85, -0.5, 0), "index": (0.87, -0.5, 0.02), "pinky": (0.85, -0.5, -0.04), "thumb": (0.81, -0.5, 0.06),
    "ear": (0.075, -0.65, 0), "eye": (0.032, -0.68, 0.1), "eye_inner": (0.016, -0.68, 0.1),
    "eye_outer": (0.046, -0.68, 0.09), "mouth": (0.025, -0.6, 0.1),
}  # fmt: skip


def bone_lengths(skeleton: Skeleton) -> NDArray[np.float64]:
    """[E] m: typical lengths of the skeleton's edges, NaN where a joint's name is not known."""
    places = np.array([_place(name) for name in skeleton.joint_names], np.float64).reshape(-1, 3)
    starts, ends = skeleton.bones.T
    return np.linalg.norm(places[starts] - places[ends], axis=-1)


def _place(name: str) -> tuple[float, float, float]:
    if name in _MIDDLE:
        return 0.0, *_MIDDLE[name]
    side, _, joint = name.partition("_")
    if side in ("left", "right") and joint in _SIDE:
        across, down, forward = _SIDE[joint]
        return (across if side == "left" else -across), down, forward
    return np.nan, np.nan, np.nan
