"""MPI-INF-3DHP: PCK@150, AUC and MPJPE, root-relative, 14 joints, universal and metric skeletons (P table 3)."""

from __future__ import annotations

import numpy as np

from metrabs_ros.errors import InputError
from training import metrics
from training.data import mpi_inf_3dhp as reader
from training.protocols import joints
from training.protocols.poses import Poses, joined
from training.tables import Column, Sheet, cells

JOINTS = joints.SEVENTEEN
ACTIVITIES = {"1": "Stand/walk", "2": "Exercise", "3": "Sit on chair", "4": "Cro./reach", "5": "On floor", "6": "Sport",
              "7": "Misc."}  # fmt: skip
SCENES = ("Green screen", "No gr.sc.", "Outdoor")
_SCENE_OF = {"TS1": 0, "TS2": 0, "TS3": 1, "TS4": 1, "TS5": 2, "TS6": 2}


_PAPER = {
    "universal": {
        "2.5D baseline": cells("95.1 90.7 86.8 92.4 74.2 94.1 91.7 92.1 89.0 87.7 89.9±0.2 52.8±0.4 79.7±0.6"),
        "MeTRo": cells("95.0 91.8 90.2 92.1 73.4 95.1 91.8 93.4 90.3 86.5 90.6±0.4 56.2±0.5 74.9±1.4"),
    },
    "metric": {
        "2.5D baseline": cells("93.1 89.3 83.6 93.1 73.7 93.2 91.1 89.0 87.9 89.4 88.7±0.6 48.6±1.3 87.1±2.2"),
        "MeTRo": cells("94.0 89.2 87.1 89.1 68.9 92.6 90.3 90.1 87.8 85.7 88.2±0.5 48.7±0.7 88.4±1.3"),
    },
}


def evaluate(predictions: Poses, truth: Poses, name: str, wanted: tuple[str, ...] = JOINTS) -> list[Sheet]:
    """truth: chest-height cameras' frames with groups sequence or subject (TS1..TS6) and activity (1..7 or its name).

    One table for metric skeletons; one for universal ones where the truth has them, which predictions of a network that
    was trained on universal skeletons are for: bones are rescaled in neither. Figures are over all poses of a column,
    not means of columns.
    """
    truth = truth.with_joints(wanted, "The ground truth")
    found = joined(truth, predictions.with_joints(wanted, name))
    root = joints.root_of(wanted)
    judged = [joint in joints.FOURTEEN for joint in wanted]
    sheets = []
    for skeleton in ("universal", "metric"):
        true3d = truth.joints3d if skeleton == "metric" else truth.universal
        if true3d is None:
            continue
        pose, target = metrics.root_relative(found.joints3d, root), metrics.root_relative(true3d, root)
        distance = metrics.distances(pose, target)[:, judged]
        columns = [Column(f"{column} PCK ↑", "%") for column in (*ACTIVITIES.values(), *SCENES, "Total")]
        columns += [Column("AUC ↑", "%"), Column("MPJPE ↓")]
        values = [metrics.pck(distance[rows]) for rows in _parts(truth)]
        values += [metrics.pck(distance), metrics.auc(distance), metrics.mean_error(distance)]
        title = f"MPI-INF-3DHP, {skeleton} skeletons, {sum(judged)} joints"
        sheets.append(Sheet(title, tuple(columns), {name: values}, _PAPER[skeleton], (f"{len(truth)} poses.",)))
    return sheets


def _parts(truth: Poses) -> list[np.ndarray]:
    """[N] bool of each activity, then of each scene."""
    columns = ACTIVITIES | dict(zip(reader.ACTIVITIES, ACTIVITIES.values(), strict=True))
    activity = np.array([columns.get(value, value) for value in truth.group("activity")])
    unknown = sorted(set(activity) - set(ACTIVITIES.values()))
    if unknown:
        raise InputError(f"MPI-INF-3DHP's activities are 1 to 7 or {', '.join(reader.ACTIVITIES)}, got {unknown[0]!r}.")
    source = truth.groups["sequence"] if "sequence" in truth.groups else truth.group("subject")
    if not np.isin(source, list(_SCENE_OF)).any() and "subject" in truth.groups:
        source = truth.groups["subject"]
    unknown = sorted(set(source) - set(_SCENE_OF))
    if unknown:
        raise InputError(
            f"MPI-INF-3DHP's test sequences are TS1 to TS6, the ground truth has {', '.join(unknown[:3])}."
        )
    scene = np.array([_SCENE_OF[value] for value in source], int)
    return [activity == name for name in ACTIVITIES.values()] + [scene == i for i in range(len(SCENES))]
