"""Inverse kinematics of a limb in closed form: where its three joints are -> the four angles that put them there.

Everything for left limbs; right ones are mirrored before and after (body_kinematics). In the limb's parent frame, x
forward, y left, z up, with R the rotation of the upper link (z against its direction, x where an elbow bends to):
arm R = Rz(-y) Rx(p) Rz(r), leg R = Rz(-y) Rx(p) Ry(-r), lower link R Ry(-elbow) resp. R Ry(-knee).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.body_frame import or_zero, ramp, rejected, unit
from metrabs_ros.body_model import JOINT_NAMES, LOWER, UPPER
from metrabs_ros.small_matrices import cross

Floats = NDArray[np.float64]

# A limb bent less than the first (sine) says nothing about its rotation about itself, from the second on everything. In
# between its end is missed by up to length · sine: no more than 26 mm of a shank of half a metre.
_STRAIGHT, _BENT = 0.03, 0.09
# Up to here (cosine) a limb that bends the wrong way is taken for overstretched, or wrongly seen to be.
_MAY_OVERSTRETCH = np.cos(0.45)
# Distance of an Euler angle from its gimbal lock (sine) below which the first and third angle cannot be told apart.
_LOCKED, _FREE = 0.02, 0.06
_HANGING = np.array([0.0, 0.0, -1.0])
_FORWARD = np.array([1.0, 0.0, 0.0])
# Among equal solutions: rad outside the limits weigh this much more than rad of movement.
_LIMITS_WEIGH = 5.0


def arm_angles(roots: Floats, elbows: Floats, wrists: Floats, upper_length: Floats, hints: Floats) -> Floats:
    """y, p, r of the shoulder and elbow [...,4] rad from points [...,3] m, ``upper_length`` [...] m.

    hints [...,4]: the last angles, NaN where unknown. The result is NaN where points do not tell: everything without
    an elbow, r and elbow without a wrist; r of a straight arm and y of one that hangs or points straight up are the
    hint's, or 0.
    """
    known = np.isfinite(hints).all(-1, keepdims=True)
    last_R = _arm_rotation(or_zero(hints))
    R, tips = _upper_rotation(roots, elbows, wrists, upper_length, 1.0, np.where(known, last_R[..., 0], np.nan))
    yaw, pitch, roll = _zxz(R, np.where(known, hints, np.nan)[..., :3])
    R_model = _arm_rotation(np.stack([yaw, pitch, roll], -1))
    elbow = _bend(R_model, wrists - tips)
    roll = np.where(np.isfinite(elbow), roll, np.nan)
    return np.stack([yaw, pitch, roll, elbow], -1)


def leg_angles(
    roots: Floats, knees: Floats, ankles: Floats, feet: Floats, upper_length: Floats, hints: Floats
) -> Floats:
    """y, p, r of the hip and knee [...,4] rad, as arm_angles; feet [...,3] tell how a straight leg is turned."""
    known = np.isfinite(hints).all(-1, keepdims=True)
    last_R = _leg_rotation(or_zero(hints))
    pointing = np.where(np.isfinite(feet - ankles), feet - ankles, np.where(known, last_R[..., 0], np.nan))
    R, tips = _upper_rotation(roots, knees, ankles, upper_length, -1.0, pointing)
    yaw, pitch, roll = _zxy(R, hints[..., 0])
    R_model = _leg_rotation(np.stack([yaw, pitch, roll], -1))
    return np.stack([yaw, pitch, roll, _bend(R_model, ankles - tips)], -1)


def about(axis: str, angles: Floats) -> Floats:
    """Rotations [...,3,3] by angles [...] rad about "x", "y" or "z"."""
    i = "xyz".index(axis)
    j, k = (i + 1) % 3, (i + 2) % 3
    R = np.zeros((*np.shape(angles), 3, 3))
    R[..., i, i] = 1.0
    R[..., j, j] = R[..., k, k] = np.cos(angles)
    R[..., k, j] = np.sin(angles)
    R[..., j, k] = -R[..., k, j]
    return R


def _arm_rotation(angles: Floats) -> Floats:
    return about("z", -angles[..., 0]) @ about("x", angles[..., 1]) @ about("z", angles[..., 2])


def _leg_rotation(angles: Floats) -> Floats:
    return about("z", -angles[..., 0]) @ about("x", angles[..., 1]) @ about("y", -angles[..., 2])


def _upper_rotation(
    roots: Floats, middles: Floats, ends: Floats, upper_length: Floats, bends_to: float, forward: Floats
) -> tuple[Floats, Floats]:
    """R of the upper link and where it ends. ``bends_to``: 1 bends towards its x, -1 away; ``forward``: where its x
    should point if the limb is straight, NaN where nothing tells that."""
    along = unit(middles - roots)
    tips = roots + upper_length[..., None] * along
    lower = unit(ends - tips)
    straight_x = _at_right_angle(forward, along)
    straight_x = np.where(np.isfinite(straight_x), straight_x, _at_right_angle(_swung(along), along))
    cosine = np.einsum("...i,...i->...", lower, along)[..., None]
    bent = lower - cosine * along
    x = bends_to * _at_right_angle(bent, along)
    overstretched = (cosine > _MAY_OVERSTRETCH) & ((x * straight_x).sum(-1, keepdims=True) < -0.3)
    x = np.where(overstretched, -x, x)
    certain = np.where(np.isfinite(x), ramp(np.linalg.norm(bent, axis=-1, keepdims=True), _STRAIGHT, _BENT), 0.0)
    x = _at_right_angle(or_zero(certain * x) + (1 - certain) * straight_x, along)
    z = -along
    return np.stack([x, cross(z, x), z], -1), tips


def _swung(along: Floats) -> Floats:
    """Where the hanging link's x points after the shortest swing to a direction; near upright, where that is not
    defined, it fades to forward."""
    both = along + _HANGING
    bottom = np.maximum(1 - along[..., 2:], 0.05)
    return _FORWARD - both * along[..., :1] / bottom


def _at_right_angle(vectors: Floats, along: Floats) -> Floats:
    """Unit vectors at a right angle to a unit one, nearest to others; NaN where those are parallel to it."""
    return unit(rejected(vectors, along))


def _zxz(R: Floats, hints: Floats) -> tuple[Floats, Floats, Floats]:
    """y, p, r with R = Rz(-y) Rx(p) Rz(r): of three equal solutions the one within the limits and near to the hint."""
    sine = np.hypot(R[..., 0, 2], R[..., 1, 2])
    pitch = np.arctan2(sine, R[..., 2, 2])
    yaw = -np.arctan2(R[..., 0, 2], -R[..., 1, 2])
    yaws = _wrapped(np.stack([yaw, yaw + np.pi, yaw + np.pi], -1))
    pitches = np.stack([pitch, -pitch, 2 * np.pi - pitch], -1)
    near = or_zero(hints)
    yaws = near[..., :1] + ramp(sine, _LOCKED, _FREE)[..., None] * _wrapped(yaws - near[..., :1])
    rest = about("x", -pitches) @ about("z", yaws) @ R[..., None, :, :]
    rolls = np.arctan2(rest[..., 1, 0] - rest[..., 0, 1], rest[..., 0, 0] + rest[..., 1, 1])
    choices = np.stack([_wrapped(yaws), pitches, rolls], -1)
    at = [JOINT_NAMES.index(f"l_{name}_shoulder") for name in "ypr"]
    outside = np.maximum(0, choices - UPPER[at]) + np.maximum(0, LOWER[at] - choices)
    movement = np.abs(choices - near[..., None, :])
    best = (_LIMITS_WEIGH * outside + movement).sum(-1).argmin(-1)
    chosen = np.take_along_axis(choices, best[..., None, None], -2)[..., 0, :]
    return chosen[..., 0], chosen[..., 1], chosen[..., 2]


def _zxy(R: Floats, yaw_hint: Floats) -> tuple[Floats, Floats, Floats]:
    """y, p, r with R = Rz(-y) Rx(p) Ry(-r), p within a right angle."""
    cosine = np.hypot(R[..., 0, 1], R[..., 1, 1])
    near = or_zero(yaw_hint)
    yaw = _wrapped(near + ramp(cosine, _LOCKED, _FREE) * _wrapped(np.arctan2(R[..., 0, 1], R[..., 1, 1]) - near))
    rest = about("z", yaw) @ R
    pitch = np.arctan2(rest[..., 2, 1], rest[..., 1, 1])
    return yaw, pitch, np.arctan2(-rest[..., 0, 2], rest[..., 0, 0])


def _bend(R: Floats, lower: Floats) -> Floats:
    """Elbow or knee: the angle in the upper link's plane of bending, from straight."""
    within = np.einsum("...ji,...j->...i", R, lower)
    return np.arctan2(within[..., 0], -within[..., 2])


def _wrapped(angles: Floats) -> Floats:
    """To -pi..pi."""
    return (angles + np.pi) % (2 * np.pi) - np.pi
