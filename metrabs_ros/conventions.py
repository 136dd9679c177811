"""Other skeletons than the engine's own: joints of COCO, Human3.6M, SMPL or ROS4HRI, derived from its joints by name.

A joint is the engine's own of that name, or a fixed combination of its joints with weights >= 0 that add up to 1: it
lies between joints that were seen, never beyond them. Where that cannot be had the converted skeleton lacks the joint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrabs_ros.errors import InputError
from metrabs_ros.skeleton import Skeleton

Floats = NDArray[np.float64]
# Weights of points and of the engine's joints. A joint's ways to be had stand in a tuple, the best first.
Recipe = Mapping[str, float]
Recipes = Mapping[str, tuple[Recipe, ...]]

ENGINE = "engine"

# Figures in mm are root mean square errors over poses of synthetic bodies of all ages (tests/test_conventions.py).
_POINTS: Recipes = {
    "middle_of_hips": ({"left_hip": 0.5, "right_hip": 0.5},),
    "middle_of_shoulders": ({"left_shoulder": 0.5, "right_shoulder": 0.5},),
    "middle_of_ears": ({"left_ear": 0.5, "right_ear": 0.5},),
    "root": ({"pelvis": 1.0}, {"middle_of_hips": 1.0}),
    # Where the neck leaves the trunk, above the line of the shoulders: 31 mm.
    "neck_base": ({"neck": 1.0}, {"middle_of_shoulders": 0.6, "middle_of_ears": 0.4}),
    # Human3.6M's lengths from hips to spine and from spine to neck, 233 and 257 mm; a bent back strays by 48 mm.
    "mid_spine": ({"spine": 1.0}, {"root": 0.53, "neck_base": 0.47}),
    # Where SMPL's rest pose has spine3.
    "chest": ({"spine3": 1.0}, {"mid_spine": 0.75, "neck_base": 0.25}),
}


@dataclass(frozen=True)
class Convention:
    """A published skeleton: its joints in order, its bones, and the joints that are not simply the engine's own."""

    joints: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]
    recipes: Recipes


_FACE = (("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"), ("right_eye", "right_ear"))
_LIMBS = tuple(
    (f"{side}_{upper}", f"{side}_{lower}")
    for side in ("left", "right")
    for upper, lower in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
)

# Order and bones of the COCO keypoint challenge.
_COCO_17 = Convention(
    (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    (
        *_FACE, ("left_eye", "right_eye"), ("left_ear", "left_shoulder"), ("right_ear", "right_shoulder"),
        ("left_shoulder", "right_shoulder"), ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
        ("left_hip", "right_hip"), *_LIMBS,
    ),
    {},
)  # fmt: skip

# The 17 joints in which Human3.6M is evaluated. Its neck (Thorax) lies above the line of the shoulders like neck_base;
# its head (Neck/Nose) lies 121 mm from there, on the way to the nose, which a person of 1.7 m has at 189 mm.
_H36M_17 = Convention(
    (
        "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "neck",
        "head", "head_top", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow",
        "right_wrist",
    ),
    (
        ("pelvis", "left_hip"), ("pelvis", "right_hip"), ("pelvis", "spine"), ("spine", "neck"), ("neck", "head"),
        ("head", "head_top"), ("neck", "left_shoulder"), ("neck", "right_shoulder"), *_LIMBS,
    ),
    {
        "pelvis": ({"root": 1.0},),
        "spine": ({"mid_spine": 1.0},),
        "neck": ({"neck_base": 1.0},),
        "head": ({"head": 1.0}, {"nose": 0.64, "neck_base": 0.36}),
    },
)  # fmt: skip

# SMPL's 24 joints. The trunk's lie where they do along the lines from hips to mid-spine to neck, and from these to the
# shoulders, in the body model's rest pose; the head's turning point at its rest length towards the ears; left_foot is
# the ball of the foot (23 mm), left_hand the knuckles (3 mm).
_SMPL_24 = Convention(
    (
        "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
        "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
        "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
    ),
    (
        ("pelvis", "left_hip"), ("pelvis", "right_hip"), ("pelvis", "spine1"), ("spine1", "spine2"),
        ("spine2", "spine3"), ("spine3", "neck"), ("neck", "head"), ("spine3", "left_collar"),
        ("spine3", "right_collar"), ("left_collar", "left_shoulder"), ("right_collar", "right_shoulder"), *_LIMBS,
        ("left_wrist", "left_hand"), ("right_wrist", "right_hand"), ("left_ankle", "left_foot"),
        ("right_ankle", "right_foot"),
    ),
    {
        "pelvis": ({"root": 1.0},),
        "spine1": ({"spine1": 1.0}, {"root": 0.51, "mid_spine": 0.49}),
        "spine2": ({"spine2": 1.0}, {"mid_spine": 0.93, "neck_base": 0.07}),
        "spine3": ({"chest": 1.0},),
        "neck": ({"neck_base": 1.0},),
        "head": ({"head": 1.0}, {"middle_of_ears": 0.62, "neck_base": 0.38}),
    }
    | {
        f"{side}_{joint}": recipes
        for side in ("left", "right")
        for joint, recipes in {
            "collar": (
                {f"{side}_collar": 1.0},
                {f"{side}_shoulder": 0.46, "neck_base": 0.24, "chest": 0.3},
            ),
            "hand": ({f"{side}_hand": 1.0}, {f"{side}_index": 0.5, f"{side}_pinky": 0.5}),
            "foot": ({f"{side}_foot": 0.75, f"{side}_heel": 0.25}, {f"{side}_foot": 1.0}),
        }.items()
    },
)  # fmt: skip

# REP-155's skeleton2d, whose hri_msgs/Skeleton2D takes order and places from OpenPose's COCO model: the neck is the
# middle of the shoulders.
_ROS4HRI = Convention(
    (
        "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
        "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "left_eye", "right_eye",
        "left_ear", "right_ear",
    ),
    (
        *_FACE, ("neck", "nose"), ("neck", "left_shoulder"), ("neck", "right_shoulder"), ("neck", "left_hip"),
        ("neck", "right_hip"), *_LIMBS,
    ),
    {"neck": ({"middle_of_shoulders": 1.0},)},
)  # fmt: skip

_CONVENTIONS = {"coco_17": _COCO_17, "h36m_17": _H36M_17, "smpl_24": _SMPL_24, "ros4hri": _ROS4HRI}
CONVENTIONS = (ENGINE, *_CONVENTIONS)


@dataclass(frozen=True, eq=False)
class Conversion:
    """From one skeleton's joints to another's: ``skeleton`` the one converted to, ``matrix`` [J_out,J_in] weights."""

    skeleton: Skeleton
    matrix: Floats

    def joints(self, joints: ArrayLike) -> Floats:
        """[...,J_in,C] m -> [...,J_out,C] m; NaN where a joint that is needed is NaN.

        Combinations are of places in space: pixels of a combined joint are the projection of what comes out of here.
        """
        joints = np.asarray(joints, np.float64)
        lacking = np.isnan(joints)
        combined = self.matrix @ np.where(lacking, 0.0, joints)
        return np.where((self.matrix > 0).astype(np.float64) @ lacking > 0, np.nan, combined)

    def uncertainty(self, uncertainty: ArrayLike) -> Floats:
        """[...,J_in] m -> [...,J_out] m, NaN where one that is needed is unknown.

        The weighted mean: what a combination has where its joints err alike, as those of one person at a wrong distance
        do, and an upper bound otherwise (Minkowski's inequality); two independent ones would have 0.7 of it.
        """
        return self.joints(np.asarray(uncertainty, np.float64)[..., None])[..., 0]


def conversion(skeleton: Skeleton, convention: str) -> Conversion:
    """How joints of an engine's skeleton become those of a convention.

    ``engine`` keeps them. Joints that cannot be derived are left out, with their bones; the rest keep the convention's
    order. Raises InputError for an unknown convention, and where none of its joints can be derived.
    """
    if convention == ENGINE:
        return Conversion(skeleton, np.eye(len(skeleton.joint_names)))
    if convention not in _CONVENTIONS:
        raise InputError(f"The skeleton convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}.")
    wanted = _CONVENTIONS[convention]
    found = {name: _weights(wanted.recipes.get(name, ({name: 1.0},)), skeleton) for name in wanted.joints}
    rows = {name: weights for name, weights in found.items() if weights is not None}
    if not rows:
        raise InputError(
            f"No joint of the skeleton convention {convention} can be derived from the engine's joints "
            f"({', '.join(skeleton.joint_names)}): use the convention {ENGINE}."
        )
    edges = [edge for edge in wanted.edges if all(end in rows for end in edge)]
    return Conversion(Skeleton.from_names(tuple(rows), edges), np.stack(list(rows.values())))


def _weights(recipes: Sequence[Recipe], skeleton: Skeleton) -> Floats | None:
    """[J_in] weights by the first recipe of which the skeleton has everything; None where there is none."""
    for recipe in recipes:
        sources = [
            _weights(_POINTS[name], skeleton) if name in _POINTS else skeleton.mean_of([name]) for name in recipe
        ]
        known = [source for source in sources if source is not None]
        if len(known) == len(sources):
            return np.asarray(np.tensordot(list(recipe.values()), known, 1))
    return None
