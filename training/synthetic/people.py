"""A person in the world: a shape in a pose and in clothes, standing on the floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.synthetic import clothes, poses
from training.synthetic.bodies import Shape, joints, skinned
from training.synthetic.body_data import body_data
from training.synthetic.clothes import Outfit
from training.synthetic.collision import overlap
from training.synthetic.garments import Garment, garments_of
from training.synthetic.kinematics import pose_bones
from training.synthetic.render import vertex_normals

Floats = NDArray[np.floating]
_TRIES = 4
# Deepest overlap of capsules that still looks like touching, as part of the body's height.
_TOUCHING = 0.012


@dataclass(frozen=True, eq=False)
class Person:
    """points [V,3] m (clothed surface) and joints [J,3] m in the world; loose garments with their points there; shape,
    outfit, family of the pose."""

    points: NDArray[np.float32]
    joints: NDArray[np.float64]
    loose: tuple[tuple[Garment, NDArray[np.float32]], ...]
    shape: Shape
    outfit: Outfit
    family: str

    def moved(self, by: Floats) -> Person:
        """The same person elsewhere: by [3] m."""
        step = by.astype(np.float32)
        loose = tuple((garment, points + step) for garment, points in self.loose)
        return replace(self, points=self.points + step, joints=self.joints + by, loose=loose)

    def turned(self, yaw: float) -> Person:
        """The same person turned by yaw rad about the world's vertical through the origin."""
        turn = _about_vertical(yaw)
        flat = turn.T.astype(np.float32)
        loose = tuple((garment, points @ flat) for garment, points in self.loose)
        return replace(self, points=self.points @ flat, joints=self.joints @ turn.T, loose=loose)

    def normals(self) -> NDArray[np.float32]:
        """[V,3] outward unit normals of the clothed surface."""
        return vertex_normals(self.points, body_data().faces)


def sampled_person(
    rng: np.random.Generator, shape: Shape, held_out: bool, families: Sequence[str] | None = None
) -> Person:
    """Somebody dressed, in a pose (of these families) that does not go through itself, above the world's origin."""
    best: tuple[float, Floats, str] | None = None
    for _ in range(_TRIES):
        angles, family = poses.sampled_pose(rng, held_out, families)
        _, positions = pose_bones(angles, shape.bone_heads, shape.height)
        depth = overlap(positions, shape.height)
        if best is None or depth < best[0]:
            best = (depth, angles, family)
        if depth < _TOUCHING * shape.height:
            break
    assert best is not None
    _, angles, family = best
    outfit = clothes.sampled_outfit(rng, shape, held_out)
    airborne = float(rng.uniform(0, 0.45)) if family == "jumping" else 0.0
    return posed_person(shape, outfit, angles, family, rng.uniform(0, 2 * np.pi), airborne)


def posed_person(
    shape: Shape, outfit: Outfit, angles: Floats, family: str, yaw: float, airborne: float = 0.0
) -> Person:
    """A given person in a given pose [len(ANGLES)], turned by yaw rad, pelvis above the origin, lowest point on the
    floor or ``airborne`` m above it."""
    data = body_data()
    rotations, positions = pose_bones(angles, shape.bone_heads, shape.height)
    bare = skinned(shape.vertices, rotations, positions, shape.bone_heads, data.skin_weights, data.skin_bones)
    clothed = skinned(
        clothes.dressed(outfit, shape), rotations, positions, shape.bone_heads, data.skin_weights, data.skin_bones
    )
    skeleton = joints(shape, bare, rotations, positions)
    turn = _about_vertical(yaw)
    middle = turn @ np.array([*skeleton[0, :2], 0.0])
    move = np.array([0.0, 0.0, airborne - float(clothed[:, 2].min())]) - middle
    loose = []
    for garment in garments_of(outfit, shape):
        points = skinned(garment.rest, rotations, positions, shape.bone_heads, garment.weights, garment.bones)
        loose.append((garment, (points @ turn.T + move).astype(np.float32)))
    surface = (clothed @ turn.T + move).astype(np.float32)
    return Person(surface, skeleton @ turn.T + move, tuple(loose), shape, outfit, family)


def _about_vertical(yaw: float) -> Floats:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
