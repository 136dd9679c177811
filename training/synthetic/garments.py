"""Clothes and hair that are not skin-tight: skirts and long hair as tubes around the resting body, with own bones."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.synthetic.bodies import Shape
from training.synthetic.body_data import body_data
from training.synthetic.clothes import Outfit
from training.synthetic.fields import HEAD, LEG, TRUNK, vertex_fields, vertex_parts
from training.synthetic.materials import SLOTS

Floats = NDArray[np.floating]
_ROUND, _ROWS = 28, 12


@dataclass(frozen=True, eq=False)
class Garment:
    """Rest points [V,3] m, faces [F,3], pattern points [V,3], skin weights and bones [V,W]; slot: its material."""

    rest: NDArray[np.float32]
    faces: NDArray[np.int32]
    patterns: NDArray[np.float32]
    weights: NDArray[np.float32]
    bones: NDArray[np.int32]
    slot: int


def garments_of(outfit: Outfit, shape: Shape) -> list[Garment]:
    """The loose parts of an outfit for a person's resting body."""
    out = []
    if outfit.skirt_length > 0:
        out.append(_skirt(outfit, shape))
    if outfit.long_hair > 0:
        out.append(_long_hair(outfit, shape))
    return out


def _skirt(outfit: Outfit, shape: Shape) -> Garment:
    data, heads = body_data(), shape.bone_heads
    hip, knee, ankle = (heads[data.bone(name)][2] for name in ("upperleg01.L", "lowerleg01.L", "foot.L"))
    waist = heads[data.bone("root")][2] + 0.045 * shape.height
    length = outfit.skirt_length
    hem = hip + (knee - hip) * min(length, 1.0) + (ankle - knee) * max(0.0, length - 1.0)
    around = np.isin(vertex_parts(), (LEG, TRUNK))
    body = shape.vertices[around]
    points, rows = [], np.linspace(0, 1, _ROWS)
    angle = np.arange(_ROUND) / _ROUND * 2 * np.pi
    wide, front, back = 0.1, -0.1, 0.1
    for t in rows:
        z = waist + (hem - waist) * t
        near = body[np.abs(body[:, 2] - z) < 0.03 * shape.height]
        if len(near):
            wide, front, back = np.abs(near[:, 0]).max(), near[:, 1].min(), near[:, 1].max()
        grow = 1.06 + outfit.skirt_flare * 0.7 * t + 0.02 * np.sin(angle * 7 + outfit.params[5] * 60) * t
        points.append(
            np.stack(
                [
                    grow * wide * np.cos(angle),
                    (front + back) / 2 + grow * (back - front) / 2 * np.sin(angle),
                    np.full(_ROUND, z),
                ],
                1,
            )
        )
    rest = np.concatenate(points)
    left = _smooth(0.5 + 0.5 * rest[:, 0] / (np.abs(rest[:, 0]).max() * 0.9))
    down = np.repeat(
        _smooth((waist - rows * (waist - hem) - hip + 0.02) / (hem - hip - 0.02 + 1e-6) if hem < hip else rows * 0),
        _ROUND,
    )
    legs = np.clip(down * 1.3, 0, 0.95)
    below = np.clip((knee - rest[:, 2]) / max(knee - ankle, 1e-3), 0, 1) * 0.7
    weights = np.stack(
        [
            1 - legs,
            legs * left * (1 - below),
            legs * (1 - left) * (1 - below),
            legs * left * below,
            legs * (1 - left) * below,
        ],
        1,
    )
    names = ("root", "upperleg02.L", "upperleg02.R", "lowerleg01.L", "lowerleg01.R")
    return _garment(
        rest, _tube(_ROUND, _ROWS, True), weights, [data.bone(name) for name in names], SLOTS.index("bottom")
    )


def _long_hair(outfit: Outfit, shape: Shape) -> Garment:
    data = body_data()
    head = shape.vertices[(vertex_parts() == HEAD) & (vertex_fields()[:, 3] > 0.0)]
    low, high = head.min(0), head.max(0)
    middle, half = (low + high) / 2, (high - low) / 2
    top = low[2] + 0.62 * (high[2] - low[2])
    angle = np.linspace(-0.62 * np.pi, 0.62 * np.pi, _ROUND) + np.pi / 2
    points, rows = [], np.linspace(0, 1, _ROWS)
    drop = (top - low[2]) + outfit.long_hair * shape.height / 1.7
    for t in rows:
        grow = 1.05 + 0.12 * np.sin(np.pi * min(1, 1.3 * t)) - 0.05 * t
        points.append(
            np.stack(
                [
                    middle[0] + grow * half[0] * np.cos(angle),
                    middle[1] + grow * half[1] * np.sin(angle),
                    np.full(_ROUND, top - drop * t),
                ],
                1,
            )
        )
    rest = np.concatenate(points)
    neck = heads_z(shape, "neck02")
    chest = np.clip((neck - rest[:, 2]) / (0.12 * shape.height), 0, 1)
    weights = np.stack([1 - 0.85 * chest, 0.5 * chest, 0.35 * chest], 1)
    return _garment(
        rest,
        _tube(_ROUND, _ROWS, False),
        weights,
        [data.bone(n) for n in ("head", "neck01", "spine01")],
        SLOTS.index("hair"),
    )


def heads_z(shape: Shape, bone: str) -> float:
    """Height m of a bone's head in the rest pose."""
    return float(shape.bone_heads[body_data().bone(bone)][2])


def _garment(rest: Floats, faces: NDArray[np.int32], weights: Floats, bones: list[int], slot: int) -> Garment:
    """Weights sorted as skinning wants them: heaviest first."""
    order = np.argsort(-weights, axis=1)
    return Garment(
        rest.astype(np.float32),
        faces,
        rest.astype(np.float32),
        np.take_along_axis(weights, order, 1).astype(np.float32),
        np.array(bones, np.int32)[order],
        slot,
    )


@functools.cache
def _tube(columns: int, rows: int, closed: bool) -> NDArray[np.int32]:
    faces = []
    for r in range(rows - 1):
        for c in range(columns if closed else columns - 1):
            a, b = r * columns + c, r * columns + (c + 1) % columns
            faces += [[a, b, a + columns], [b, b + columns, a + columns]]
    return np.array(faces, np.int32)


def _smooth(x: Floats) -> Floats:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
