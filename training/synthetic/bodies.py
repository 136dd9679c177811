"""People's shapes: sampled phenotypes, their rest meshes and bones, and posed meshes with the skeleton's joints."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from training.skeleton import JOINT_NAMES
from training.synthetic.body_data import KEYPOINTS, BodyData, body_data
from training.synthetic.render import vertex_normals

Floats = NDArray[np.floating]

# Order of anny's phenotype variations: the columns of its masks.
_ANCHORS_2 = np.array([0.0, 1.0])
_ANCHORS_3 = np.array([0.0, 0.5, 1.0])
# Femur heads lie nearer to the middle than the rig's leg bones begin.
_HIP_INSET = 0.84

_BONE_JOINTS = {
    "spine": "spine02",
    "neck": "neck01",
    "left_knee": "lowerleg01.L",
    "right_knee": "lowerleg01.R",
    "left_ankle": "foot.L",
    "right_ankle": "foot.R",
    "left_shoulder": "upperarm01.L",
    "right_shoulder": "upperarm01.R",
    "left_elbow": "lowerarm01.L",
    "right_elbow": "lowerarm01.R",
    "left_wrist": "wrist.L",
    "right_wrist": "wrist.R",
}
_KEYPOINT_JOINTS = {
    "nose": "nose",
    "left_eye": "left_eye",
    "right_eye": "right_eye",
    "left_ear": "left_ear",
    "right_ear": "right_ear",
    "left_heel": "left_heel",
    "right_heel": "right_heel",
    "left_foot": "left_big_toe",
    "right_foot": "right_big_toe",
}


@dataclass(frozen=True)
class Phenotype:
    """anny's parameters; age -1/3 newborn, 0 baby, 1/3 child, 2/3 young, 1 old; the others 0..1; gender 0 male."""

    gender: float
    age: float
    muscle: float
    weight: float
    height: float
    proportions: float
    cupsize: float
    firmness: float
    african: float
    asian: float
    caucasian: float


@dataclass(frozen=True, eq=False)
class Shape:
    """One person standing in the rest pose: vertices and normals [V,3], the surface cloth would take draped
    [V,3] (hollows filled), bone_heads [B,3] m, height m."""

    phenotype: Phenotype
    vertices: NDArray[np.float32]
    normals: NDArray[np.float32]
    draped: NDArray[np.float32]
    bone_heads: NDArray[np.float64]
    height: float


def sampled_phenotype(rng: np.random.Generator) -> Phenotype:
    """A person as one meets them: mostly adults, with children, toddlers and elders."""
    kind = rng.random()
    if kind < 0.74:
        age, height = rng.uniform(0.56, 1.0), rng.normal(0.37, 0.085)
    elif kind < 0.93:
        age, height = rng.uniform(0.2, 0.56), rng.normal(0.42, 0.09)
    else:
        age, height = rng.uniform(-0.15, 0.2), rng.normal(0.5, 0.1)
    race = rng.dirichlet([0.5, 0.5, 0.5])
    gender = rng.beta(0.35, 0.35)
    return Phenotype(
        gender=float(gender),
        age=float(age),
        muscle=float(np.clip(rng.normal(0.5, 0.2), 0, 1)),
        weight=float(np.clip(rng.normal(0.52, 0.22), 0, 1)),
        height=float(np.clip(height, 0.1, 0.75)),
        proportions=float(rng.uniform(0, 1)),
        cupsize=float(np.clip(rng.normal(0.5, 0.2), 0, 1)),
        firmness=float(rng.uniform(0.2, 0.9)),
        african=float(race[0]),
        asian=float(race[1]),
        caucasian=float(race[2]),
    )


def shapes(phenotypes: list[Phenotype]) -> list[Shape]:
    """The rest meshes of a list of people (batched: cheaper than one by one)."""
    data = body_data()
    coefficients = np.stack([_phenotype_weights(data, p) for p in phenotypes]) @ data.phenotype_projection
    count = coefficients.shape[1]
    vertices = data.template + (coefficients @ data.blendshapes.reshape(count, -1)).reshape(len(phenotypes), -1, 3)
    heads = data.bone_heads + (coefficients @ data.bone_heads_blendshapes.reshape(count, -1)).reshape(
        len(phenotypes), -1, 3
    )
    return [
        Shape(p, v, n, _draped(v, n, *_neighbours()), h.astype(np.float64), float(np.ptp(v[:, 2])))
        for p, v, n, h in zip(
            phenotypes, vertices, (vertex_normals(v, data.faces) for v in vertices), heads, strict=True
        )
    ]


def skinned(
    vertices: NDArray[np.float32],
    rotations: Floats,
    positions: Floats,
    bone_heads: Floats,
    weights: Floats,
    bones: NDArray[np.int32],
) -> NDArray[np.float32]:
    """Rest vertices [N,3] -> posed [N,3] by linear blend skinning; rotations [B,3,3], positions [B,3] of the bones."""
    offsets = positions - np.einsum("bij,bj->bi", rotations, bone_heads)
    affine = np.concatenate([rotations, offsets[:, :, None]], 2).astype(np.float32)
    return _skin(vertices, affine, weights, bones)


def joints(shape: Shape, posed: NDArray[np.float32], rotations: Floats, positions: Floats) -> NDArray[np.float64]:
    """The skeleton's joints [J,3] m of a posed body whose vertices [V,3] and bones are given."""
    data = body_data()
    at_keypoints = dict(zip(KEYPOINTS, _keypoints(posed), strict=True))
    points: dict[str, Floats] = {name: positions[data.bone(bone)] for name, bone in _BONE_JOINTS.items()}
    points |= {name: at_keypoints[keypoint] for name, keypoint in _KEYPOINT_JOINTS.items()}
    root = data.bone("root")
    for side, suffix in (("left", "L"), ("right", "R")):
        rest = shape.bone_heads[data.bone(f"upperleg01.{suffix}")].copy()
        rest[0] *= _HIP_INSET
        points[f"{side}_hip"] = positions[root] + rotations[root] @ (rest - shape.bone_heads[root])
        knuckles = [positions[data.bone(f"finger{finger}-1.{suffix}")] for finger in (2, 3, 4, 5)]
        points[f"{side}_hand"] = np.mean(knuckles, 0)
    points["pelvis"] = (points["left_hip"] + points["right_hip"]) / 2
    points["head_top"] = posed[_crown_vertex()]
    return np.stack([points[name] for name in JOINT_NAMES]).astype(np.float64)


@functools.cache
def _crown_vertex() -> int:
    return int(np.argmax(body_data().template[:, 2]))


def _keypoints(posed: NDArray[np.float32]) -> Floats:
    """[N,3] keypoints as weighted vertices, by the few vertices that have weight."""
    columns, weights = _keypoint_weights()
    return weights @ posed[columns]


@functools.cache
def _keypoint_weights() -> tuple[NDArray[np.intp], Floats]:
    matrix = body_data().keypoint_weights
    columns = np.flatnonzero((matrix != 0).any(0))
    return columns, np.ascontiguousarray(matrix[:, columns])


def _hat(value: float, anchors: Floats) -> Floats:
    """Linear interpolation weights of a value between anchors."""
    value = float(np.clip(value, anchors[0], anchors[-1]))
    return np.array([np.interp(value, anchors, row) for row in np.eye(len(anchors))])


def _phenotype_weights(data: BodyData, p: Phenotype) -> Floats:
    races = np.array([p.african, p.asian, p.caucasian])
    columns = [
        races / races.sum(),
        _hat(p.gender, _ANCHORS_2),
        _hat(p.age, data.anchors_age),
        _hat(p.muscle, _ANCHORS_3),
        _hat(p.weight, _ANCHORS_3),
        _hat(p.height, _ANCHORS_2),
        _hat(p.proportions, _ANCHORS_2),
        _hat(p.cupsize, _ANCHORS_3),
        _hat(p.firmness, _ANCHORS_3),
    ]
    values = np.concatenate(columns).astype(np.float32)
    return np.prod(values * data.phenotype_masks + (1 - data.phenotype_masks), axis=1)


@functools.cache
def _neighbours() -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Vertices across an edge from each: (starts [V+1], numbers)."""
    faces = body_data().faces
    edges = np.unique(np.concatenate([faces[:, [i, j]] for i in range(3) for j in range(3) if i != j]), axis=0)
    starts = np.searchsorted(edges[:, 0], np.arange(len(body_data().template) + 1))
    return starts.astype(np.int32), edges[:, 1].astype(np.int32)


@numba.njit(cache=True, fastmath=True, nogil=True)
def _draped(vertices, normals, starts, numbers):  # type: ignore[no-untyped-def]
    """The surface smoothed so that hollows fill and bumps stay: cloth spans, it does not cut."""
    now = vertices.copy()
    after = vertices.copy()
    for _ in range(24):
        for i in range(vertices.shape[0]):
            count = starts[i + 1] - starts[i]
            if count == 0:
                continue
            x = y = z = np.float32(0)
            for k in range(starts[i], starts[i + 1]):
                x += now[numbers[k], 0]
                y += now[numbers[k], 1]
                z += now[numbers[k], 2]
            after[i, 0], after[i, 1], after[i, 2] = x / count, y / count, z / count
            out = (
                (after[i, 0] - vertices[i, 0]) * normals[i, 0]
                + (after[i, 1] - vertices[i, 1]) * normals[i, 1]
                + (after[i, 2] - vertices[i, 2]) * normals[i, 2]
            )
            if out < 0:
                for c in range(3):
                    after[i, c] -= np.float32(0.7) * out * normals[i, c]
        now, after = after, now
    return now


@numba.njit(cache=True, fastmath=True, nogil=True)
def _skin(vertices, affine, weights, bones):  # type: ignore[no-untyped-def]
    out = np.empty_like(vertices)
    for i in range(vertices.shape[0]):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        a = b = c = np.float32(0)
        for k in range(weights.shape[1]):
            w = weights[i, k]
            if w < 1e-3:
                break
            m = affine[bones[i, k]]
            a += w * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3])
            b += w * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3])
            c += w * (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3])
        out[i, 0], out[i, 1], out[i, 2] = a, b, c
    return out
