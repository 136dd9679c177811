"""Where people are looked for in the next frame of a video, by where they were in the last ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.camera import Camera
from metrabs_ros.detector import box_iou
from metrabs_ros.engine import Engine
from metrabs_ros.pose import Detections
from metrabs_ros.regions import Regions
from metrabs_ros.tracking import LastSeen, Tracker

Floats = NDArray[np.float64]

# For so long a person whom neither detector nor engine confirms is still looked for where they were.
_CARRY_S = 0.5
# For so long after somebody was lost the detector looks again and again where that was.
_LOOK_BACK_S = 1.0
# The detection that overlaps a carried person most is that person, from this overlap (intersection over union) on;
# others may be of somebody beside them, up to that one.
_SAME_IF_BEST_IOU, _SAME_IOU = 0.3, 0.6
# A doubtful detection of which this part or more lies on somebody known is a part of them.
_PART_OF_KNOWN = 0.7


class Whereabouts:
    """What a tracker remembers, as work for the engine (boxes to look into) and for the detector (views)."""

    def __init__(self, tracker: Tracker, regions: Regions, engine: Engine, views_per_frame: int | None) -> None:
        self._tracker, self._regions, self._engine = tracker, regions, engine
        self.views_per_frame = views_per_frame
        self._body_upright = engine.spec.crop.body_upright
        self._frames_missed = 0

    def carried(self, camera: Camera, stamp_s: float) -> tuple[Detections, LastSeen]:
        """Where the people of the last frames are looked for in this one, and who they are; nobody where the engine
        cannot tell that they left."""
        last = self._tracker.seen_since(stamp_s - _CARRY_S)
        if not last.poses or not self._engine.scores_people:
            return Detections.from_boxes(np.zeros((0, 4))), LastSeen()
        joints2d = np.stack([pose.joints2d for pose in last.poses])
        boxes = (
            self._regions.squares(joints2d, camera)
            if self._body_upright
            else np.stack([pose.box for pose in last.poses])
        )
        scores = np.array([pose.score for pose in last.poses])
        return Detections(boxes, scores, self._regions.torso_axes(joints2d)), last

    def looked_back_at(self, stamp_s: float) -> Floats | None:
        """In every other frame the box [4] in which somebody was lost a moment ago, one after the other."""
        missing = self._tracker.missing_since(stamp_s - _LOOK_BACK_S)
        self._frames_missed = self._frames_missed + 1 if missing else 0
        if self._frames_missed % 2 == 0:
            return None
        return np.asarray(missing[self._frames_missed // 2 % len(missing)].box)

    def view_budget(self, somebody_known: bool) -> int | None:
        """How many views the detector may look at; None: at all of them."""
        if self.views_per_frame is None or not self._engine.scores_people:
            return None
        return self.views_per_frame if somebody_known else 2 * self.views_per_frame


def same_people(fresh: Detections, carried: Detections) -> NDArray[np.bool_]:
    """[N,M]: which of N detections are which of M carried people."""
    iou = box_iou(fresh.boxes, carried.boxes)
    is_best = iou == iou.max(0, initial=0.0)
    return (iou > _SAME_IOU) | (is_best & (iou > _SAME_IF_BEST_IOU))


def parts_of_people(fresh: Detections, carried: Detections, sure_score: float) -> NDArray[np.bool_]:
    """[N]: which detections are doubtful, of a score below ``sure_score``, and lie on one of the carried people."""
    iou = box_iou(fresh.boxes, carried.boxes)
    area, others = fresh.boxes[:, None, 2:].prod(-1), carried.boxes[None, :, 2:].prod(-1)
    shared = iou * (area + others) / (1 + iou)
    return (fresh.scores < sure_score) & (shared >= _PART_OF_KNOWN * area).any(1)
