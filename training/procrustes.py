"""The best similarity transform from one pose onto another: rotation without reflection, scale and translation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def aligned(poses: Floats, truth: Floats, scale: bool = True) -> Floats:
    """poses [N,J,3] turned, scaled (unless not ``scale``) and moved onto truth [N,J,3], least squares, m.

    Joints that are NaN in either take no part in the fit; a pose with fewer than three joints that do is NaN.
    """
    used = np.isfinite(poses).all(-1) & np.isfinite(truth).all(-1)
    count = used.sum(1)
    share = (used / np.maximum(count, 1)[:, None])[..., None]
    mean_pose, mean_truth = (np.where(used[..., None], p, 0.0).astype(np.float64) * share for p in (poses, truth))
    mean_pose, mean_truth = mean_pose.sum(1, keepdims=True), mean_truth.sum(1, keepdims=True)
    centred = np.where(used[..., None], poses - mean_pose, 0.0)
    target = np.where(used[..., None], truth - mean_truth, 0.0)
    U, S, Vt = np.linalg.svd(np.einsum("njr,njc->nrc", target, centred))
    signs = np.ones_like(S)
    signs[:, 2] = np.where(np.linalg.det(U @ Vt) < 0, -1.0, 1.0)
    R = (U * signs[:, None]) @ Vt
    spread = np.square(centred).sum((1, 2))
    factor = (S * signs).sum(1) / np.maximum(spread, 1e-18) if scale else np.ones(len(S))
    moved = factor[:, None, None] * np.einsum("nrc,njc->njr", R, poses - mean_pose) + mean_truth
    return np.where((count >= 3)[:, None, None], moved, np.nan)
