"""The body model's arrays, taken once from `anny` and kept in a file, so that workers start fast and without torch.

World of the model: x to the person's left, y backward (the person faces -y), z up; metres.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_VERSION = 2
# Anny's coco keypoints that become joints or help to place them.
KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_big_toe",
    "right_big_toe",
    "left_heel",
    "right_heel",
)


@dataclass(frozen=True, eq=False)
class BodyData:
    """template [V,3] m; faces [F,3]; blendshapes [K,V,3]; bone_heads [B,3] and their blendshapes [K,B,3]; parents [B];
    bone_names [B]; skin_weights [V,W] and skin_bones [V,W], heaviest first; phenotype_masks [M,P] and
    phenotype_projection [M,K] as in anny's phenotype model; anchors_* per phenotype; keypoint_weights [N,V]."""

    template: NDArray[np.float32]
    faces: NDArray[np.int32]
    blendshapes: NDArray[np.float32]
    bone_heads: NDArray[np.float32]
    bone_heads_blendshapes: NDArray[np.float32]
    parents: NDArray[np.int32]
    bone_names: NDArray[np.str_]
    skin_weights: NDArray[np.float32]
    skin_bones: NDArray[np.int32]
    phenotype_masks: NDArray[np.float32]
    phenotype_projection: NDArray[np.float32]
    anchors_age: NDArray[np.float32]
    keypoint_weights: NDArray[np.float32]

    def bone(self, name: str) -> int:
        return _bone_numbers()[name]


def cache_folder() -> Path:
    """Where built data lies: $TRAINING_CACHE, or .cache/synthetic of the checkout."""
    default = Path(__file__).resolve().parents[2] / ".cache" / "synthetic"
    folder = Path(os.environ.get("TRAINING_CACHE", default))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def body_folder() -> Path:
    return cache_folder() / f"body_v{_VERSION}"


@functools.cache
def body_data() -> BodyData:
    """The arrays, from the cache file or, at the first call on a machine (two minutes), from anny."""
    folder = body_folder()
    if not (folder / "complete").exists():
        _extract(folder)
    arrays = {field.name: np.load(folder / f"{field.name}.npy", mmap_mode="r") for field in fields(BodyData)}
    return BodyData(**{name: array if name == "blendshapes" else np.array(array) for name, array in arrays.items()})


@functools.cache
def _bone_numbers() -> dict[str, int]:
    return {str(name): i for i, name in enumerate(body_data().bone_names)}


def _extract(folder: Path) -> None:
    import anny  # type: ignore[import-untyped]
    from anny.keypoints import KeypointsRegressor  # type: ignore[import-untyped]

    model = anny.Anny(phenotypes="all")
    weights = model.vertex_bone_weights.numpy()
    order = np.argsort(-weights, axis=1)[:, :6]
    weights = np.take_along_axis(weights, order, 1)
    arrays = {
        "template": model.template_vertices,
        "faces": model.faces.numpy().astype(np.int32),
        "blendshapes": model.blendshapes,
        "bone_heads": model.template_bone_heads,
        "bone_heads_blendshapes": model.bone_heads_blendshapes,
        "parents": np.array(model.bone_parents, np.int32),
        "bone_names": np.array(model.bone_labels),
        "skin_weights": weights / weights.sum(1, keepdims=True),
        "skin_bones": np.take_along_axis(model.vertex_bone_indices.numpy(), order, 1).astype(np.int32),
        "phenotype_masks": model.stacked_phenotype_blend_shapes_mask,
        "phenotype_projection": model.phenotype_blendshape_projection,
        "anchors_age": model.anchors["age"],
        "keypoint_weights": KeypointsRegressor.coco(model, list(KEYPOINTS)).regression_weights,
    }
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    part.mkdir(exist_ok=True)
    for name, array in arrays.items():
        array = np.asarray(array)
        np.save(part / f"{name}.npy", array.astype(np.float32) if array.dtype == np.float64 else array)
    (part / "complete").touch()
    try:
        part.rename(folder)
    except OSError:  # another process was first
        if not (folder / "complete").exists():
            raise
