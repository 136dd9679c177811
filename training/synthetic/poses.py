"""Plausible poses as angle vectors (kinematics.py): families of movements, mixed, jittered, mirrored and limited."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.synthetic.angles import ANCHORS, ANGLES, INDEX
from training.synthetic.arm_poses import SIDES, Pose
from training.synthetic.pose_families import EVALUATION, TRAINING

Floats = NDArray[np.floating]
_LIMITS = {
    "arm_flex": (-0.9, 2.9),
    "arm_abduct": (-0.5, 2.7),
    "arm_rotate": (-1.4, 1.4),
    "arm_elbow": (0.03, 2.5),
    "arm_pronate": (-1.4, 1.4),
    "arm_wrist_flex": (-1.0, 1.1),
    "arm_wrist_side": (-0.4, 0.5),
    "arm_curl": (-0.1, 1.4),
    "leg_flex": (-0.5, 2.2),
    "leg_abduct": (-0.35, 0.9),
    "leg_rotate": (-0.6, 0.8),
    "leg_knee": (0.0, 2.5),
    "leg_ankle": (-0.45, 0.8),
    "leg_toes": (-0.3, 0.9),
    "spine_flex": (-0.5, 1.2),
    "spine_side": (-0.5, 0.5),
    "spine_twist": (-0.8, 0.8),
    "head_flex": (-0.8, 0.9),
    "head_side": (-0.6, 0.6),
    "head_twist": (-1.25, 1.25),
}


def sampled_pose(
    rng: np.random.Generator, held_out: bool = False, only: Sequence[str] | None = None
) -> tuple[Floats, str]:
    """An angle vector [len(ANGLES)] rad and its family; ``held_out``: of the families kept for evaluation; ``only``:
    of those among these."""
    families = EVALUATION if held_out else TRAINING
    names = [name for name in families if only is None or name in only]
    odds = np.array([families[name][1] for name in names])
    name = str(rng.choice(names, p=odds / odds.sum()))
    pose = families[name][0](rng)
    if rng.random() < 0.12 and not held_out:
        other = str(rng.choice(names, p=odds / odds.sum()))
        part = rng.uniform(0.2, 0.8)
        second = families[other][0](rng)
        pose = {
            key: (1 - part) * pose.get(key, 0) + part * second.get(key, 0)
            for key in pose.keys() | second.keys()
            if "_hand_" not in key
        }
        name = f"{name}+{other}"
    return finished(rng, pose), name


def mirrored(angles: Floats) -> Floats:
    """The same pose with left and right exchanged."""
    out = np.array(angles)
    for name, at in INDEX.items():
        if name.startswith("left_"):
            other = INDEX["right_" + name.removeprefix("left_")]
            out[at], out[other] = angles[other], angles[at]
        elif name in ("roll", "spine_side", "spine_twist", "head_side", "head_twist"):
            out[at] = -angles[at]
    for side in SIDES:
        at = INDEX[f"{side}_hand_anchor"]
        if out[INDEX[f"{side}_hand_reach"]] > 0.5:
            name = ANCHORS[int(out[at])]
            swapped = name[:-1] + {"L": "R", "R": "L"}[name[-1]] if name[-2:] in (".L", ".R") else name
            out[at] = ANCHORS.index(swapped)
    return out


def finished(rng: np.random.Generator, pose: Pose) -> Floats:
    """Head and hand habits, jitter and limits; half of all are mirrored."""
    out = np.zeros(len(ANGLES))
    for name, value in pose.items():
        out[INDEX[name]] = value
    gaze = rng.random()
    spread = 0.12 if gaze < 0.45 else 0.4 if gaze < 0.8 else 0.75
    out[INDEX["head_twist"]] += rng.normal(0, spread)
    out[INDEX["head_flex"]] += rng.normal(0.05, 0.6 * spread)
    out[INDEX["head_side"]] += rng.normal(0, 0.3 * spread)
    for name, at in INDEX.items():
        if "_hand_" in name or name.startswith("feet"):
            continue
        limits = next((limit for key, limit in _LIMITS.items() if name.endswith(key)), (-3.2, 3.2))
        jitter = 0.09 if "arm" in name else 0.05 if "leg" in name else 0.04
        if name.endswith(("pronate", "curl")):
            jitter = 0.3
        out[at] = np.clip(out[at] + rng.normal(0, jitter), *limits)
    return mirrored(out) if rng.random() < 0.5 else out
