"""Where each vertex of the body lies, anatomically: the coordinates by which clothes and hair know their borders.

Per vertex [V,4]: arm (0 shoulder, 1 elbow, 2 wrist, 3 finger tip; below 0 on the trunk), leg (0 hip, 1 knee, 2 ankle,
3 toe tip; below 0 above the hip), height (0 crotch, 1 neck) and scalp (m outwards from the hairline, negative on the
face). They belong to the template, not to a person.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
from numpy.typing import NDArray

from training.synthetic.body_data import body_data

HEAD, TRUNK, ARM, HAND, LEG, FOOT, EYE = range(7)


@functools.cache
def vertex_parts() -> NDArray[np.uint8]:
    """[V] the part of the body that moves each vertex most."""
    data = body_data()
    of_bone = np.array([_part_of(str(name)) for name in data.bone_names], np.uint8)
    weight = np.zeros((len(data.template), 7))
    for column in range(data.skin_bones.shape[1]):
        np.add.at(weight, (np.arange(len(weight)), of_bone[data.skin_bones[:, column]]), data.skin_weights[:, column])
    return weight.argmax(1).astype(np.uint8)


@functools.cache
def face_parts() -> NDArray[np.uint8]:
    """[F] the part of most of a face's corners."""
    corners = vertex_parts()[body_data().faces]
    return np.where(corners[:, 1] == corners[:, 2], corners[:, 1], corners[:, 0]).astype(np.uint8)


@functools.cache
def vertex_fields() -> NDArray[np.float32]:
    """[V,4] arm, leg, height and scalp coordinates."""
    data, parts = body_data(), vertex_parts()
    v = data.template.astype(np.float64)
    bone = {str(name): data.bone_heads[i].astype(np.float64) for i, name in enumerate(data.bone_names)}
    on_left = v[:, 0] > 0
    mirrored = np.where(on_left[:, None], v, v * [-1, 1, 1])
    crotch, neck = bone["root"][2] - 0.11, bone["neck01"][2]
    arm = _along(mirrored, [bone["upperarm01.L"], bone["lowerarm01.L"], bone["wrist.L"], bone["finger3-3.L"]])
    leg = _along(mirrored, [bone["upperleg01.L"], bone["lowerleg01.L"], bone["foot.L"]])
    arm = np.where(np.isin(parts, (ARM, HAND)), arm, np.minimum(arm, 0.0))
    on_foot = parts == FOOT
    leg = np.where(on_foot, np.maximum(leg, 2 + 0.3 * np.clip((bone["foot.L"][2] - v[:, 2]) / 0.08, -0.3, 1)), leg)
    leg = np.where(np.isin(parts, (LEG, FOOT)), leg, np.minimum(leg, 0.1))
    height = (v[:, 2] - crotch) / (neck - crotch)
    height = np.where(np.isin(parts, (ARM, HAND)), np.maximum(height, 0.75), height)
    return np.stack([arm, leg, height, _scalp(v, parts)], 1).astype(np.float32)


def _part_of(bone: str) -> int:
    if bone.startswith("eye"):
        return EYE
    if bone == "head":
        return HEAD
    if bone.startswith(("upperarm", "lowerarm")):
        return ARM
    if bone.startswith(("wrist", "finger", "metacarpal")):
        return HAND
    if bone.startswith(("upperleg", "lowerleg")):
        return LEG
    if bone.startswith(("foot", "toe")):
        return FOOT
    return TRUNK


def _along(points: NDArray[np.float64], chain: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Coordinate along a chain of joints: segment number plus fraction, by the nearest segment; open at both ends."""
    best, value = np.full(len(points), np.inf), np.zeros(len(points))
    last = len(chain) - 2
    for i, (start, end) in enumerate(itertools.pairwise(chain)):
        axis = end - start
        fraction = (points - start) @ axis / (axis @ axis)
        inside = np.clip(fraction, -1.0 if i == 0 else 0.0, 1.5 if i == last else 1.0)
        distance = np.linalg.norm(points - start - np.clip(fraction, 0, 1)[:, None] * axis, axis=1)
        better = distance < best
        best, value = np.where(better, distance, best), np.where(better, i + inside, value)
    return value


def _scalp(v: NDArray[np.float64], parts: NDArray[np.uint8]) -> NDArray[np.float64]:
    """m above the hairline on the head's surface, positive on the scalp."""
    on_head = parts == HEAD
    head = v[on_head]
    back = (head[:, 1] - head[:, 1].min()) / np.ptp(head[:, 1])
    chin, top = head[:, 2].min(), head[:, 2].max()
    line = np.interp(back, [0, 0.25, 0.45, 0.52, 0.62, 0.8, 1.0], [0.84, 0.80, 0.66, 0.50, 0.42, 0.16, 0.1])
    out = np.full(len(v), -0.1)
    out[on_head] = head[:, 2] - (chin + line * (top - chin))
    return out


@functools.cache
def pattern_points() -> NDArray[np.float32]:
    """[V,3] where patterns live: template metres; on the head x m, y -1 face .. 1 back, z 0 chin .. 1 crown."""
    v, parts = body_data().template.astype(np.float64).copy(), vertex_parts()
    on_head = np.isin(parts, (HEAD, EYE))
    low, high = v[parts == HEAD].min(0), v[parts == HEAD].max(0)
    v[on_head, 1:] = (v[on_head, 1:] - low[1:]) / (high - low)[1:] * [2, 1] - [1, 0]
    return v.astype(np.float32)
