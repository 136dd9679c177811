"""A scene through a pinhole camera: linear light, and which joints of whom are seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.skeleton import JOINT_NAMES
from training.synthetic.backdrop import photo_behind
from training.synthetic.body_data import body_data
from training.synthetic.fields import face_parts, pattern_points, vertex_fields
from training.synthetic.people import Person
from training.synthetic.render import Buffers, rasterized, shadow_map, vertex_normals
from training.synthetic.scene import Scene
from training.synthetic.shading import shade

Floats = NDArray[np.floating]

_SHADOW_SIDE = 224
_SHADOW_RADIUS = 2.2
# How deep, m at 1.7 m of height, a joint lies under the surface when nothing hides it.
_DEPTHS = {
    "pelvis": 0.18,
    "hip": 0.16,
    "knee": 0.1,
    "ankle": 0.08,
    "heel": 0.07,
    "foot": 0.06,
    "spine": 0.18,
    "neck": 0.13,
    "head_top": 0.1,
    "nose": 0.05,
    "eye": 0.045,
    "ear": 0.06,
    "shoulder": 0.11,
    "elbow": 0.08,
    "wrist": 0.06,
    "hand": 0.06,
}
_MARGIN = np.array([_DEPTHS[name.removeprefix("left_").removeprefix("right_")] for name in JOINT_NAMES])


@dataclass(frozen=True, eq=False)
class Picture:
    """linear [H,W,3] float32 light; buffers; owners of triangles: number of the person, or their count for things."""

    linear: NDArray[np.float32]
    buffers: Buffers
    owners: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class _Meshes:
    points: NDArray[np.float32]
    normals: NDArray[np.float32]
    patterns: NDArray[np.float32]
    fields: NDArray[np.float32]
    faces: NDArray[np.int32]
    parts: NDArray[np.uint8]
    closed: NDArray[np.bool_]
    owners: NDArray[np.int32]
    params: NDArray[np.float32]
    people: NDArray[np.int32]


def rendered(scene: Scene, K: Floats, R_cam_world: Floats, size: tuple[int, int]) -> Picture:
    """The scene from its camera's place through a pinhole K [3,3] px, turned by R_cam_world, on (width, height) px."""
    eye = scene.view.eye
    inside = [i for i, person in enumerate(scene.people) if _may_be_seen(person, eye, R_cam_world, K, size)]
    meshes = _gathered(scene, inside)
    in_camera = ((meshes.points - eye.astype(np.float32)) @ R_cam_world.T.astype(np.float32)).astype(np.float32)
    buffers = rasterized(in_camera, meshes.faces, meshes.closed, K, size)
    center = scene.people[0].joints.mean(0)
    casters = _casters(scene, center)
    shadow, to_map = _map_of(*casters, center, scene.light.to_sun, _SHADOW_SIDE)
    overhead, over_map = _map_of(*casters, center, np.array([0.05, 0.03, 1.0]), 96)
    spread = scene.light.softness / (2 * _SHADOW_RADIUS) * _SHADOW_SIDE
    light = np.stack([scene.light.to_sun, scene.light.sun, scene.light.sky, scene.light.ground])
    linear = shade(
        buffers.depth,
        buffers.triangle,
        buffers.second,
        buffers.third,
        np.asarray(K, np.float64),
        np.ascontiguousarray(R_cam_world.T),
        np.asarray(eye, np.float64),
        meshes.points,
        meshes.normals,
        meshes.patterns,
        meshes.fields,
        meshes.faces,
        meshes.parts,
        meshes.owners,
        meshes.params,
        light,
        shadow,
        to_map,
        spread,
        overhead,
        over_map,
        scene.backdrop.numbers,
        scene.backdrop.tints,
        photo_behind(scene.backdrop, K, R_cam_world.T, size),
        scene.backdrop.textures,
    )
    return Picture(linear, buffers, meshes.people[meshes.owners])


def visible_joints(picture: Picture, person: Person, points: Floats, pixels: Floats) -> NDArray[np.bool_]:
    """[J]: in front of all at their pixel but their own flesh; points [J,3] m and pixels [J,2] of this picture."""
    height, width = picture.buffers.depth.shape
    rounded = np.round(np.nan_to_num(pixels, nan=-1e6)).astype(int)
    inside = (rounded >= 0).all(1) & (rounded < [width, height]).all(1) & (points[:, 2] > 0)
    x, y = rounded.clip(0, [width - 1, height - 1]).T
    step = np.array([-1, 0, 1])
    rows = (y[:, None, None] + step[:, None]).clip(0, height - 1)
    columns = (x[:, None, None] + step).clip(0, width - 1)
    near = np.sort(picture.buffers.depth[rows, columns].reshape(len(points), -1), axis=1)[:, 4]
    return inside & (near > points[:, 2] - _MARGIN * person.shape.height / 1.7)


def _may_be_seen(person: Person, eye: Floats, R: Floats, K: Floats, size: tuple[int, int]) -> bool:
    points = (person.joints - eye) @ R.T
    if points[:, 2].max() < 0.1:
        return False
    if points[:, 2].min() < 0.3:
        return True
    flat = points[:, :2] / points[:, 2:] * [K[0, 0], K[1, 1]] + K[:2, 2]
    margin = 0.25 * person.shape.height * K[0, 0] / points[:, 2].min()
    return bool((flat.max(0) > -margin).all() and (flat.min(0) < np.array(size) + margin).all())


class _Pile:
    """Meshes being put together; an owner is a row of surface parameters."""

    def __init__(self) -> None:
        self.columns: list[list[NDArray[Any]]] = [[] for _ in range(8)]
        self.params: list[NDArray[np.float32]] = []
        self.people: list[int] = []
        self.start = 0

    def add(
        self,
        points: Floats,
        normals: Floats,
        patterns: Floats,
        fields: Floats,
        faces: NDArray[np.int32],
        parts: NDArray[np.uint8],
        closed: bool,
        params: NDArray[np.float32],
        person: int,
    ) -> None:
        count = len(faces)
        row: tuple[NDArray[Any], ...] = (
            points,
            normals,
            patterns,
            fields,
            faces + np.int32(self.start),
            parts,
            np.full(count, closed),
            np.full(count, len(self.params), np.int32),
        )
        for column, array in zip(self.columns, row, strict=True):
            column.append(array)
        self.params.append(params)
        self.people.append(person)
        self.start += len(points)

    def meshes(self) -> _Meshes:
        points, normals, patterns, fields, faces, parts, closed, owners = (np.concatenate(c) for c in self.columns)
        people = np.array(self.people, np.int32)
        return _Meshes(points, normals, patterns, fields, faces, parts, closed, owners, np.stack(self.params), people)


def _gathered(scene: Scene, inside: list[int]) -> _Meshes:
    """People, their loose garments and things as one mesh."""
    pile = _Pile()
    for i in inside:
        person = scene.people[i]
        params = person.outfit.params
        pile.add(
            person.points,
            person.normals(),
            pattern_points(),
            vertex_fields(),
            body_data().faces,
            face_parts(),
            True,
            params,
            i,
        )
        for garment, points in person.loose:
            of_slot = params.copy()
            of_slot[0] = garment.slot + 1
            normals = vertex_normals(points, garment.faces)
            fields = np.zeros((len(points), 4), np.float32)
            pile.add(
                points,
                normals,
                garment.patterns,
                fields,
                garment.faces,
                _no_parts(len(garment.faces)),
                False,
                of_slot,
                i,
            )
    for thing, params in zip(scene.things, scene.thing_params, strict=True):
        fields = np.zeros((len(thing.points), 4), np.float32)
        pile.add(
            thing.points,
            thing.normals,
            thing.points,
            fields,
            thing.faces,
            _no_parts(len(thing.faces)),
            True,
            params,
            len(scene.people),
        )
    if not pile.params:
        corner = np.full((3, 3), -1e3, np.float32)
        pile.add(
            corner,
            corner,
            corner,
            np.zeros((3, 4), np.float32),
            np.array([[0, 1, 2]], np.int32),
            _no_parts(1),
            True,
            scene.people[0].outfit.params,
            0,
        )
    return pile.meshes()


def _no_parts(count: int) -> NDArray[np.uint8]:
    return np.zeros(count, np.uint8)


def _map_of(
    casters: NDArray[np.float32], faces: NDArray[np.int32], center: Floats, toward: Floats, side: int
) -> tuple[NDArray[np.float32], Floats]:
    """Shadow map of casters [V,3] m about ``center`` [3] for light from ``toward`` [3], and world -> map [3,4]."""
    forward = -np.asarray(toward) / np.linalg.norm(toward)
    right = np.cross(forward, [0.0, 0.0, 1.0] if abs(forward[2]) < 0.95 else [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    R = np.stack([right, np.cross(forward, right), forward])
    scale = side / (2 * _SHADOW_RADIUS)
    to_map = np.concatenate([R, (-R @ center)[:, None]], 1)
    to_map[:2] *= scale
    to_map[:2, 3] += side / 2
    points = casters @ to_map[:, :3].T.astype(np.float32) + to_map[:, 3].astype(np.float32)
    return shadow_map(points, faces, side), to_map


def _casters(scene: Scene, center: Floats) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Points [V,3] m and faces [F,3] of everybody near ``center`` [3] and of all things."""
    meshes: list[tuple[NDArray[np.float32], NDArray[np.int32]]] = []
    for person in scene.people:
        if np.linalg.norm(person.joints.mean(0) - center) < 2 * _SHADOW_RADIUS:
            meshes += [
                (person.points, body_data().faces),
                *((points, garment.faces) for garment, points in person.loose),
            ]
    meshes += [(thing.points, thing.faces) for thing in scene.things]
    starts = np.cumsum([0, *(len(points) for points, _ in meshes)])
    faces = [faces + np.int32(start) for (_, faces), start in zip(meshes, starts, strict=False)]
    return np.concatenate([points for points, _ in meshes]), np.concatenate(faces)
