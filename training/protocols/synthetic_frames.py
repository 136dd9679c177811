"""Whole synthetic pictures through the whole runtime: who is found, who is imagined, and where the found are put.

Lenses are distorted, cameras tilted and rolled, and nobody tells which way is up, unless the floor is known.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.pipeline import LEVEL_UP, PosePipeline
from training import metrics
from training.protocols import joints
from training.protocols.poses import Floats
from training.skeleton import JOINT_NAMES
from training.synthetic.frame import Frame
from training.tables import Column, Sheet

COLUMNS = (
    Column("people", "", 0),
    Column("found ↑", "%"),
    Column("false alarms a picture ↓", "", 2),
    Column("MPJPE ↓"),
    Column("P-MPJPE ↓"),
    Column("A-MPJPE ↓"),
    Column("A-PCK@150 ↑", "%"),
    Column("depth error ↓"),
    Column("depth bias %", "%"),
)
# Who shows fewer of their joints need not be found, and is no false alarm where they are.
LEAST_VISIBLE = 0.3
# A prediction is of a person where their visible joints lie this near on average, as a part of the box's longer side.
_NEAR = 0.25


def evaluate(pipelines: dict[str, PosePipeline], frames: Iterable[Frame], floor: bool = False) -> Sheet:
    """One row a pipeline; errors are over people that it found, in the joints that all have. ``floor``: another row for
    each, told which way is up and how high above the floor the camera is."""
    shared = joints.common(JOINT_NAMES, *(pipeline.skeleton.joint_names for pipeline in pipelines.values()))
    ways = [(name, pipeline, False) for name, pipeline in pipelines.items()]
    ways += [(f"{name}, floor known", pipeline, True) for name, pipeline in pipelines.items() if floor]
    tallies = {name: Tally(shared) for name, *_ in ways}
    for frame in frames:
        for name, pipeline, is_told in ways:
            pipeline.up = np.array(frame.up if is_told else LEVEL_UP)
            pipeline.camera_height = frame.camera_height if is_told else 0.0
            found = pipeline.estimate(frame.image, frame.camera)
            own = pipeline.skeleton.joint_names
            pose = np.array([p.joints3d for p in found]).reshape(-1, len(own), 3)
            flat = np.array([p.joints2d for p in found]).reshape(-1, len(own), 2)
            tallies[name].add(frame, joints.picked(pose, own, shared, name), joints.picked(flat, own, shared, name))
    note = (
        f"{len(shared)} joints in common. People who show under {LEAST_VISIBLE:.0%} of their joints do not count; "
        "errors are over those found, so compare them together with `found`."
    )
    rows = {name: tally.row() for name, tally in tallies.items()}
    return Sheet("Synthetic pictures, held out: detector and all", COLUMNS, rows, {}, (note,))


class Tally:
    """What one pipeline did on the frames so far."""

    def __init__(self, shared: tuple[str, ...]) -> None:
        self._shared = shared
        self._frames = self._people = self._false_alarms = 0
        self._found: list[Floats] = []
        self._truth: list[Floats] = []

    def add(self, frame: Frame, found: Floats, found2d: Floats) -> None:
        """found [M,J,3] m and found2d [M,J,2] px in the shared joints."""
        truth, true2d = (
            joints.picked(a, JOINT_NAMES, self._shared, "The frame") for a in (frame.joints3d, frame.joints2d)
        )
        visible = joints.picked(frame.visible, JOINT_NAMES, self._shared, "The frame")
        counts = visible.mean(1) >= LEAST_VISIBLE
        index = matched(true2d, visible, frame.boxes, found2d)
        self._frames += 1
        self._people += int(counts.sum())
        self._false_alarms += len(found) - int((index >= 0).sum())
        for i in np.flatnonzero(counts & (index >= 0)):
            self._found.append(found[index[i]])
            self._truth.append(truth[i])

    def row(self) -> list[float]:
        width = len(self._shared)
        found, truth = (np.array(a, float).reshape(-1, width, 3) for a in (self._found, self._truth))
        root = joints.root_of(self._shared)
        places, true = metrics.root_points(found, root), metrics.root_points(truth, root)
        share = len(found) / self._people if self._people else float("nan")
        alarms = self._false_alarms / self._frames if self._frames else float("nan")
        absolute = metrics.distances(found, truth)
        errors = [metrics.mpjpe(found, truth, root), metrics.p_mpjpe(found, truth), metrics.mean_error(absolute)]
        depths = [metrics.depth_error(places, true), metrics.relative_depth_bias(places, true)]
        return [float(self._people), share, alarms, *errors, metrics.pck(absolute), *depths]


def matched(true2d: Floats, visible: NDArray[np.bool_], boxes: Floats, found2d: Floats) -> NDArray[np.intp]:
    """[N] row of the prediction of each person, -1 where there is none; nearest pairs first.

    true2d [N,J,2], found2d [M,J,2] px; where nothing is visible of a person, all joints in the picture's plane count.
    """
    index = np.full(len(true2d), -1, np.intp)
    if not len(true2d) or not len(found2d):
        return index
    used = np.where(visible.any(1, keepdims=True), visible, True)
    gaps = np.linalg.norm(true2d[:, None] - found2d[None], axis=-1)
    known = np.isfinite(gaps) & used[:, None]
    total = np.where(known, gaps, 0.0).sum(-1)
    far = np.where(known.any(-1), total / np.maximum(known.sum(-1), 1), np.inf) / boxes[:, None, 2:].max(-1)
    while far.min() < _NEAR:
        i, j = np.unravel_index(far.argmin(), far.shape)
        index[i] = j
        far[i], far[:, j] = np.inf, np.inf
    return index
