"""Human3.6M: protocol 1 (S9, S11; root-aligned) and 2 (S11; Procrustes), 17 joints, per action (P tables 1, 2)."""

from __future__ import annotations

import re

import numpy as np

from metrabs_ros.errors import InputError
from training import metrics
from training.protocols import joints
from training.protocols.poses import Poses, Strings, joined
from training.tables import Column, Sheet, cells

JOINTS = joints.SEVENTEEN
SUBJECTS = {1: ("S9", "S11"), 2: ("S11",)}
ACTIONS = {
    "Directions": "Dir.", "Discussion": "Dis.", "Eating": "Eat", "Greeting": "Gre.", "Phoning": "Phn.",
    "Posing": "Pose", "Purchases": "Pur.", "Sitting": "Sit", "SittingDown": "SitD", "Smoking": "Sm.",
    "Photo": "Pht.", "Waiting": "Wait", "Walking": "Walk", "WalkDog": "WD", "WalkTogether": "WT",
}  # fmt: skip
# Names that some recordings of the release carry.
_SAME = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}


_PAPER = {
    1: {
        "2.5D baseline": cells("45.1 50.4 45.4 47.8 50.0 44.6 49.8 59.0 69.4 49.4 56.5 48.0 39.6 49.4 45.0 50.2±0.3"),
        "MeTRo": cells("46.3 48.3 43.3 48.2 50.2 45.1 46.1 56.2 66.8 49.3 54.5 46.7 40.1 49.6 46.2 49.3±0.7"),
    },
    2: {"2.5D baseline": ["–"] * 15 + ["34.5±0.4"], "MeTRo": ["–"] * 15 + ["34.7±0.5"]},
}


def evaluate(
    predictions: Poses, truth: Poses, name: str, protocol: int = 1, wanted: tuple[str, ...] = JOINTS
) -> list[Sheet]:
    """truth: every 64th frame, with groups subject (S9, S11; others are left out) and activity ("Directions 1")."""
    subjects = np.array([f"S{re.sub('[^0-9]', '', subject)}" for subject in truth.group("subject")])
    truth = truth[np.isin(subjects, SUBJECTS[protocol])]
    if not len(truth):
        raise InputError(
            f"The ground truth has no pose of {' or '.join(SUBJECTS[protocol])}: protocol {protocol} needs it."
        )
    truth = truth.with_joints(wanted, "The ground truth")
    found = joined(truth, predictions.with_joints(wanted, name))
    root = joints.root_of(wanted)
    if protocol == 1:
        relative = (metrics.root_relative(p.joints3d, root) for p in (found, truth))
        distance = metrics.distances(*relative)
    else:
        distance = metrics.procrustes_distances(found.joints3d, truth.joints3d)
    actions = _actions(truth.group("activity"))
    values = [metrics.mean_error(distance[actions == action]) for action in ACTIONS]
    columns = (*(Column(short) for short in ACTIONS.values()), Column("Avg ↓"))
    title = f"Human3.6M, protocol {protocol}: {'MPJPE' if protocol == 1 else 'P-MPJPE'}, mm"
    notes = (f"{len(truth)} poses; Avg is over all poses, as in the paper.", *_missed(distance))
    return [Sheet(title, columns, {name: [*values, metrics.mean_error(distance)]}, _PAPER[protocol], notes)]


def _actions(activities: Strings) -> Strings:
    bare = [re.sub(r"[^A-Za-z]", "", activity) for activity in activities]
    return np.array([_SAME.get(activity, activity) for activity in bare])


def _missed(distance: np.ndarray) -> tuple[str, ...]:
    missed = int(np.isinf(distance).any(1).sum())
    return (f"{missed} poses were not predicted and are left out of the means.",) if missed else ()
