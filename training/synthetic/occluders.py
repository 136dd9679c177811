"""Things that stand about: boxes, tables, posts and panels as meshes in the scene, in front of people now and then."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

_CUBE = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0.0, 1.0)])
_CUBE_FACES = np.array(
    [
        [0, 1, 3],
        [0, 3, 2],
        [4, 6, 7],
        [4, 7, 5],
        [0, 4, 5],
        [0, 5, 1],
        [2, 3, 7],
        [2, 7, 6],
        [1, 5, 7],
        [1, 7, 3],
        [0, 2, 6],
        [0, 6, 4],
    ],
    np.int32,
)


@dataclass(frozen=True, eq=False)
class Thing:
    """points [V,3] m in the world, faces [F,3], flat normals [V,3]."""

    points: NDArray[np.float32]
    faces: NDArray[np.int32]
    normals: NDArray[np.float32]


def sampled_things(rng: np.random.Generator, target: Floats, eye: Floats) -> list[Thing]:
    """Furniture about the person at ``target`` [3] m, and sometimes something between them and the camera."""
    things = []
    for _ in range(rng.choice([0, 1, 2, 4], p=[0.4, 0.25, 0.2, 0.15])):
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 3.5)
        place = target[:2] + radius * np.array([np.cos(angle), np.sin(angle)])
        if np.linalg.norm(place - eye[:2]) > 0.8:
            things.append(_thing(rng, place))
    if rng.random() < 0.3:
        toward = (eye - target)[:2]
        distance = np.linalg.norm(toward)
        if distance > 0.9:
            along = toward / distance
            place = (
                target[:2]
                + along * min(rng.uniform(0.4, 0.9), 0.6 * distance)
                + np.array([-along[1], along[0]]) * rng.normal(0, 0.25)
            )
            things.append(_thing(rng, place))
    return things


def seat_under(rng: np.random.Generator, joints: Floats, height: float) -> Thing | None:
    """Something to sit on under somebody whose joints [J,3] m are given; None where they sit on the floor."""
    hips = joints[:3].mean(0)
    top = hips[2] - 0.07 * height
    if top < 0.12:
        return None
    forward = joints[3:5].mean(0)[:2] - hips[:2]
    turn = np.arctan2(forward[0], -forward[1])
    width, depth = rng.uniform(0.38, 0.6) if rng.random() < 0.7 else rng.uniform(0.8, 2.0), rng.uniform(0.35, 0.55)
    kind = rng.random()
    if kind < 0.4:
        parts = [(0.0, 0.0, 0.0, width, depth, top)]
    else:
        parts = [(x, y, 0.0, 0.04, 0.04, top) for x in (-width / 2, width / 2) for y in (-depth / 2, depth / 2)]
        parts.append((0.0, 0.0, top - 0.05, width + 0.04, depth + 0.04, 0.05))
    if kind > 0.5:
        parts.append((0.0, depth / 2, top, width, 0.04, rng.uniform(0.25, 0.55)))
    return boxes(parts, turn, hips[:2])


def _thing(rng: np.random.Generator, place: Floats) -> Thing:
    turn = rng.uniform(0, np.pi)
    kind = rng.choice(["box", "table", "post", "panel", "chair", "round"])
    if kind == "box":
        return boxes([(0, 0, 0, *rng.uniform(0.2, 1.0, 2), rng.uniform(0.2, 1.1))], turn, place)
    if kind == "post":
        width = rng.uniform(0.04, 0.25)
        return boxes([(0, 0, 0, width, width, rng.uniform(1.0, 3.0))], turn, place)
    if kind == "panel":
        return boxes([(0, 0, 0, rng.uniform(0.4, 1.6), 0.04, rng.uniform(0.5, 1.5))], turn, place)
    if kind == "round":
        return _round(rng.uniform(0.05, 0.4), rng.uniform(0.3, 1.6), place)
    width, depth = rng.uniform(0.4, 1.6), rng.uniform(0.4, 0.9)
    height = rng.uniform(0.4, 1.0)
    if kind == "chair":
        width, depth, height = 0.45, 0.45, 0.45
    legs = [
        (sx * (width / 2 - 0.03), sy * (depth / 2 - 0.03), 0, 0.05, 0.05, height) for sx in (-1, 1) for sy in (-1, 1)
    ]
    parts = [*legs, (0, 0, height, width, depth, 0.04)]
    if kind == "chair":
        parts.append((0, 0.2, height, width, 0.04, 0.5))
    return boxes(parts, turn, place)


def boxes(parts: Sequence[tuple[float, ...]], turn: float, place: Floats) -> Thing:
    """(x, y, z, width, depth, height) boxes, turned about z and put at ``place`` [2]."""
    points, faces = [], []
    for number, (x, y, z, width, depth, height) in enumerate(parts):
        corners = _CUBE * [width, depth, height] + [x, y, z]
        points.append(corners[_CUBE_FACES.ravel()])
        faces.append(np.arange(36, dtype=np.int32).reshape(12, 3) + 36 * number)
    c, s = np.cos(turn), np.sin(turn)
    flat = np.concatenate(points) @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + [*place, 0]
    return _flat_shaded(flat, np.concatenate(faces))


def _round(radius: float, height: float, place: Floats) -> Thing:
    angles = np.linspace(0, 2 * np.pi, 17)
    points = []
    for a, b in itertools.pairwise(angles):
        p, q = np.array([np.cos(a), np.sin(a)]) * radius, np.array([np.cos(b), np.sin(b)]) * radius
        points += [
            [*p, 0],
            [*q, 0],
            [*q, height],
            [*p, 0],
            [*q, height],
            [*p, height],
            [0, 0, height],
            [*p, height],
            [*q, height],
        ]
    flat = np.array(points) + [*place, 0]
    return _flat_shaded(flat, np.arange(len(flat), dtype=np.int32).reshape(-1, 3))


def _flat_shaded(points: Floats, faces: NDArray[np.int32]) -> Thing:
    corners = points[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    return Thing(points.astype(np.float32), faces, np.repeat(normals, 3, 0).astype(np.float32))
