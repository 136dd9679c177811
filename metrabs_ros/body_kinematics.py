"""Joint angles of the REP-155 model (body_model) from 3D joints: analytic inverse kinematics of many people at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrabs_ros import body_limbs
from metrabs_ros.body_frame import frames_of_bodies, head_rotation, torso_rotation
from metrabs_ros.body_landmarks import Landmarks
from metrabs_ros.body_model import JOINT_NAMES, LOWER, UPPER, forward_kinematics
from metrabs_ros.errors import InputError
from metrabs_ros.segment_lengths import SEGMENTS, SegmentLengths

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_MIRROR = np.array([1.0, -1.0])  # y of the left, of the right side
_REST = np.zeros(len(JOINT_NAMES))
_ARM, _LEG = ("y_shoulder", "p_shoulder", "r_shoulder", "elbow"), ("y_hip", "p_hip", "r_hip", "knee")
# Among JOINT_NAMES [2,4], of the left and the right one.
_ARM_POSITIONS, _LEG_POSITIONS = (
    np.array([[JOINT_NAMES.index(f"{side}_{name}") for name in limb] for side in "lr"]) for limb in (_ARM, _LEG)
)


@dataclass(frozen=True, eq=False)
class BodyStates:
    """The state of N bodies.

    positions [N,len(JOINT_NAMES)] rad (clavicles and neck: m), always numbers; valid [N,len(JOINT_NAMES)]: whether
    this frame had the joints that a position follows from, or else it is the last one known or 0; T_cam_body [N,4,4]
    m, in the frame of the joints, NaN where body_valid [N] is not set.
    """

    positions: Floats
    valid: Bools
    T_cam_body: Floats
    body_valid: Bools

    @property
    def within_limits(self) -> Bools:
        """[N,len(JOINT_NAMES)]: whether a position lies within the model's limits. Positions are never clipped to
        them, because then the links would leave the joints that were seen."""
        return (self.positions >= LOWER) & (self.positions <= UPPER)

    def by_name(self, person: int = 0) -> dict[str, float]:
        """One person's positions, by joint names without the body's id."""
        return dict(zip(JOINT_NAMES, self.positions[person].tolist(), strict=True))


def joint_angles(
    joints3d: ArrayLike,
    joint_names: Sequence[str],
    lengths: SegmentLengths | Sequence[SegmentLengths],
    previous: ArrayLike | None = None,
    reference_joints: bool = False,
) -> BodyStates:
    """States of N people with the joints [N,J,3] m (any skeleton whose names Landmarks knows) and their lengths.

    Each link, from the pelvis outwards, aims at the joint seen at its end from where the model puts its beginning, so
    that what a rigid model cannot follow does not add up along a limb. ``previous`` [N,len(JOINT_NAMES)], NaN rows
    for people who are new, are their last positions. They hold what a frame does not determine, and choose between
    what it leaves equal: the rotation of a straight limb about itself, the shoulder's yaw and roll of a hanging or
    upright arm, hip yaw of a leg stretched sideways. Without them these are as after the shortest swing from rest, or
    for a straight leg as the foot points. ``reference_joints`` keeps the joints that REP-155 lacks at 0
    (body_model): for consumers who must have its tree, at the price of shoulders, arms and head that miss theirs
    wherever a trunk is twisted or leans sideways.

    waist is 0 unless the trunk is twisted or leans, because body_<id>, whose z points to the head, leans with the
    trunk: somebody who bows bends the hips. Raises InputError where shapes and names do not fit.
    """
    points = Landmarks.from_joints(joints3d, joint_names)
    count = len(points.pelvis)
    sizes = dict(zip(SEGMENTS, _stacked(lengths, count).T, strict=True))
    held = _held(previous, count)
    frames = frames_of_bodies(points)
    local = points.in_frame(frames.T_cam_body[:, :3, :3], frames.T_cam_body[:, :3, 3])

    waist, R_body_torso = _waist(local, reference_joints)
    chest = R_body_torso[..., 2] * sizes["torso"][:, None]
    found = waist | _head(local, R_body_torso, chest, sizes, reference_joints)
    found |= _arms(local, R_body_torso, chest, sizes, held, reference_joints) | _legs(local, sizes, held)

    positions = np.stack([found[name] for name in JOINT_NAMES], 1)
    valid = np.isfinite(positions)
    positions = np.where(valid, positions, np.where(np.isfinite(held), held, _REST))
    return BodyStates(positions, valid & frames.valid[:, None], frames.T_cam_body, frames.valid)


def link_poses(states: BodyStates, lengths: SegmentLengths | Sequence[SegmentLengths]) -> Floats:
    """T_cam_link [N,len(LINK_NAMES),4,4] m: all frames of REP-155 of these bodies (body_model.LINK_NAMES)."""
    return forward_kinematics(states.T_cam_body, states.positions, _stacked(lengths, len(states.positions)))


def _waist(local: Landmarks, reference_joints: bool) -> tuple[dict[str, Floats], Floats]:
    """R_body_torso = Rz(y_waist) Rx(r_waist) Ry(waist); the pelvis is the origin."""
    R = torso_rotation(local, np.zeros_like(local.pelvis))
    if reference_joints:
        pitch = np.arctan2(R[:, 0, 2], R[:, 2, 2])
        nothing = np.where(np.isfinite(pitch), 0.0, np.nan)
        return {"y_waist": nothing, "r_waist": nothing, "waist": pitch}, body_limbs.about("y", pitch)
    yaw = np.arctan2(-R[:, 0, 1], R[:, 1, 1])
    roll = np.arctan2(R[:, 2, 1], np.hypot(R[:, 0, 1], R[:, 1, 1]))
    pitch = np.arctan2(-R[:, 2, 0], R[:, 2, 2])
    return {"y_waist": yaw, "r_waist": roll, "waist": pitch}, R


def _head(
    local: Landmarks, R_body_torso: Floats, chest: Floats, sizes: dict[str, Floats], reference_joints: bool
) -> dict[str, Floats]:
    """R_torso_head = Rx(r_head) Rz(y_head) Ry(-p_head), and how far forward, m, the neck must slide for the eyes."""
    R_body_head = head_rotation(local)
    R = R_body_torso.transpose(0, 2, 1) @ R_body_head
    offset = np.stack([sizes["head_forward"], np.zeros(len(R)), sizes["head_up"]], -1)
    pivot = local.eyes.mean(1) - np.einsum("nij,nj->ni", R_body_head, offset)
    slide = ((pivot - chest) * R_body_torso[..., 0]).sum(-1)
    return {
        "neck": np.where(np.isfinite(slide), 0.0, np.nan) if reference_joints else slide,
        "r_head": np.arctan2(R[:, 2, 1], R[:, 1, 1]),
        "y_head": np.arctan2(-R[:, 0, 1], np.hypot(R[:, 0, 0], R[:, 0, 2])),
        "p_head": -np.arctan2(R[:, 0, 2], R[:, 0, 0]),
    }


def _arms(
    local: Landmarks,
    R_body_torso: Floats,
    chest: Floats,
    sizes: dict[str, Floats],
    held: Floats,
    reference_joints: bool,
) -> dict[str, Floats]:
    """The clavicles' lifts, m, and the arms' angles."""

    def in_torso(at: Floats) -> Floats:
        """[N,2,3] -> the torso's axes from between the shoulders, the right side mirrored to the left."""
        return _mirrored(np.einsum("nji,nsj->nsi", R_body_torso, at - chest[:, None]))

    shoulders = in_torso(local.shoulders)
    lift = np.where(np.isfinite(shoulders[..., 2]), 0.0, np.nan) if reference_joints else shoulders[..., 2]
    side = np.broadcast_to(sizes["shoulder_width"][:, None] / 2, lift.shape)
    roots = np.stack([np.zeros_like(lift), side, lift], -1)
    found = body_limbs.arm_angles(
        roots,
        in_torso(local.elbows),
        in_torso(local.wrists),
        sizes["upper_arm"][:, None],
        held[:, _ARM_POSITIONS],
    )
    return _by_side(("clavicle",), lift[..., None]) | _by_side(_ARM, found)


def _legs(local: Landmarks, sizes: dict[str, Floats], held: Floats) -> dict[str, Floats]:
    """The legs' angles. The axis of hip yaw is the same on both sides, so the mirrored right one changes its sign."""
    signs = np.ones((2, 4))
    signs[1, 0] = -1
    side = np.broadcast_to(sizes["hip_width"][:, None] / 2, local.hips.shape[:2])
    roots = np.stack([np.zeros_like(side), side, np.zeros_like(side)], -1)
    found = body_limbs.leg_angles(
        roots,
        _mirrored(local.knees),
        _mirrored(local.ankles),
        _mirrored(local.feet),
        sizes["thigh"][:, None],
        held[:, _LEG_POSITIONS] * signs,
    )
    return _by_side(_LEG, found * signs)


def _mirrored(points: Floats) -> Floats:
    """[N,2,3] with the right side's y turned over: both limbs then are left ones."""
    out = points.copy()
    out[..., 1] *= _MIRROR
    return out


def _by_side(names: Sequence[str], values: Floats) -> dict[str, Floats]:
    """[N,2,len(names)] -> {l_NAME, r_NAME: [N]}."""
    return {f"{side}_{name}": values[:, s, at] for s, side in enumerate("lr") for at, name in enumerate(names)}


def _stacked(lengths: SegmentLengths | Sequence[SegmentLengths], count: int) -> Floats:
    """[N,len(SEGMENTS)] m."""
    each = [lengths] * count if isinstance(lengths, SegmentLengths) else list(lengths)
    if len(each) != count:
        raise InputError(f"Each of the {count} people needs segment lengths, but {len(each)} were given.")
    return np.array([one.as_array() for one in each]).reshape(count, len(SEGMENTS))


def _held(previous: ArrayLike | None, count: int) -> Floats:
    """[N,len(JOINT_NAMES)], NaN where nothing is known."""
    if previous is None:
        return np.full((count, len(JOINT_NAMES)), np.nan)
    held = np.asarray(previous, np.float64)
    if held.shape != (count, len(JOINT_NAMES)):
        raise InputError(
            f"The previous positions must be an array of {count} people x {len(JOINT_NAMES)} joints, "
            f"but have the shape {held.shape}."
        )
    return held
