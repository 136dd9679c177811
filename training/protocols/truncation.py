"""Robustness to truncation: error by how many joints lie outside the crop (P table 5, fig. 6)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.errors import InputError
from training import metrics
from training.protocols import joints
from training.protocols.poses import Floats, Poses, joined
from training.tables import Column, Sheet

Bools = NDArray[np.bool_]

JOINTS = joints.SEVENTEEN
COLUMNS = (Column("poses", "", 0), Column("MPJPE all ↓"), Column("present ↓"), Column("truncated ↓"))
_PAPER = {
    "MeTRo, trained without truncation": ["–", "124.7", "76.8", "–"],
    "MeTRo": ["–", "77.8", "59.8", "–"],
}


def evaluate(predictions: Poses, truth: Poses, name: str, wanted: tuple[str, ...] = JOINTS) -> list[Sheet]:
    """truth: joints2d in px of the crop, group side (px of the crop); joints outside 0..side-1 are truncated."""
    truth = truth.with_joints(wanted, "The ground truth")
    if len(truth) and not np.isfinite(truth.joints2d).any():
        raise InputError("The ground truth has no joints2d: without them nobody knows which joints are truncated.")
    found = joined(truth, predictions.with_joints(wanted, name))
    cut = outside(truth.joints2d, truth.group("side").astype(float)[:, None, None])
    return [by_truncation(found.joints3d, truth.joints3d, cut, joints.root_of(wanted), name)]


def by_truncation(found: Floats, truth: Floats, cut: Bools, root: Floats, name: str) -> Sheet:
    """found, truth [N,J,3] m, cut [N,J] bool: the curve of fig. 6 as rows, the mean of all poses first."""
    distance = metrics.distances(metrics.root_relative(found, root), metrics.root_relative(truth, root))
    counts = (cut & np.isfinite(truth).all(-1)).sum(1)
    rows = {name: _row(distance, cut)}
    for count in range(int(counts.max(initial=0)) + 1):
        these = counts == count
        if these.any():
            rows[f"{name}, {count} truncated"] = _row(distance[these], cut[these])
    return Sheet(
        "Truncation: root-relative error, mm", COLUMNS, rows, _PAPER, ("The paper's figures are on Human3.6M.",)
    )


def outside(joints2d: Floats, side: float | Floats) -> Bools:
    """[N,J]: joints [N,J,2] px that lie outside crops of side px, one for all or [N,1,1]."""
    inside: Bools = ((joints2d >= 0) & (joints2d <= side - 1)).all(-1)
    return ~inside


def errors(distance: Floats, cut: Bools) -> list[float]:
    """Means of distances [N,J] m: of all joints, the present ones, and those cut [N,J] off."""
    return [metrics.mean_error(part) for part in (distance, distance[~cut], distance[cut])]


def _row(distance: Floats, cut: Bools) -> list[float]:
    return [float(len(distance)), *errors(distance, cut)]
