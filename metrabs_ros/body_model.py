"""The REP-155 (ROS4HRI) kinematic model of a body: its links and joints, their axes and limits, forward kinematics.

What REP-155, "Kinematic Model of the Human", and the reference package `human_description` (urdf/human-tpl.xacro)
define, each name followed by `_<body id>`:

- Links: body, waist, torso; r_head, y_head, p_head, head; and for both sides S in (l, r) S_y_shoulder, S_p_shoulder,
  S_shoulder, S_elbow, S_wrist, S_y_hip, S_p_hip, S_hip, S_knee, S_ankle.
- Revolute joints: waist; r_head, y_head, p_head; S_y_shoulder, S_p_shoulder, S_r_shoulder, S_elbow, S_y_hip, S_p_hip,
  S_r_hip, S_knee. Fixed joints: torso, head, S_wrist, S_ankle. A joint has its child link's name, except S_r_shoulder
  and S_r_hip, whose children are S_shoulder and S_hip.
- Frames: x forward, y left, z towards the head, with all angles zero parallel to each other in a person who stands
  upright with hanging arms. body lies at the hips' midpoint, torso between the shoulders, a limb's link at the joint
  it is named after. head looks along x from between the eyes, so that it agrees with REP-155's face_<id>.

Names, tree, axes and signs here are theirs. Two things differ, on purpose:

- Limits. The reference's do not let a person sit (hips -0.4..0.7 rad) and its hip yaw, whose axis is the same on both
  sides, has a range for the left leg only. Here they are ranges of motion of healthy adults with some slack.
- Five more joints, which REP-155 lacks: y_waist and r_waist (between body and waist) let the shoulders turn against
  and lean sideways over the hips; l_clavicle and r_clavicle (between torso and S_y_shoulder, prismatic along the
  torso's z) let each shoulder rise; neck (between torso and r_head, prismatic along the torso's x) lets the head come
  forward. Prismatic, because then all of REP-155's angles keep their meaning for a consumer that knows only those.
  Over 840 poses of training/synthetic 95 % of the joints return to within 9 mm of where they were with them, and to
  within 63 mm without. `reference_joints` leaves the five out.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from metrabs_ros.segment_lengths import SEGMENTS

Floats = NDArray[np.float64]
Axis = tuple[float, float, float]
# Where a joint sits in its parent link: per axis the segments whose length counts, and how often.
Offsets = tuple[tuple[int, str, float], ...]

EXTRA_JOINTS = ("y_waist", "r_waist", "neck", "l_clavicle", "r_clavicle")


@dataclass(frozen=True)
class Joint:
    """One joint of the tree, names without the body's id. axis is a unit vector in the parent's axes; lower and upper
    rad (prismatic: m); kind "revolute", "prismatic" or "fixed"; origin: see Offsets."""

    name: str
    parent: str
    child: str
    kind: str
    axis: Axis
    lower: float
    upper: float
    origin: Offsets

    @property
    def moves(self) -> bool:
        return self.kind != "fixed"


def _revolute(
    name: str, parent: str, axis: Axis, lower: float, upper: float, origin: Offsets = (), child: str = ""
) -> Joint:
    return Joint(name, parent, child or name, "revolute", axis, lower, upper, origin)


def _fixed(name: str, parent: str, origin: Offsets) -> Joint:
    return Joint(name, parent, name, "fixed", (1.0, 0.0, 0.0), 0.0, 0.0, origin)


def _trunk(extra: bool) -> list[Joint]:
    spine = [
        _revolute("y_waist", "body", (0, 0, 1), -1.0, 1.0),
        _revolute("r_waist", "y_waist", (1, 0, 0), -0.7, 0.7),
    ]
    neck: Offsets = ((2, "neck", 1.0),)
    return [
        *(spine if extra else []),
        _revolute("waist", "r_waist" if extra else "body", (0, 1, 0), -0.6, 1.3),
        _fixed("torso", "waist", ((2, "torso", 1.0),)),
        *([Joint("neck", "torso", "neck", "prismatic", (1, 0, 0), -0.15, 0.15, neck)] if extra else []),
        _revolute("r_head", *(("neck", (1, 0, 0), -1.0, 1.0) if extra else ("torso", (1, 0, 0), -1.0, 1.0, neck))),
        _revolute("y_head", "r_head", (0, 0, 1), -1.55, 1.55),
        _revolute("p_head", "y_head", (0, -1, 0), -1.5, 1.5),
        _fixed("head", "p_head", ((0, "head_forward", 1.0), (2, "head_up", 1.0))),
    ]


def _arm(side: str, mirror: int, extra: bool) -> list[Joint]:
    out: Offsets = ((1, "shoulder_width", mirror / 2),)
    clavicle = Joint(f"{side}_clavicle", "torso", f"{side}_clavicle", "prismatic", (0, 0, 1), -0.12, 0.2, out)
    root, at = (f"{side}_clavicle", ()) if extra else ("torso", out)
    return [
        *([clavicle] if extra else []),
        _revolute(f"{side}_y_shoulder", root, (0, 0, -mirror), -1.3, 2.4, at),
        _revolute(f"{side}_p_shoulder", f"{side}_y_shoulder", (mirror, 0, 0), -1.2, 3.6),
        _revolute(f"{side}_r_shoulder", f"{side}_p_shoulder", (0, 0, mirror), -1.9, 1.9, child=f"{side}_shoulder"),
        _revolute(f"{side}_elbow", f"{side}_shoulder", (0, -1, 0), -0.2, 2.8, ((2, "upper_arm", -1.0),)),
        _fixed(f"{side}_wrist", f"{side}_elbow", ((2, "forearm", -1.0),)),
    ]


def _leg(side: str, mirror: int) -> list[Joint]:
    return [
        _revolute(f"{side}_y_hip", "body", (0, 0, -1), -1.2, 1.2, ((1, "hip_width", mirror / 2),)),
        _revolute(f"{side}_p_hip", f"{side}_y_hip", (mirror, 0, 0), -0.9, 1.4),
        _revolute(f"{side}_r_hip", f"{side}_p_hip", (0, -1, 0), -0.9, 2.5, child=f"{side}_hip"),
        _revolute(f"{side}_knee", f"{side}_hip", (0, -1, 0), -2.8, 0.2, ((2, "thigh", -1.0),)),
        _fixed(f"{side}_ankle", f"{side}_knee", ((2, "shank", -1.0),)),
    ]


def _tree(extra: bool) -> tuple[Joint, ...]:
    """Every joint after the one that carries its parent link."""
    arms = [*_arm("l", 1, extra), *_arm("r", -1, extra)]
    return (*_trunk(extra), *arms, *_leg("l", 1), *_leg("r", -1))


TREE = _tree(extra=True)
REFERENCE_TREE = _tree(extra=False)
JOINT_NAMES = tuple(joint.name for joint in TREE if joint.moves)
REFERENCE_JOINT_NAMES = tuple(joint.name for joint in REFERENCE_TREE if joint.moves)
LINK_NAMES = ("body", *(joint.child for joint in TREE))
LOWER: Floats = np.array([joint.lower for joint in TREE if joint.moves])
UPPER: Floats = np.array([joint.upper for joint in TREE if joint.moves])


def tree(reference_joints: bool = False) -> tuple[Joint, ...]:
    """All joints, parents first; ``reference_joints``: exactly REP-155's tree, without EXTRA_JOINTS."""
    return REFERENCE_TREE if reference_joints else TREE


def origins(lengths: Floats, joints: Sequence[Joint] = TREE) -> Floats:
    """[N,len(SEGMENTS)] m -> [N,len(joints),3] m: where each joint sits in its parent link's axes."""
    return np.einsum("kis,ns->nki", _origin_weights(tuple(joints)), lengths)


def forward_kinematics(T_cam_body: Floats, positions: Floats, lengths: Floats) -> Floats:
    """Poses of all links: the frames of REP-155.

    T_cam_body [N,4,4]; positions [N,len(JOINT_NAMES)] rad (clavicles and neck: m); lengths [N,len(SEGMENTS)] m
    -> T_cam_link [N,len(LINK_NAMES),4,4], m, in the order of LINK_NAMES. With 0 for EXTRA_JOINTS it is the
    reference's chain. NaN where the body's own pose is.
    """
    count = len(positions)
    steps = np.tile(np.eye(4), (count, len(TREE), 1, 1))
    steps[..., :3, 3] = origins(lengths)
    kinds = np.array([joint.kind for joint in TREE])
    axes = np.array([joint.axis for joint in TREE])
    values = np.zeros((count, len(TREE)))
    values[:, kinds != "fixed"] = positions
    turns = (values * (kinds == "revolute"))[..., None] * axes
    steps[..., :3, :3] = Rotation.from_rotvec(turns.reshape(-1, 3)).as_matrix().reshape(count, -1, 3, 3)
    steps[..., :3, 3] += (values * (kinds == "prismatic"))[..., None] * axes
    poses = np.empty((count, len(LINK_NAMES), 4, 4))
    poses[:, 0] = T_cam_body
    for at, joint in enumerate(TREE):
        poses[:, at + 1] = poses[:, LINK_NAMES.index(joint.parent)] @ steps[:, at]
    return poses


@functools.cache
def _origin_weights(joints: tuple[Joint, ...]) -> Floats:
    weights = np.zeros((len(joints), 3, len(SEGMENTS)))
    for at, joint in enumerate(joints):
        for axis, segment, factor in joint.origin:
            weights[at, axis, SEGMENTS.index(segment)] = factor
    return weights
