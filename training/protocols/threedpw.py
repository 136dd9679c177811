"""The 3DPW challenge: MPJPE, PA-MPJPE, PCK@50 and AUC@200, known and unknown association (P table 10).

PCK and AUC are over the limbs' joints, as the challenge's script has it; the root would always be right.
"""

from __future__ import annotations

import numpy as np

from training import metrics
from training.protocols import joints
from training.protocols.mupots import MATCH_PX
from training.protocols.poses import Poses, joined, taken
from training.tables import Column, Sheet

# SMPL's joints that a network of another skeleton may have as well.
JOINTS = (
    "pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "neck", "head",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
LIMBS = tuple(name for name in JOINTS if name not in ("pelvis", "neck", "head"))
COLUMNS = (Column("MPJPE ↓"), Column("MPJPE-PA ↓"), Column("PCK@50mm ↑", "%"), Column("AUC@200mm ↑", "%"),
           Column("Det.Rate ↑", "%"))  # fmt: skip
# The challenge's thresholds: every millimetre below 200.
_AUC_LIMIT_M, _AUC_STEPS = 0.199, 200
_PAPER = {
    "known": {"MeTRAbs": ["68.8", "49.7", "48.8", "66.8", "–"]},
    "unknown": {"MeTRAbs": ["85.1", "56.7", "45.8", "63.2", "–"]},
}


def evaluate(
    predictions: Poses, truth: Poses, name: str, association: str = "known", wanted: tuple[str, ...] = JOINTS
) -> list[Sheet]:
    """association: "known": predictions carry the true people's numbers; "unknown": they are told by place.

    Unknown means that each person of the truth takes the free prediction of its image whose joints are nearest in the
    image (within 40 px a joint on average times four), or in space where there are no 2D joints.
    """
    truth = truth.with_joints(wanted, "The ground truth")
    predictions = predictions.with_joints(wanted, name)
    found = (
        joined(truth, predictions) if association == "known" else taken(predictions, nearest(truth, predictions), truth)
    )
    root = joints.root_of(wanted)
    relative = metrics.distances(
        metrics.root_relative(found.joints3d, root), metrics.root_relative(truth.joints3d, root)
    )
    aligned = metrics.procrustes_distances(found.joints3d, truth.joints3d)
    limbs = relative[:, [joint in LIMBS for joint in wanted]]
    figures = [metrics.mean_error(relative), metrics.mean_error(aligned), metrics.pck(limbs, 0.05),
               metrics.auc(limbs, _AUC_LIMIT_M, _AUC_STEPS), float(np.isfinite(relative).any(1).mean())]  # fmt: skip
    note = (f"{len(truth)} people; errors over {len(wanted)} joints (the challenge's own server scores all of SMPL's "
            f"24), PCK and AUC over {limbs.shape[1]} of the limbs.")  # fmt: skip
    return [Sheet(f"3DPW challenge, {association} association", COLUMNS, {name: figures}, _PAPER[association], (note,))]


def nearest(truth: Poses, predictions: Poses) -> np.ndarray:
    """[N] row of the prediction that each true pose takes, -1 where none is left or near; nearest pairs first."""
    flat = bool(np.isfinite(truth.joints2d).any() and np.isfinite(predictions.joints2d).any())
    limit = 4 * MATCH_PX if flat else 1.0
    true, found = (p.joints2d if flat else p.joints3d for p in (truth, predictions))
    index = np.full(len(truth), -1, np.intp)
    for image in np.unique(truth.images):
        rows, columns = np.flatnonzero(truth.images == image), np.flatnonzero(predictions.images == image)
        if not len(columns):
            continue
        gaps = np.linalg.norm(true[rows][:, None] - found[columns][None], axis=-1)
        known = np.isfinite(gaps)
        count = known.sum(-1)
        far = np.where(count > 0, np.where(known, gaps, 0.0).sum(-1) / np.maximum(count, 1), np.inf)
        while far.size and far.min() < limit:
            i, j = np.unravel_index(far.argmin(), far.shape)
            index[rows[i]] = columns[j]
            far[i], far[:, j] = np.inf, np.inf
    return index
