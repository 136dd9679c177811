"""Moments of movements: gaits by phase, and actions."""

from __future__ import annotations

import numpy as np

from training.synthetic.arm_poses import SIDES, Pose, arm, arms, around, limb, reach
from training.synthetic.stances import bending, lunging, standing


def gait(rng: np.random.Generator, speed: float) -> Pose:
    """A moment of walking (speed 0.3..1) or running (..2): phase-locked hips, knees, ankles and swinging arms."""
    phase = rng.uniform(0, 2 * np.pi)
    stride = 0.22 + 0.3 * speed
    run = max(0.0, speed - 1)
    pose: Pose = {
        "pitch": 0.03 + 0.1 * run + around(rng, 0, 0.04),
        "spine_flex": 0.05 + 0.12 * run,
        "spine_twist": 0.14 * speed * np.sin(phase),
        "roll": 0.03 * np.cos(phase),
        "feet_flat": 0.75 * (speed <= 1),
    }
    elbow = 0.25 + 0.2 * speed + 1.0 * min(1.0, run * 2)
    for side, offset in zip(SIDES, (0, np.pi), strict=True):
        a = phase + offset
        swing = max(0.0, np.cos(a))  # forward swing of the leg
        hip = stride * np.sin(a) + 0.1 + 0.25 * run * swing
        knee = 0.1 + (0.75 + 0.75 * run) * swing**1.5 + 0.15 * max(0.0, np.sin(a)) + 0.25 * run
        ankle = -0.1 * np.sin(a) + 0.3 * max(0.0, -np.sin(a)) * speed + 0.25 * swing
        pose |= limb(
            side,
            "leg",
            flex=hip,
            knee=knee,
            ankle=ankle,
            abduct=around(rng, 0.03, 0.03),
            rotate=around(rng, 0.08, 0.08),
            toes=0.5 * max(0.0, -np.sin(a)),
        )
        pose |= limb(
            side,
            "arm",
            flex=-0.8 * stride * np.sin(a) * rng.uniform(0.5, 1.3) + 0.05,
            abduct=abs(around(rng, 0.12, 0.07)),
            rotate=around(rng, 0.15, 0.15),
            elbow=abs(elbow + around(rng, 0, 0.15)),
            pronate=around(rng, 0.2, 0.3),
            curl=rng.uniform(0.2, 1.0),
        )
    if rng.random() < 0.25 and speed <= 1:
        side = str(rng.choice(SIDES))
        style = str(rng.choice(["bent", "ear", "wave", "front", "pocket", "forward"]))
        pose = {key: value for key, value in pose.items() if not key.startswith((f"{side}_arm", f"{side}_hand"))}
        pose |= arm(rng, side, style)
    return pose


def walking(rng: np.random.Generator) -> Pose:
    """A moment of walking."""
    return gait(rng, rng.uniform(0.3, 1.0))


def running(rng: np.random.Generator) -> Pose:
    """A moment of running."""
    return gait(rng, rng.uniform(1.1, 2.0))


def stumbling(rng: np.random.Generator) -> Pose:
    """Off balance, arms searching for it."""
    lean = around(rng, 0.3, 0.35)
    pose: Pose = {
        "pitch": lean,
        "roll": around(rng, 0, 0.25),
        "spine_flex": around(rng, 0.15, 0.25),
        "spine_side": around(rng, 0, 0.25),
        "spine_twist": around(rng, 0, 0.25),
        "head_flex": -0.4 * lean,
    }
    for side, sign in zip(SIDES, (1, -1), strict=True):
        pose |= limb(
            side,
            "leg",
            flex=sign * rng.uniform(0.1, 0.9) + lean * 0.5,
            knee=abs(around(rng, 0.5, 0.45)),
            abduct=around(rng, 0.15, 0.2),
            rotate=around(rng, 0.1, 0.2),
            ankle=around(rng, 0, 0.2),
        )
    return {**pose, **arms(rng, {"free": 0.4, "side": 0.3, "forward": 0.2, "bent": 0.1})}


def jumping(rng: np.random.Generator) -> Pose:
    """In the air, legs stretched or tucked."""
    tuck = rng.random() ** 2
    pose: Pose = {"pitch": around(rng, 0.05, 0.15), "spine_flex": around(rng, 0, 0.2), "roll": around(rng, 0, 0.1)}
    for side in SIDES:
        pose |= limb(
            side,
            "leg",
            flex=1.4 * tuck + around(rng, 0.05, 0.2),
            knee=abs(1.8 * tuck + around(rng, 0.25, 0.3)),
            ankle=0.5,
            abduct=around(rng, 0.15, 0.2),
        )
    return {**pose, **arms(rng, {"up": 0.4, "side": 0.25, "free": 0.2, "bent": 0.15})}


def dancing(rng: np.random.Generator) -> Pose:
    """Hips, spine and arms in free combination."""
    pose: Pose = {
        "pitch": around(rng, 0, 0.15),
        "roll": around(rng, 0, 0.15),
        "spine_flex": around(rng, 0, 0.2),
        "spine_side": around(rng, 0, 0.2),
        "spine_twist": around(rng, 0, 0.35),
        "feet_flat": 0.5,
    }
    for side in SIDES:
        lift = rng.random() < 0.3
        pose |= limb(
            side,
            "leg",
            flex=around(rng, 0.2, 0.25) + 0.7 * lift,
            knee=abs(around(rng, 0.35, 0.3)) + 0.8 * lift,
            abduct=around(rng, 0.15, 0.18),
            rotate=around(rng, 0.15, 0.3),
            ankle=around(rng, 0.1, 0.2),
        )
    return {**pose, **arms(rng, {"free": 0.35, "up": 0.2, "side": 0.2, "wave": 0.1, "hip": 0.15})}


def carrying(rng: np.random.Generator) -> Pose:
    """Both hands on something in front of the chest."""
    pose = gait(rng, rng.uniform(0.3, 0.8)) if rng.random() < 0.5 else standing(rng)
    pose = {key: value for key, value in pose.items() if "arm_" not in key and "hand_" not in key}
    width, forward, height = rng.uniform(0.06, 0.14), rng.uniform(-0.24, -0.15), rng.uniform(-0.1, 0.05)
    for side in SIDES:
        pose |= reach(side, "spine02", width, forward, height, rng.uniform(0.2, 0.9)) | limb(
            side, "arm", pronate=-0.2, curl=0.5
        )
    pose["spine_flex"] = -0.1
    return pose


def kicking(rng: np.random.Generator) -> Pose:
    """One leg swung forward."""
    pose = standing(rng) | {"feet_level": 0.0, "pitch": -0.15, "spine_flex": 0.3}
    return (
        pose
        | limb("left", "leg", flex=rng.uniform(0.6, 1.6), knee=rng.uniform(0.0, 1.2), ankle=0.4)
        | arms(rng, {"side": 0.6, "free": 0.4})
    )


def throwing(rng: np.random.Generator) -> Pose:
    """One arm drawn back or over the head."""
    pose = lunging(rng) | {"spine_twist": rng.uniform(-0.6, 0.6), "spine_flex": rng.uniform(-0.2, 0.3)}
    pose = {key: value for key, value in pose.items() if "hand_" not in key}
    return (
        pose
        | limb(
            "right",
            "arm",
            flex=rng.uniform(0.0, 1.0),
            abduct=rng.uniform(1.0, 1.9),
            rotate=rng.uniform(-1.3, 0.3),
            elbow=rng.uniform(0.3, 1.9),
        )
        | arm(rng, "left", str(rng.choice(["forward", "side", "bent"])))
    )


def swinging(rng: np.random.Generator) -> Pose:
    """Both hands on a club or broom."""
    pose = bending(rng) | {"pitch": rng.uniform(0.1, 0.4), "spine_flex": 0.2, "spine_twist": rng.uniform(-0.6, 0.6)}
    pose = {key: value for key, value in pose.items() if "arm_" not in key and "hand_" not in key}
    x, y, z = rng.uniform(-0.1, 0.1), rng.uniform(-0.25, -0.15), rng.uniform(-0.15, 0.12)
    return pose | reach("left", "spine02", x, y, z, 0.5) | reach("right", "spine02", -x, y, z - 0.04, 0.5)
