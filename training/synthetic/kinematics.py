"""From joint angles to bone rotations: anatomical angles, hinges at elbows and knees, hands and feet put to places.

Axes as in body_data: x to the person's left, y backward, z up. An angle vector has the layout of
``angles.ANGLES``; all angles in radians, zero everywhere being upright, arms hanging, palms at the thighs.
"""

from __future__ import annotations

import functools

import numba
import numpy as np
from numpy.typing import NDArray

from training.synthetic.angles import ANCHORS, INDEX
from training.synthetic.body_data import body_data
from training.synthetic.rotations import cross, frame, turn, two_bones, unit, vec

Floats = NDArray[np.floating]

_ARM_AT = np.array([INDEX["left_arm_flex"], INDEX["right_arm_flex"]])
_LEG_AT = np.array([INDEX["left_leg_flex"], INDEX["right_leg_flex"]])
_REACH_AT = np.array([INDEX["left_hand_reach"], INDEX["right_hand_reach"]])
_FLAT, _LEVEL = INDEX["feet_flat"], INDEX["feet_level"]

_NONE, _SPINE, _NECK, _HEAD, _CLAVICLE, _FINGER, _THUMB, _TOE = range(8)


def pose_bones(angles: Floats, bone_heads: Floats, height: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angles [len(ANGLES)] on a body with rest bones [B,3] m and height m -> rotations [B,3,3], positions [B,3] m."""
    parents, roles, sides, limbs, anchors = _rig()
    return _pose(np.asarray(angles, np.float64), bone_heads, height, parents, roles, sides, limbs, anchors)


@functools.cache
def _rig() -> tuple[NDArray[np.int32], ...]:
    """parents [B], roles [B], sides [B] (0 left, 1 right, -1 middle), limbs [2,13] and anchors [A] bones."""
    data = body_data()
    names = [str(name) for name in data.bone_names]
    roles = np.zeros(len(names), np.int32)
    for i, name in enumerate(names):
        if name.startswith("spine"):
            roles[i] = _SPINE
        elif name.startswith("neck"):
            roles[i] = _NECK
        elif name == "head":
            roles[i] = _HEAD
        elif name.startswith("clavicle"):
            roles[i] = _CLAVICLE
        elif name.startswith("finger1"):
            roles[i] = _THUMB
        elif name.startswith("finger"):
            roles[i] = _FINGER
        elif name.startswith("toe") and name[4:6] == "-1":
            roles[i] = _TOE
    sides = np.array([{"L": 0, "R": 1}.get(name[-1], -1) for name in names], np.int32)
    chain = (
        "upperarm01",
        "upperarm02",
        "lowerarm01",
        "lowerarm02",
        "wrist",
        "upperleg01",
        "upperleg02",
        "lowerleg01",
        "lowerleg02",
        "foot",
        "finger2-1",
        "finger5-1",
        "finger1-2",
    )
    limbs = np.array([[data.bone(f"{bone}.{side}") for bone in chain] for side in "LR"], np.int32)
    anchors = np.array([data.bone(name) for name in ANCHORS], np.int32)
    return data.parents, roles, sides, limbs, anchors


@numba.njit(cache=True, nogil=True)
def _pose(q, heads, height, parents, roles, sides, limbs, anchors):  # type: ignore[no-untyped-def]
    count = heads.shape[0]
    R = np.zeros((count, 3, 3))
    p = np.zeros((count, 3))
    R[0] = turn(vec(q[0], 0.0, 0.0)) @ turn(vec(0.0, q[1], 0.0))
    p[0] = heads[0]
    spine = vec(q[2], q[3], q[4])
    head = vec(q[5], q[6], q[7])
    set_by_limb = np.zeros(count, np.uint8)
    # Trunk first, then the limbs that hang on it, then what hangs on the limbs.
    for b in range(1, count):
        _hang(b, q, heads, parents, roles, sides, spine, head, R, p, set_by_limb)
    for s in range(2):
        _pose_leg(q, s, heads, limbs[s], R, p, set_by_limb)
    if q[_LEVEL] > 0.5:
        _level_feet(q, heads, limbs, R, p)
    for b in range(1, count):
        _hang(b, q, heads, parents, roles, sides, spine, head, R, p, set_by_limb)
    for s in range(2):
        _pose_arm(q, s, heads, height, limbs[s], parents, anchors, R, p, set_by_limb)
        for b in range(1, count):
            _hang(b, q, heads, parents, roles, sides, spine, head, R, p, set_by_limb)
    for s in range(2):
        _pose_hand(q, s, heads, limbs[s], parents, roles, sides, R, p)
    return R, p


@numba.njit(cache=True, nogil=True)
def _hang(b, q, heads, parents, roles, sides, spine, head, R, p, set_by_limb):  # type: ignore[no-untyped-def]
    parent = parents[b]
    p[b] = p[parent] + R[parent] @ (heads[b] - heads[parent])
    if set_by_limb[b]:
        return
    role = roles[b]
    if role == _SPINE:
        R[b] = R[parent] @ turn(spine / 5)
    elif role == _NECK:
        R[b] = R[parent] @ turn(head * 0.2)
    elif role == _HEAD:
        R[b] = R[parent] @ turn(head * 0.4)
    elif role == _CLAVICLE:
        at = _ARM_AT[sides[b]]
        raised = min(2.6, np.sqrt(q[at] ** 2 + q[at + 1] ** 2))
        lift = 0.32 * max(0.0, raised - 0.7)
        forward = 0.18 * max(0.0, q[at]) * (1.0 if sides[b] == 0 else -1.0)
        R[b] = R[parent] @ turn(vec(0.0, -lift if sides[b] == 0 else lift, -forward))
    elif role == _TOE:
        R[b] = R[parent] @ turn(vec(-q[_LEG_AT[sides[b]] + 5], 0.0, 0.0))
    else:
        R[b] = R[parent]


@numba.njit(cache=True, nogil=True)
def _limb_rest(heads, upper, lower, end, axis):  # type: ignore[no-untyped-def]
    along_upper = unit(heads[lower] - heads[upper])
    along_lower = unit(heads[end] - heads[lower])
    return along_upper, along_lower, unit(axis - along_upper * (axis @ along_upper))


@numba.njit(cache=True, nogil=True)
def _set_limb(direction, hinge, bend, twist, heads, upper, half, lower, end, hinge0, R, set_by_limb):  # type: ignore[no-untyped-def]
    """Rotations of a limb's upper and lower bones from its world directions; the twist is spread along the upper."""
    upper0, lower0, hinge0 = _limb_rest(heads, upper, lower, end, hinge0)
    lower_direction = turn(hinge * bend) @ direction
    back = turn(direction * (-twist / 2)) @ hinge
    R[upper] = frame(direction, back) @ frame(upper0, hinge0).T
    R[half] = frame(direction, hinge) @ frame(upper0, hinge0).T
    R[lower] = frame(lower_direction, hinge) @ frame(lower0, hinge0).T
    set_by_limb[upper] = set_by_limb[half] = set_by_limb[lower] = 1


@numba.njit(cache=True, nogil=True)
def _pose_leg(q, s, heads, limb, R, p, set_by_limb):  # type: ignore[no-untyped-def]
    at = _LEG_AT[s]
    mirror = 1.0 if s == 0 else -1.0
    upper, half, lower, lower2, foot = limb[5], limb[6], limb[7], limb[8], limb[9]
    swing = R[0] @ turn(vec(-q[at], -q[at + 1] * mirror, 0.0))
    direction = -swing[:, 2].copy()
    hinge = turn(direction * (-q[at + 2] * mirror)) @ swing[:, 0].copy()
    _set_limb(
        direction,
        hinge,
        q[at + 3],
        -q[at + 2] * mirror,
        heads,
        upper,
        half,
        lower,
        foot,
        vec(1.0, 0.0, 0.0),
        R,
        set_by_limb,
    )
    p[lower] = p[upper] + R[upper] @ (heads[half] - heads[upper]) + R[half] @ (heads[lower] - heads[half])
    p[foot] = p[lower] + R[lower] @ (heads[foot] - heads[lower])
    R[lower2] = R[lower]
    set_by_limb[lower2] = 1
    _pose_foot(q, s, limb, R, set_by_limb)


@numba.njit(cache=True, nogil=True)
def _pose_foot(q, s, limb, R, set_by_limb):  # type: ignore[no-untyped-def]
    lower, foot = limb[7], limb[9]
    ankle = q[_LEG_AT[s] + 4]
    free = R[lower] @ turn(vec(ankle, 0.0, 0.0))
    forward = -R[lower][:, 1]
    flatness = q[_FLAT] * min(1.0, max(0.0, 2.0 * R[lower][2, 2] - 0.4))
    if flatness > 0 and forward[0] ** 2 + forward[1] ** 2 > 0.05:
        yaw = np.arctan2(forward[0], -forward[1])
        flat = turn(vec(0.0, 0.0, yaw)) @ turn(vec(ankle, 0.0, 0.0))
        mixed = flat * flatness + free * (1 - flatness)
        x = unit(mixed[:, 0])
        y = unit(mixed[:, 1] - x * (mixed[:, 1] @ x))
        R[foot][:, 0], R[foot][:, 1], R[foot][:, 2] = x, y, cross(x, y)
    else:
        R[foot] = free
    set_by_limb[foot] = 1


@numba.njit(cache=True, nogil=True)
def _level_feet(q, heads, limbs, R, p):  # type: ignore[no-untyped-def]
    """Both ankles at the height of the higher one, the other knee bending for it."""
    left, right = limbs[0, 9], limbs[1, 9]
    s = 0 if p[left][2] < p[right][2] else 1
    limb = limbs[s]
    upper, half, lower, foot = limb[5], limb[6], limb[7], limb[9]
    target = p[foot].copy()
    target[2] = max(p[left][2], p[right][2])
    long = np.sqrt(np.sum((heads[lower] - heads[upper]) ** 2))
    short = np.sqrt(np.sum((heads[foot] - heads[lower]) ** 2))
    pole = -R[half][:, 1].copy()
    direction, hinge, bend = two_bones(p[upper], target, long, short, pole)
    flags = np.zeros(R.shape[0], np.uint8)
    mirror = 1.0 if s == 0 else -1.0
    _set_limb(
        direction,
        hinge,
        bend,
        -q[_LEG_AT[s] + 2] * mirror,
        heads,
        upper,
        half,
        lower,
        foot,
        vec(1.0, 0.0, 0.0),
        R,
        flags,
    )
    R[limb[8]] = R[lower]
    _pose_foot(q, s, limb, R, flags)


@numba.njit(cache=True, nogil=True)
def _pose_arm(q, s, heads, height, limb, parents, anchors, R, p, set_by_limb):  # type: ignore[no-untyped-def]
    at, reach_at = _ARM_AT[s], _REACH_AT[s]
    mirror = 1.0 if s == 0 else -1.0
    upper, half, lower, lower2, wrist = limb[0], limb[1], limb[2], limb[3], limb[4]
    chest = R[parents[parents[parents[upper]]]]
    forearm0 = unit(heads[wrist] - heads[lower])
    hinge0 = cross(unit(heads[lower] - heads[upper]), forearm0)
    if q[reach_at] > 0.5:
        anchor = anchors[int(q[reach_at + 1])]
        target = p[anchor] + R[anchor] @ (vec(q[reach_at + 2] * mirror, q[reach_at + 3], q[reach_at + 4]) * height)
        swivel = q[reach_at + 5]
        pole = chest @ vec(mirror * np.sin(swivel), 0.35, -np.cos(swivel))
        direction, hinge, bend = two_bones(
            p[upper],
            target,
            np.sqrt(np.sum((heads[lower] - heads[upper]) ** 2)),
            np.sqrt(np.sum((heads[wrist] - heads[lower]) ** 2)),
            pole,
        )
        neutral = _swing_of(chest, direction)
        twist = np.arctan2(cross(neutral, hinge) @ direction, neutral @ hinge)
    else:
        swing = chest @ turn(vec(-q[at], -q[at + 1] * mirror, 0.0))
        direction = -swing[:, 2].copy()
        twist = q[at + 2] * mirror
        hinge = turn(direction * twist) @ (-swing[:, 0])
        bend = q[at + 3]
    _set_limb(direction, hinge, bend, twist, heads, upper, half, lower, wrist, hinge0, R, set_by_limb)
    R[lower2] = R[lower] @ turn(forearm0 * (q[at + 4] * mirror * 0.6))
    R[wrist] = R[lower] @ turn(forearm0 * (q[at + 4] * mirror))
    set_by_limb[lower2] = set_by_limb[wrist] = 1


@numba.njit(cache=True, nogil=True)
def _swing_of(chest, direction):  # type: ignore[no-untyped-def]
    """The elbow's hinge axis after the shortest swing from hanging to the direction."""
    hanging = -chest[:, 2].copy()
    axis = cross(hanging, direction)
    sine = np.sqrt(axis @ axis)
    if sine < 1e-6:
        return -chest[:, 0].copy()
    return turn(axis / sine * np.arctan2(sine, hanging @ direction)) @ (-chest[:, 0].copy())


@numba.njit(cache=True, nogil=True)
def _pose_hand(q, s, heads, limb, parents, roles, sides, R, p):  # type: ignore[no-untyped-def]
    at = _ARM_AT[s]
    wrist, index, little, thumb = limb[4], limb[10], limb[11], limb[12]
    along = unit((heads[index] + heads[little]) / 2 - heads[wrist])
    across = unit(heads[index] - heads[little])
    palm = cross(along, across)
    if palm @ (heads[thumb] - heads[index]) < 0:
        palm = -palm
    curl_axis = unit(cross(along, palm))
    R[wrist] = R[wrist] @ turn(curl_axis * q[at + 5] + palm * (q[at + 6] * (1.0 if s == 0 else -1.0)))
    for b in range(R.shape[0]):
        if sides[b] != s or b <= wrist or parents[b] < wrist:
            continue
        parent = parents[b]
        p[b] = p[parent] + R[parent] @ (heads[b] - heads[parent])
        if roles[b] == _FINGER:
            R[b] = R[parent] @ turn(curl_axis * q[at + 7])
        elif roles[b] == _THUMB:
            R[b] = R[parent] @ turn(
                along * (0.25 * q[at + 7] * (1.0 if s == 0 else -1.0)) + curl_axis * (0.35 * q[at + 7])
            )
        else:
            R[b] = R[parent]
