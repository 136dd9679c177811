"""The points of a body that its kinematic model needs, found by name in whatever joints an engine gives."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrabs_ros.errors import InputError

Floats = NDArray[np.float64]

SIDES = ("left", "right")
_PAIRS = ("hip", "knee", "ankle", "foot", "shoulder", "elbow", "wrist", "ear", "eye")
_JOINTS = (*(f"{side}_{name}" for name in _PAIRS for side in SIDES), "pelvis", "chest", "neck", "spine", "nose")


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Points of N people, m, any one frame; NaN where a point is not known.

    Both sides, left first: hips, knees, ankles, feet, shoulders, elbows, wrists, ears, eyes [N,2,3]. In the middle:
    pelvis (between the hips), chest (between the shoulders), neck, spine, nose [N,3]. All are views of points [N,K,3].
    """

    points: Floats
    hips: Floats
    knees: Floats
    ankles: Floats
    feet: Floats
    shoulders: Floats
    elbows: Floats
    wrists: Floats
    ears: Floats
    eyes: Floats
    pelvis: Floats
    chest: Floats
    neck: Floats
    spine: Floats
    nose: Floats

    @classmethod
    def from_joints(cls, joints3d: ArrayLike, joint_names: Sequence[str]) -> Landmarks:
        """joints3d [N,J,3] m, joints named 'left_wrist' style: the default model's 27, BlazePose's 33, COCO's 17.

        Absent joints and ones with a coordinate that is no number count as unknown; the pelvis between unknown
        hips is the skeleton's own, and a hip that is missing lies opposite the other one. Raises InputError where
        shapes and names do not fit.
        """
        at = _places(tuple(joint_names))
        points = _checked(joints3d, joint_names)[:, at]
        points[:, at < 0] = np.nan
        found = cls._of(points)
        found.chest[:] = found.shoulders.mean(1)
        found.pelvis[:] = _first_known(found.hips.mean(1), found.pelvis)
        found.hips[:] = _first_known(found.hips, 2 * found.pelvis[:, None] - found.hips[:, ::-1])
        return found

    def in_frame(self, R: Floats, t: Floats) -> Landmarks:
        """In the axes R [N,3,3], seen from t [N,3]: R^T (p - t)."""
        return self._of((self.points - t[:, None]) @ R)

    @classmethod
    def _of(cls, points: Floats) -> Landmarks:
        """points [N,len(_JOINTS),3]"""
        pairs = 2 * len(_PAIRS)
        views = [points[:, k : k + 2] for k in range(0, pairs, 2)]
        return cls(points, *views, *(points[:, k] for k in range(pairs, len(_JOINTS))))


@functools.lru_cache(maxsize=16)
def _places(joint_names: tuple[str, ...]) -> NDArray[np.intp]:
    """Where each of _JOINTS is among others, -1 where it is not."""
    index = {name: i for i, name in enumerate(joint_names)}
    return np.array([index.get(name, -1) for name in _JOINTS], np.intp)


def _first_known(*choices: Floats) -> Floats:
    """Per point [...,3] the first of the choices that is known."""
    found = choices[0]
    for choice in choices[1:]:
        found = np.where(np.isfinite(found).all(-1, keepdims=True), found, choice)
    return found


def _checked(joints3d: ArrayLike, joint_names: Sequence[str]) -> Floats:
    points = np.array(joints3d, np.float64)
    if points.ndim != 3 or points.shape[1:] != (len(joint_names), 3):
        raise InputError(
            f"Joints must be an array of people x {len(joint_names)} joints x 3 coordinates for the {len(joint_names)} "
            f"joint names given, but have the shape {points.shape}."
        )
    points[~np.isfinite(points).all(-1)] = np.nan
    return points
