"""The records that the stages of the pipeline hand on.

Frames and units: metres in the camera's optical frame (x right, y down, z forward), pixels of the input image with
(0, 0) at the centre of the top-left pixel, boxes as xywh pixels (x, y: the box's left and top edge).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Detections:
    """People found in one image, before their pose is known.

    boxes [N,4] xywh px; scores [N] in 0..1; body_axes [N,2]: unit direction in the image from hips to head,
    NaN where the detector does not know it. Zero people is a normal frame: all arrays have N = 0.
    """

    boxes: Floats
    scores: Floats
    body_axes: Floats

    @classmethod
    def from_boxes(cls, boxes: Floats, scores: Floats | None = None) -> Detections:
        """Boxes from elsewhere: body axes unknown, score 1 unless given."""
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        count = len(boxes)
        known = np.ones(count) if scores is None else np.asarray(scores, np.float64).reshape(count)
        return cls(boxes, known, np.full((count, 2), np.nan))

    def __len__(self) -> int:
        return len(self.boxes)

    def taken(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Detections:
        """The detections at ``index``."""
        return Detections(self.boxes[index], self.scores[index], self.body_axes[index])

    def replaced(self, where: NDArray[np.bool_], boxes: Floats, body_axes: Floats) -> Detections:
        """The same people, those at ``where`` [N] in other boxes [N,4] and with other axes [N,2]."""
        chosen = where[:, None]
        return Detections(np.where(chosen, boxes, self.boxes), self.scores, np.where(chosen, body_axes, self.body_axes))

    def joined(self, other: Detections) -> Detections:
        """These detections followed by the others."""
        return Detections(
            np.concatenate([self.boxes, other.boxes]),
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.body_axes, other.body_axes]),
        )


@dataclass(frozen=True, eq=False)
class Pose3D:
    """One person's absolute pose in one image.

    box [4] xywh px; score in 0..1; joints3d [J,3] m, camera's optical frame; joints2d [J,2] px, NaN where a joint
    has no image (behind the camera, or outside the lens model's range); uncertainty [J] m, the root mean square
    distance of a joint from its true place (1 sigma, all axes together), NaN where it is not known.
    """

    box: Floats
    score: float
    joints3d: Floats
    joints2d: Floats
    uncertainty: Floats


@dataclass(frozen=True, eq=False)
class TrackedPose(Pose3D):
    """A pose whose person is known from frame to frame by ``track_id`` (1, 2, ...)."""

    track_id: int
