"""The names and order of a pose's angles."""

from __future__ import annotations

_ARM = ("flex", "abduct", "rotate", "elbow", "pronate", "wrist_flex", "wrist_side", "curl")
_LEG = ("flex", "abduct", "rotate", "knee", "ankle", "toes")
_REACH = ("reach", "anchor", "x", "y", "z", "swivel")
ANGLES: tuple[str, ...] = (
    ("pitch", "roll", "spine_flex", "spine_side", "spine_twist", "head_flex", "head_side", "head_twist")
    + tuple(f"{side}_arm_{name}" for side in ("left", "right") for name in _ARM)
    + tuple(f"{side}_leg_{name}" for side in ("left", "right") for name in _LEG)
    + tuple(f"{side}_hand_{name}" for side in ("left", "right") for name in _REACH)
    + ("feet_flat", "feet_level")
)
INDEX = {name: i for i, name in enumerate(ANGLES)}
# Bones in whose frames hands can be put somewhere, by the number in ``*_hand_anchor``.
ANCHORS = (
    "head",
    "spine02",
    "root",
    "upperleg02.L",
    "upperleg02.R",
    "lowerarm01.L",
    "lowerarm01.R",
    "lowerleg01.L",
    "lowerleg01.R",
)
