"""Lengths of bones in poses, and how steady they are: a person's do not change, whatever the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

_BONES = (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"), ("shoulder", "hip"))
_SIDES = ("left", "right")


def along(poses: Floats, chain: Sequence[str], joints: Sequence[str]) -> Floats:
    """[N] m: the length of a chain of joints, mean of both sides of the body, in poses [N,J,3] of these ``joints``."""
    sides = []
    for side in _SIDES:
        points = poses[:, [list(joints).index(f"{side}_{name}") for name in chain]]
        sides.append(np.linalg.norm(np.diff(points, axis=1), axis=-1).sum(1))
    return np.mean(sides, axis=0)


def lengths(poses: Floats, joints: Sequence[str]) -> Floats:
    """[N,B] m: limbs and trunk, mean of both sides of the body."""
    return np.stack([along(poses, bone, joints) for bone in _BONES], 1)


def spread(poses: Floats, people: NDArray[np.integer], joints: Sequence[str]) -> float:
    """Mean over people and bones of the standard deviation of a bone's length over its mean. people [N]: whose pose it
    is; NaN where nobody has two."""
    every = lengths(poses, joints)
    own = [every[people == person] for person in np.unique(people)]
    found = [(bones.std(0) / bones.mean(0)).mean() for bones in own if len(bones) > 1]
    return float(np.mean(found)) if found else float("nan")
