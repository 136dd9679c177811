"""What arms do: habits by name, and hands put to places on the body."""

from __future__ import annotations

import functools

import numpy as np

from training.synthetic.angles import ANCHORS

# Angles by name, rad: entries of kinematics.ANGLES.
Pose = dict[str, float]
SIDES = ("left", "right")


def around(rng: np.random.Generator, mean: float, std: float) -> float:
    """A normally distributed number."""
    return float(rng.normal(mean, std))


def reach(side: str, anchor: str, x: float, y: float, z: float, swivel: float) -> Pose:
    """A wrist put at (x outwards, y backward, z up) of the body's height from the anchor bone's head."""
    return {
        f"{side}_hand_reach": 1.0,
        f"{side}_hand_anchor": float(ANCHORS.index(anchor)),
        f"{side}_hand_x": x,
        f"{side}_hand_y": y,
        f"{side}_hand_z": z,
        f"{side}_hand_swivel": swivel,
    }


def arm(rng: np.random.Generator, side: str, style: str) -> Pose:
    """One arm's habits."""
    n = functools.partial(around, rng)
    u = rng.uniform
    if style == "hang":
        return limb(
            side,
            "arm",
            flex=n(0, 0.15),
            abduct=abs(n(0.13, 0.1)),
            rotate=n(0.1, 0.25),
            elbow=abs(n(0.25, 0.2)),
            pronate=n(0.3, 0.4),
            curl=u(0.1, 0.7),
        )
    if style == "bent":
        return limb(
            side,
            "arm",
            flex=n(0.2, 0.3),
            abduct=abs(n(0.2, 0.2)),
            rotate=n(0.4, 0.4),
            elbow=n(1.6, 0.3),
            pronate=n(0.2, 0.6),
            curl=u(0, 1.2),
        )
    if style == "forward":
        return limb(
            side,
            "arm",
            flex=u(0.6, 1.8),
            abduct=n(0.1, 0.3),
            rotate=n(0, 0.4),
            elbow=abs(n(0.4, 0.4)),
            pronate=n(0, 0.7),
            curl=u(0, 1),
        )
    if style == "side":
        return limb(
            side,
            "arm",
            flex=n(0.1, 0.3),
            abduct=u(0.6, 1.8),
            rotate=n(0, 0.5),
            elbow=abs(n(0.4, 0.5)),
            pronate=n(0.3, 0.7),
            curl=u(0, 0.8),
        )
    if style == "up":
        return limb(
            side,
            "arm",
            flex=u(1.8, 2.9),
            abduct=n(0.2, 0.3),
            rotate=n(0, 0.4),
            elbow=abs(n(0.5, 0.5)),
            pronate=n(0, 0.7),
            curl=u(0, 1),
        )
    if style == "wave":
        return limb(
            side,
            "arm",
            flex=u(0.2, 1.0),
            abduct=u(0.7, 1.5),
            rotate=u(-1.4, -0.7),
            elbow=u(0.9, 2.1),
            pronate=n(0.2, 0.5),
            curl=u(0, 0.3),
            wrist_side=n(0, 0.2),
        )
    if style == "free":
        return limb(
            side,
            "arm",
            flex=u(-0.7, 2.7),
            abduct=u(-0.2, 2.0),
            rotate=u(-1.1, 1.1),
            elbow=u(0.05, 2.2),
            pronate=u(-1.2, 1.2),
            curl=u(0, 1.3),
            wrist_flex=u(-0.6, 0.8),
        )
    spots = {
        "hip": ("root", (u(0.085, 0.105), u(-0.04, 0.04), u(0.05, 0.1)), u(0.9, 1.5)),
        "face": ("head", (u(-0.01, 0.05), u(-0.12, -0.085), u(-0.05, 0.03)), u(0.3, 1.2)),
        "ear": ("head", (u(0.06, 0.09), u(-0.06, 0.0), u(0.0, 0.04)), u(0.6, 1.4)),
        "head": ("head", (u(0.0, 0.07), u(-0.05, 0.05), u(0.1, 0.15)), u(0.9, 1.6)),
        "chest": ("spine02", (u(-0.06, 0.06), u(-0.17, -0.1), u(-0.02, 0.1)), u(0.2, 1.0)),
        "belly": ("root", (u(-0.05, 0.05), u(-0.16, -0.11), u(0.03, 0.12)), u(0.3, 1.0)),
        "pocket": ("root", (u(0.08, 0.1), u(-0.06, -0.01), u(-0.02, 0.03)), u(0.4, 0.9)),
        "back": ("root", (u(-0.02, 0.05), u(0.08, 0.12), u(0.03, 0.15)), u(0.5, 1.0)),
        "front": ("spine02", (u(-0.05, 0.1), u(-0.3, -0.18), u(-0.1, 0.15)), u(0.2, 1.0)),
    }
    anchor, (x, y, z), swivel = spots[style]
    return {
        **reach(side, anchor, x, y, z, swivel),
        **limb(side, "arm", pronate=n(0.2, 0.6), curl=u(0.1, 1.1), wrist_flex=n(0.1, 0.3)),
    }


def limb(side: str, which: str, **values: float) -> Pose:
    """Angles of an ``arm`` or ``leg``."""
    return {f"{side}_{which}_{name}": value for name, value in values.items()}


ARM_STYLES = {
    "hang": 0.36,
    "bent": 0.12,
    "forward": 0.08,
    "side": 0.06,
    "up": 0.05,
    "wave": 0.05,
    "free": 0.06,
    "hip": 0.06,
    "face": 0.04,
    "ear": 0.04,
    "head": 0.02,
    "chest": 0.02,
    "belly": 0.02,
    "pocket": 0.04,
    "back": 0.02,
    "front": 0.04,
}


def arms(rng: np.random.Generator, styles: dict[str, float] | None = None) -> Pose:
    """Both arms, alike a third of the time."""
    styles = styles or ARM_STYLES
    names, odds = list(styles), np.array(list(styles.values()))
    pick = [str(rng.choice(names, p=odds / odds.sum())) for _ in range(2)]
    if rng.random() < 0.35:
        pick[1] = pick[0]
    return {**arm(rng, "left", pick[0]), **arm(rng, "right", pick[1])}
