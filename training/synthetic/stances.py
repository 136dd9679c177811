"""Poses of people who stay where they are: angles of one family each."""

from __future__ import annotations

import numpy as np

from training.synthetic.arm_poses import SIDES, Pose, arms, around, limb, reach


def standing(rng: np.random.Generator) -> Pose:
    """Upright, weight shifted, feet on the floor."""
    wide = abs(around(rng, 0.08, 0.08))
    shift = around(rng, 0, 0.05)
    pose = {
        "roll": shift,
        "spine_side": -shift * 0.8,
        "spine_flex": around(rng, 0.03, 0.1),
        "spine_twist": around(rng, 0, 0.12),
        "feet_flat": 1.0,
        "feet_level": 1.0,
        "pitch": around(rng, 0.02, 0.05),
    }
    for side, sign in zip(SIDES, (1, -1), strict=True):
        bend = abs(around(rng, 0.04, 0.06))
        pose |= limb(
            side,
            "leg",
            flex=around(rng, 0.02, 0.1) + bend,
            abduct=wide + sign * shift,
            rotate=around(rng, 0.15, 0.15),
            knee=2 * bend,
        )
    return {**pose, **arms(rng)}


def arms_crossed(rng: np.random.Generator) -> Pose:
    """Standing with forearms across the chest."""
    pose = standing(rng)
    pose = {key: value for key, value in pose.items() if "arm_" not in key and "hand_" not in key}
    for side in SIDES:
        pose |= reach(
            side, "spine02", rng.uniform(-0.07, -0.03), rng.uniform(-0.12, -0.09), rng.uniform(0.0, 0.05), 0.5
        )
        pose |= limb(side, "arm", pronate=0.7, curl=0.4)
    return pose


def sitting(rng: np.random.Generator) -> Pose:
    """On a chair, a stool or the floor, legs sometimes crossed."""
    low = rng.uniform(-0.15, 0.25)
    pose: Pose = {
        "pitch": around(rng, -0.1, 0.15),
        "spine_flex": around(rng, 0.2, 0.2),
        "spine_side": around(rng, 0, 0.1),
        "spine_twist": around(rng, 0, 0.15),
        "feet_flat": 1.0,
    }
    crossed = rng.random() < 0.15
    for i, side in enumerate(SIDES):
        flex = np.pi / 2 + pose["pitch"] + low + around(rng, 0, 0.1)
        pose |= limb(
            side,
            "leg",
            flex=flex + 0.25 * (crossed and i == 0),
            abduct=around(rng, 0.15, 0.15) - 0.3 * (crossed and i == 0),
            rotate=around(rng, 0.05, 0.15),
            knee=np.clip(np.pi / 2 + low + around(rng, 0.05, 0.3), 0.3, 2.4),
            ankle=around(rng, 0, 0.1),
        )
    styles = {
        "hang": 0.2,
        "bent": 0.25,
        "forward": 0.1,
        "face": 0.1,
        "belly": 0.15,
        "front": 0.15,
        "wave": 0.05,
        "ear": 0.05,
        "free": 0.05,
    }
    return {**pose, **arms(rng, styles)}


def squatting(rng: np.random.Generator) -> Pose:
    """Knees bent, half or fully."""
    depth = rng.uniform(0.3, 1.0)
    pose: Pose = {
        "pitch": 0.15 + 0.5 * depth * rng.uniform(0.4, 1.2),
        "spine_flex": around(rng, 0.25, 0.15),
        "feet_flat": 1.0,
        "feet_level": 1.0,
        "head_flex": -0.3,
    }
    for side in SIDES:
        pose |= limb(
            side,
            "leg",
            flex=0.3 + 1.6 * depth + around(rng, 0, 0.08) + pose["pitch"] * 0.4,
            knee=0.4 + 1.8 * depth + around(rng, 0, 0.1),
            abduct=abs(around(rng, 0.25, 0.15)),
            rotate=around(rng, 0.15, 0.15),
        )
    return {**pose, **arms(rng, {"forward": 0.4, "bent": 0.2, "front": 0.2, "hang": 0.1, "free": 0.1})}


def bending(rng: np.random.Generator) -> Pose:
    """Leaning forward from the hips."""
    lean = rng.uniform(0.4, 1.4)
    pose: Pose = {
        "pitch": lean * 0.65,
        "spine_flex": lean * rng.uniform(0.3, 0.7),
        "spine_twist": around(rng, 0, 0.25),
        "spine_side": around(rng, 0, 0.15),
        "feet_flat": 1.0,
        "feet_level": 1.0,
        "head_flex": around(rng, -0.15, 0.25),
    }
    stagger = around(rng, 0, 0.25)
    for side, sign in zip(SIDES, (1, -1), strict=True):
        knee = abs(around(rng, 0.3, 0.3))
        pose |= limb(
            side,
            "leg",
            flex=lean * 0.62 + knee / 2 + sign * stagger,
            knee=knee,
            abduct=abs(around(rng, 0.12, 0.1)),
            rotate=around(rng, 0.1, 0.15),
        )
    return {**pose, **arms(rng, {"forward": 0.45, "hang": 0.2, "bent": 0.15, "front": 0.1, "free": 0.1})}


def kneeling(rng: np.random.Generator) -> Pose:
    """On one knee or both."""
    upright = rng.uniform(-0.1, 0.9)
    pose: Pose = {
        "pitch": around(rng, 0.1, 0.15),
        "spine_flex": around(rng, 0.15, 0.2),
        "spine_twist": around(rng, 0, 0.2),
    }
    one = rng.random() < 0.5
    for i, side in enumerate(SIDES):
        if one and i == 0:
            pose |= limb(
                side,
                "leg",
                flex=1.5 + around(rng, 0, 0.12),
                knee=1.5 + around(rng, 0, 0.15),
                abduct=around(rng, 0.15, 0.1),
                rotate=around(rng, 0.1, 0.1),
            )
        else:
            pose |= limb(
                side,
                "leg",
                flex=(0.05 if one else upright) + pose["pitch"],
                knee=1.6 + (0 if one else upright * 0.8),
                ankle=0.7,
                abduct=around(rng, 0.1, 0.08),
            )
    return {**pose, **arms(rng, {"forward": 0.3, "bent": 0.2, "hang": 0.15, "front": 0.2, "free": 0.15})}


def lunging(rng: np.random.Generator) -> Pose:
    """One leg far in front."""
    depth = rng.uniform(0.2, 1.1)
    pose: Pose = {
        "pitch": around(rng, 0.15, 0.2),
        "spine_flex": around(rng, 0.1, 0.15),
        "spine_side": around(rng, 0, 0.15),
        "spine_twist": around(rng, 0, 0.25),
        "roll": around(rng, 0, 0.08),
    }
    pose |= limb(
        "left",
        "leg",
        flex=0.3 + 0.9 * depth,
        knee=0.3 + 1.0 * depth,
        abduct=around(rng, 0.1, 0.15),
        rotate=around(rng, 0.1, 0.15),
    )
    pose |= limb(
        "right",
        "leg",
        flex=-0.25 * depth,
        knee=0.2 + 0.6 * depth * rng.random(),
        ankle=0.1,
        toes=0.6,
        abduct=around(rng, 0.1, 0.1),
    )
    return {**pose, "feet_flat": 0.6, **arms(rng)}


def lying(rng: np.random.Generator) -> Pose:
    """On the back, the belly or a side."""
    pose: Pose = {
        "pitch": rng.choice([-1.57, 1.57]) + around(rng, 0, 0.06),
        "roll": 0.0 if rng.random() < 0.7 else around(rng, 0, 1.0),
        "spine_flex": around(rng, 0.05, 0.15),
        "spine_side": around(rng, 0, 0.12),
    }
    for side in SIDES:
        bent = rng.random() < 0.35
        pose |= limb(
            side,
            "leg",
            flex=around(rng, 0.05, 0.1) + 0.7 * bent,
            knee=abs(around(rng, 0.1, 0.15)) + 1.3 * bent,
            ankle=0.4,
            abduct=around(rng, 0.15, 0.12),
            rotate=around(rng, 0.25, 0.2),
        )
    return {**pose, **arms(rng, {"hang": 0.4, "side": 0.3, "up": 0.15, "bent": 0.15})}


def crawling(rng: np.random.Generator) -> Pose:
    """On hands and knees."""
    pose: Pose = {"pitch": 1.3 + around(rng, 0, 0.1), "spine_flex": around(rng, 0.1, 0.12), "head_flex": -0.6}
    for side, sign in zip(SIDES, (1, -1), strict=True):
        stride = rng.uniform(-0.3, 0.3) * sign
        pose |= limb(
            side, "leg", flex=1.35 + stride, knee=1.45 - stride * 0.3, ankle=0.7, abduct=around(rng, 0.08, 0.05)
        )
        pose |= limb(
            side,
            "arm",
            flex=1.4 - stride,
            abduct=around(rng, 0.12, 0.08),
            elbow=abs(around(rng, 0.15, 0.1)),
            wrist_flex=-0.9,
            pronate=1.0,
        )
    return pose
