"""What is no human pose, and which of several poses are the same person."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Pose NMS of the released code: similarity over the quarter of the joints that differ most, each worth nothing from
# this distance on.
_SAME_JOINT_M = 0.3
_SAME_POSE = 0.4
# In the image two people never cover each other to within this part of their size in every joint, whereas two crops
# of one far person can disagree by more than _SAME_JOINT_M in depth.
_SAME_IMAGE = 0.12


def in_front(joints3d: Floats) -> NDArray[np.bool_]:
    """[N,J,3] m -> [N]: finite, and most of the body before the camera."""
    finite = np.isfinite(joints3d).all((1, 2))
    return finite & (np.median(np.nan_to_num(joints3d[..., 2]), axis=1) > 0.1)


def kept_by_nms(joints3d: Floats, joints2d: Floats, scores: Floats) -> NDArray[np.intp]:
    """Indices, best first, of poses [N,J,3] m / [N,J,2] px that repeat no better-scored one."""
    order = np.argsort(-scores, kind="stable")
    same = (_similarity(joints3d) > _SAME_POSE) | (_image_distance(joints2d) < _SAME_IMAGE)
    kept: list[int] = []
    for i in order:
        if not same[i, kept].any():
            kept.append(int(i))
    return np.array(kept, np.intp)


def _similarity(joints3d: Floats) -> Floats:
    """[N,N]: mean of relu(1 - d / 0.3 m) over the J/4 largest joint distances."""
    distances = np.linalg.norm(joints3d[:, None] - joints3d[None], axis=-1)
    count = max(1, joints3d.shape[1] // 4)
    largest = np.sort(distances, axis=-1)[..., -count:]
    return np.maximum(0, 1 - largest / _SAME_JOINT_M).mean(-1)


def _image_distance(joints2d: Floats) -> Floats:
    """[N,N]: mean distance of the joints in the image over the larger person's size; inf where none can be compared."""
    both = np.isfinite(joints2d).all(-1)
    points = np.where(both[..., None], joints2d, 0.0)
    shared = both[:, None] & both[None]
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    count = shared.sum(-1)
    mean = (distances * shared).sum(-1) / np.maximum(count, 1)
    size = np.array([np.ptp(p[ok], axis=0).max() if ok.any() else 0.0 for p, ok in zip(points, both, strict=True)])
    larger = np.maximum(np.maximum(size[:, None], size[None]), 1.0)
    return np.where(count > 0, mean / larger, np.inf)
