"""Measures of 3D poses: arrays in metres, NaN where there is no label; millimetres only where tables are printed.

Distances are NaN where the truth is unlabelled and inf where a labelled joint was not predicted: means skip those,
shares of correct joints count them as wrong.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training import procrustes

Floats = NDArray[np.floating]

PCK_M = 0.15
# The official scripts' 31 thresholds: every 5 mm from 0 to 150.
AUC_STEPS = 31


def distances(poses: Floats, truth: Floats) -> Floats:
    """[...,J,3] and [...,J,3] -> [...,J]."""
    missed = ~np.isfinite(poses).all(-1)
    unlabelled = ~np.isfinite(truth).all(-1)
    found = np.linalg.norm(np.nan_to_num(poses) - np.nan_to_num(truth), axis=-1)
    return np.where(unlabelled, np.nan, np.where(missed, np.inf, found))


def root_relative(poses: Floats, root: Floats) -> Floats:
    """poses [N,J,3] less their root; root [J]: weights of the joints whose mean it is, e.g. 1 at the pelvis."""
    used = root > 0
    return poses - np.einsum("j,njc->nc", root[used], poses[:, used])[:, None]


def mean_error(distance: Floats) -> float:
    """Mean of the finite distances; NaN where there are none. MPJPE, if the poses were aligned as it wants."""
    finite = distance[np.isfinite(distance)]
    return float(finite.mean()) if finite.size else float("nan")


def mpjpe(poses: Floats, truth: Floats, root: Floats) -> float:
    return mean_error(distances(root_relative(poses, root), root_relative(truth, root)))


def p_mpjpe(poses: Floats, truth: Floats) -> float:
    return mean_error(procrustes_distances(poses, truth))


def procrustes_distances(poses: Floats, truth: Floats) -> Floats:
    """[N,J]: distances after the best rotation, scale and translation of each pose."""
    return distances(procrustes.aligned(poses, truth), truth)


def a_mpjpe(poses: Floats, truth: Floats) -> float:
    return mean_error(distances(poses, truth))


def pck(distance: Floats, threshold: float = PCK_M) -> float:
    """Share of labelled joints nearer than ``threshold`` m (strictly, as the official scripts have it); NaN if none."""
    labelled = distance[~np.isnan(distance)]
    return float((labelled < threshold).mean()) if labelled.size else float("nan")


def auc(distance: Floats, limit: float = PCK_M, steps: int = AUC_STEPS) -> float:
    """Mean PCK over ``steps`` thresholds from 0 to ``limit`` m, both included."""
    labelled = np.sort(distance[~np.isnan(distance)])
    if not labelled.size:
        return float("nan")
    return float((np.searchsorted(labelled, np.linspace(0, limit, steps), side="left") / labelled.size).mean())


def root_points(poses: Floats, root: Floats) -> Floats:
    """[N,J,3] -> [N,3], root as in root_relative."""
    used = root > 0
    return np.einsum("j,njc->nc", root[used], poses[:, used])


def mrpe(roots: Floats, truth: Floats) -> Floats:
    """Mean root position error of [N,3] and [N,3] as [4]: Euclidean, then absolute along x, y and z."""
    known = np.isfinite(roots).all(-1) & np.isfinite(truth).all(-1)
    if not known.any():
        return np.full(4, np.nan)
    off = np.abs(roots[known] - truth[known])
    return np.concatenate([[np.linalg.norm(off, axis=-1).mean()], off.mean(0)])


def pck_root(roots: Floats, truth: Floats, threshold: float = PCK_M) -> float:
    """Share of people whose root is placed nearer than ``threshold`` m to where it is."""
    return pck(distances(roots, truth), threshold)


def depth_error(roots: Floats, truth: Floats) -> float:
    """Mean absolute error of the root's depth, m."""
    return float(mrpe(roots, truth)[3])


def relative_depth_bias(roots: Floats, truth: Floats) -> float:
    """Mean of (found - true) / true depth: +0.2 is "20 % too far"."""
    ratio = roots[..., 2] / truth[..., 2] - 1
    known = np.isfinite(ratio)
    return float(ratio[known].mean()) if known.any() else float("nan")


def pcod(depths: ArrayLike, truth: ArrayLike, images: ArrayLike, tolerance: float = 0.0) -> float:
    """Percentage of correct ordinal depth, as a share: of all pairs of people in one image, how many are in the right
    order. Root depths [N] and [N] m, images [N]. Pairs that truly differ by ``tolerance`` m or less count as equally
    far, and are right if they are found so. NaN where no image has two people; a person not found is wrong."""
    depths, truth, images = np.asarray(depths, float), np.asarray(truth, float), np.asarray(images)
    right, total = 0, 0
    for image in np.unique(images):
        rows = np.flatnonzero((images == image) & np.isfinite(truth))
        first, second = np.triu_indices(len(rows), 1)
        order = _order(truth[rows[first]] - truth[rows[second]], tolerance)
        found = depths[rows[first]] - depths[rows[second]]
        right += int((np.isfinite(found) & (_order(found, tolerance) == order)).sum())
        total += len(first)
    return right / total if total else float("nan")


def detection_rate(matches: ArrayLike) -> float:
    """Share of people that were found; matches [N]: row of the prediction, -1 where there is none."""
    matches = np.asarray(matches)
    return float((matches >= 0).mean()) if matches.size else float("nan")


def _order(difference: Floats, tolerance: float) -> Floats:
    return np.where(np.abs(np.nan_to_num(difference)) <= tolerance, 0.0, np.sign(np.nan_to_num(difference)))
