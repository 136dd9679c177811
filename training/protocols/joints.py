"""Joints between skeletons, by name: nothing is guessed, and what is lacking is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.errors import InputError
from training.data import mpi_inf_3dhp

Floats = NDArray[np.floating]

SEVENTEEN = mpi_inf_3dhp.JOINTS
# Those that 3DHP and MuPoTS judge: without the root, and those along the spine that networks place differently.
FOURTEEN = SEVENTEEN[:14]
# (joint, its parent), from the hips outwards, as the official MuPoTS script rescales bones.
BONES = (
    ("spine", "pelvis"),
    ("neck", "spine"),
    ("head_top", "neck"),
    ("head", "neck"),
    ("right_shoulder", "neck"),
    ("right_elbow", "right_shoulder"),
    ("right_wrist", "right_elbow"),
    ("left_shoulder", "neck"),
    ("left_elbow", "left_shoulder"),
    ("left_wrist", "left_elbow"),
    ("right_hip", "pelvis"),
    ("right_knee", "right_hip"),
    ("right_ankle", "right_knee"),
    ("left_hip", "pelvis"),
    ("left_knee", "left_hip"),
    ("left_ankle", "left_knee"),
)


def picked(joints: NDArray[Any], names: Sequence[str], wanted: Sequence[str], whose: str) -> NDArray[Any]:
    """joints [N,J,...] of ``names`` as [N,len(wanted),...]. Raises InputError that names the joints lacking."""
    lacking = [name for name in wanted if name not in names]
    if lacking:
        raise InputError(
            f"{whose} lacks joints of this protocol: {', '.join(lacking)}; give poses of a skeleton that has them, "
            "or restrict the protocol with --common-joints, which is then no longer comparable with published figures."
        )
    return joints[:, [list(names).index(name) for name in wanted]]


def common(*skeletons: Sequence[str]) -> tuple[str, ...]:
    """The joints that all have, in the first one's order. Raises InputError where there are fewer than four."""
    shared = tuple(name for name in skeletons[0] if all(name in names for names in skeletons[1:]))
    if len(shared) < 4:
        raise InputError(f"The skeletons share only {len(shared)} joint names ({', '.join(shared)}): four are needed.")
    return shared


def root_of(names: Sequence[str]) -> Floats:
    """[J] weights of the root: the pelvis, or the middle of the hips where there is none. Raises InputError."""
    weights = np.zeros(len(names))
    for root in (("pelvis",), ("left_hip", "right_hip")):
        if all(name in names for name in root):
            for name in root:
                weights[list(names).index(name)] = 1 / len(root)
            return weights
    raise InputError("Poses have neither a pelvis nor both hips: one of them is needed as root.")


def with_bone_lengths_of(poses: Floats, truth: Floats, names: Sequence[str]) -> Floats:
    """poses [N,J,3] with each bone's direction kept and its length taken from truth [N,J,3], the root where it was.

    Bones without both ends stay as they are: a joint whose parent is lacking keeps its place.
    """
    rescaled = np.array(poses, np.float64)
    row = {name: i for i, name in enumerate(names)}
    for name, parent in BONES:
        if name in row and parent in row:
            j, p = row[name], row[parent]
            bone = poses[:, j] - poses[:, p]
            length = np.linalg.norm(bone, axis=-1, keepdims=True)
            wanted = np.linalg.norm(truth[:, j] - truth[:, p], axis=-1, keepdims=True)
            rescaled[:, j] = rescaled[:, p] + bone * (wanted / np.maximum(length, 1e-9))
    return rescaled
