"""The points of a body that its kinematic model needs, found by name in whatever joints an engine gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrabs_ros.errors import InputError

Floats = NDArray[np.float64]

SIDES = ("left", "right")


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Points of N people, m, any one frame; NaN where a point is not known.

    Both sides, left first: hips, knees, ankles, feet, shoulders, elbows, wrists, ears, eyes [N,2,3]. In the middle:
    pelvis (between the hips), chest (between the shoulders), neck, spine, nose [N,3].
    """

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
        points = _checked(joints3d, joint_names)
        index = {name: i for i, name in enumerate(joint_names)}
        unknown = np.full((len(points), 3), np.nan)

        def middle(name: str) -> Floats:
            return points[:, index[name]] if name in index else unknown

        def both(name: str) -> Floats:
            return np.stack([middle(f"{side}_{name}") for side in SIDES], 1)

        hips, shoulders = both("hip"), both("shoulder")
        pelvis = _first_known(hips.mean(1), middle("pelvis"))
        opposite = 2 * pelvis[:, None] - hips[:, ::-1]
        return cls(
            hips=_first_known(hips, opposite),
            knees=both("knee"),
            ankles=both("ankle"),
            feet=both("foot"),
            shoulders=shoulders,
            elbows=both("elbow"),
            wrists=both("wrist"),
            ears=both("ear"),
            eyes=both("eye"),
            pelvis=pelvis,
            chest=shoulders.mean(1),
            neck=middle("neck"),
            spine=middle("spine"),
            nose=middle("nose"),
        )


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
