"""Which estimates are poses of people: clearly seen, possible, and each person once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from metrabs_ros import plausibility
from metrabs_ros.camera import Camera
from metrabs_ros.engine import Engine
from metrabs_ros.estimator import Estimates
from metrabs_ros.plausibility import PlausibilityParams
from metrabs_ros.pose import Detections, Pose3D
from metrabs_ros.regions import Regions
from metrabs_ros.typical_body import bone_lengths


@dataclass(frozen=True, eq=False)
class Carried:
    """Of the M first detections, people of the frames before: is_named [M], whether they have an id, and is_backed [M],
    whether the detector sees them in this frame, too."""

    is_named: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    is_backed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    def among(self, count: int) -> NDArray[np.bool_]:
        """[count]: which of so many detections they are."""
        return np.arange(count) < len(self.is_named)


NOBODY = Carried()
# Whom the detector doubts is as long, at least, as this part of the image's longer side: smaller ones are animals and
# drawings as often as people.
_LEAST_DOUBTFUL = 0.12


class Selection:
    """The rules for the poses of an engine. ``plausible`` and ``min_score``, below which poses are left out, may be
    replaced at any time. New people whom the detector gives a score below ``sure_score`` must be seen more clearly than
    others, and apart from them."""

    def __init__(self, engine: Engine, regions: Regions, sure_score: float = 0.0) -> None:
        self.plausible: PlausibilityParams = plausibility.DEFAULT
        self.min_score = 0.0
        self._sure_score = sure_score
        skeleton = engine.spec.skeleton
        self._engine = engine
        self._body_upright = engine.spec.crop.body_upright
        self._regions = regions
        self._bones = skeleton.bones
        self._typical_bones_m = bone_lengths(skeleton)

    def poses(
        self, seen: Estimates, camera: Camera, detections: Detections, own_boxes: bool, carried: Carried = NOBODY
    ) -> tuple[list[Pose3D], NDArray[np.bool_]]:
        """The poses to go on with, best first, and for whom of them only their own last pose speaks.

        ``seen`` in the boxes of ``detections``, which are this package's own, or given by somebody else.
        """
        spec, joints3d, person_scores = self._engine.spec, seen.joints3d, seen.scores
        joints2d, _ = camera.project(joints3d)
        scores = person_scores if self._engine.scores_people else np.minimum(detections.scores, person_scores)
        boxes = self._regions.boxes(joints2d, camera)
        is_carried = carried.among(len(detections))
        is_named, is_alone = np.zeros((2, len(detections)), bool)
        is_named[is_carried], is_alone[is_carried] = carried.is_named, ~carried.is_backed
        is_doubtful = own_boxes & ~is_carried & (detections.scores < self._sure_score)
        is_small = boxes[:, 2:].max(-1, initial=0.0) < _LEAST_DOUBTFUL * max(camera.size)
        good = (person_scores >= spec.min_person_score) & (scores >= self.min_score)
        if spec.trust_given_boxes and not own_boxes:
            kept = np.flatnonzero(good & np.isfinite(joints3d).all((1, 2)))
        else:
            # A detector of ours tells where to look, not where the body ends: what it finds is not judged by its box.
            pose_boxes = self._regions.squares(joints2d, camera) if own_boxes and self._body_upright else boxes
            covers_box = plausibility.covers_box(pose_boxes, detections.boxes, self.plausible)
            # Who is alone must be seen clearly: a wrong pose asks for a wrong crop, and so on.
            good &= (
                plausibility.in_front(joints3d)
                & ~(own_boxes & (seen.vagueness > spec.max_vagueness))
                & ~(own_boxes & ~is_named & (seen.vagueness > spec.max_new_vagueness))
                & ~(is_doubtful & (is_small | ~(seen.vagueness <= spec.max_doubtful_vagueness)))
                & ~(is_alone & (seen.vagueness > spec.max_carried_vagueness))
                & plausibility.bones_possible(joints3d, self._bones, self._typical_bones_m, self.plausible)
                & plausibility.views_agree(seen.posture_spread, self.plausible)
                & (covers_box | (own_boxes & ~is_carried))
            )
            at = np.flatnonzero(good)
            kept = at[
                plausibility.kept_by_nms(
                    joints3d[at], joints2d[at], scores[at], is_named[at], is_doubtful[at], self.plausible
                )
            ]
        boxes = boxes if own_boxes else detections.boxes
        found = [Pose3D(boxes[i], float(scores[i]), joints3d[i], joints2d[i], seen.uncertainty[i]) for i in kept]
        return found, is_alone[kept]
