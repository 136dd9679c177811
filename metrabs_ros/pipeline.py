"""The frame's story: image and camera in, every person's absolute skeleton out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrabs_ros.augmented_views import AugmentedViews
from metrabs_ros.auto_backend import open_fastest
from metrabs_ros.camera import Camera
from metrabs_ros.closing import closed_on_failure
from metrabs_ros.conventions import ENGINE, conversion
from metrabs_ros.detector import Detector, open_detector
from metrabs_ros.engine import AUTO, Engine, Network, open_engine
from metrabs_ros.errors import InputError
from metrabs_ros.estimator import PoseEstimator
from metrabs_ros.finder import PeopleFinder
from metrabs_ros.floor import Standing
from metrabs_ros.model_spec import ModelSpec, find_spec, load_spec
from metrabs_ros.plausibility import PlausibilityParams
from metrabs_ros.pose import Detections, Pose3D, TrackedPose
from metrabs_ros.regions import Regions
from metrabs_ros.selection import NOBODY, Carried, Selection
from metrabs_ros.skeleton import Skeleton
from metrabs_ros.smoothing import Smoother, SmoothingParams
from metrabs_ros.tracking import Tracker, TrackingParams
from metrabs_ros.whereabouts import Whereabouts, parts_of_people, same_people

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]
RunNetwork = Callable[[NDArray[np.float32]], object]
Pose = TypeVar("Pose", bound=Pose3D)

DEFAULT_ENGINE = "metrabs_base"
# World up in the optical frame of a level camera.
LEVEL_UP = (0.0, -1.0, 0.0)


class PosePipeline:
    """Detector, crops, engine, reconstruction, plausibility, tracker and smoother in a row.

    ``up`` is world up in the camera's optical frame. ``views_per_frame`` bounds the detector's work on each frame of a
    video, a closer look apart (None: everything on every frame); people already known are carried from frame to frame
    meanwhile, and while nobody is known it looks at twice as many. Each person is seen in ``num_aug`` views that are
    averaged, 1..32, which may change at any time. ``person_height`` is that of everybody in view, m, where it is known
    (0: unknown): it decides how far they are. So does ``camera_height``, m above the floor along ``up`` (0: unknown):
    whoever's feet are in the picture stands there. Poses come out in the joints of ``convention`` (conventions.py):
    those of ``skeleton``. Poses of a score below ``min_score`` are left out, and those that ``plausible`` rejects; both
    may change at any time, as may ``up`` (unit length) and ``camera_height``. ``seconds_back`` is by how much the stamp
    of the frame processed last lay before the one before it, s: where it is not 0, everybody was forgotten before that
    frame.
    """

    def __init__(
        self,
        engine: Engine,
        detector: Detector | None,
        tracker: Tracker | None = None,
        up: ArrayLike = LEVEL_UP,
        views_per_frame: int | None = 1,
        num_aug: int = 1,
        convention: str = ENGINE,
        smoother: Smoother | None = None,
        person_height: float = 0.0,
    ) -> None:
        self.engine = engine
        self.seconds_back = 0.0
        self.estimator = PoseEstimator(engine, person_height)
        self.num_aug = num_aug
        self.up = _unit_up(up)
        self._detector = detector
        self._tracker = tracker or Tracker()
        self._smoother = smoother or Smoother()
        self._standing = Standing(engine.spec.skeleton, engine.spec.calibration.distance)
        self._regions = Regions(engine.spec.skeleton)
        self._finder = PeopleFinder(self.estimator, detector, self._regions)
        self._sure_score = 0.0 if detector is None else detector.sure_score
        self._selection = Selection(engine, self._regions, self._sure_score)
        self._convention = convention
        self._conversion = conversion(engine.spec.skeleton, convention)
        self._whereabouts = Whereabouts(self._tracker, self._regions, engine, views_per_frame)

    @classmethod
    def from_engine(
        cls,
        name_or_path: str | Path = DEFAULT_ENGINE,
        backend: str = AUTO,
        num_aug: int = 1,
        up: ArrayLike = LEVEL_UP,
        views_per_frame: int | None = 1,
        convention: str = ENGINE,
        tracking: TrackingParams | None = None,
        smoothing: SmoothingParams | None = None,
        person_height: float = 0.0,
    ) -> PosePipeline:
        """The engine of a name or spec file, with the detector that its spec names. Raises InputError."""
        spec = load_spec(find_spec(name_or_path))
        # What is wrong with these is said before an engine is opened for nothing.
        AugmentedViews.of(num_aug)
        conversion(spec.skeleton, convention)
        _unit_up(up)
        spec.calibration.size_of(person_height)
        engine = open_fastest(spec) if backend == AUTO else open_engine(spec, backend)
        with closed_on_failure(engine.close):
            detector = None if spec.detector is None else open_detector(load_spec(_detector_spec(spec)))
        smoother = Smoother(smoothing)
        return cls(
            engine, detector, Tracker(tracking), up, views_per_frame, num_aug, convention, smoother, person_height
        )

    def shared(self, around: Callable[[Network], Network], first_id: int, id_step: int) -> PosePipeline:
        """A pipeline for another camera over the same networks, each called through ``around(network)``.

        Its track ids are first_id, first_id + id_step, ...; closing it does what closing those networks does.
        """
        return PosePipeline(
            self.engine.through(around),
            None if self._detector is None else self._detector.through(around),
            Tracker(self.tracking, first_id, id_step),
            self.up,
            self._whereabouts.views_per_frame,
            self.num_aug,
            self._convention,
            Smoother(self.smoothing),
            self.estimator.person_height,
        )

    @property
    def spec(self) -> ModelSpec:
        return self.engine.spec

    @property
    def skeleton(self) -> Skeleton:
        """The joints and bones of the poses that come out: the convention's."""
        return self._conversion.skeleton

    @property
    def num_aug(self) -> int:
        """Views of test-time augmentation. Raises InputError where it is set to what is no number in 1..32."""
        return len(self._views)

    @num_aug.setter
    def num_aug(self, num_aug: int) -> None:
        self._views = AugmentedViews.of(num_aug)

    @property
    def camera_height(self) -> float:
        """Metres above the floor that people stand on, 0 where it is unknown. Raises InputError where it is set to less
        than 0, and where the engine shows no feet."""
        return self._standing.camera_height

    @camera_height.setter
    def camera_height(self, metres: float) -> None:
        self._standing.camera_height = metres

    @property
    def min_score(self) -> float:
        """Poses of a lower score are left out."""
        return self._selection.min_score

    @min_score.setter
    def min_score(self, score: float) -> None:
        self._selection.min_score = score

    @property
    def plausible(self) -> PlausibilityParams:
        """What is no human pose, and which poses are the same person's."""
        return self._selection.plausible

    @plausible.setter
    def plausible(self, params: PlausibilityParams) -> None:
        self._selection.plausible = params

    @property
    def tracking(self) -> TrackingParams:
        """How people are followed; may be replaced at any time, nobody loses their id."""
        return self._tracker.params

    @tracking.setter
    def tracking(self, params: TrackingParams) -> None:
        self._tracker.params = params

    @property
    def smoothing(self) -> SmoothingParams:
        """How joints are smoothed; where it is replaced by something else, all joints start anew."""
        return self._smoother.params

    @smoothing.setter
    def smoothing(self, params: SmoothingParams) -> None:
        if params != self._smoother.params:
            self._smoother = Smoother(params)

    def process(
        self, image_rgb: Image, camera: Camera, stamp_s: float, detections: Detections | None = None
    ) -> list[TrackedPose]:
        """The people in the next frame of a video; ``detections`` replace the detector where they are given.

        image_rgb [H,W,3] uint8; stamp_s, seconds: where it goes back, everybody is forgotten, see ``seconds_back``.
        Joints are smoothed, and joints2d and the boxes found here follow from the smoothed ones. Raises InputError
        where the image does not fit the camera; the people known so far are kept then.
        """
        camera.check_image(image_rgb)
        self.seconds_back = self._tracker.seconds_back(stamp_s)
        if self.seconds_back:
            self.reset()
        if detections is not None:
            poses, _ = self._poses(image_rgb, camera, detections, own_boxes=False)
            return self._converted(self._followed(poses, camera, stamp_s, own_boxes=False), camera)
        carried, last = self._whereabouts.carried(camera, stamp_s)
        near, budget = self._whereabouts.looked_back_at(stamp_s), self._whereabouts.view_budget(bool(len(carried)))
        fresh = self._finder.detected(image_rgb, budget, near, carried.boxes[last.is_current])
        # Who was lost sight of is looked for where the detector sees somebody as well as where they were.
        same = same_people(fresh, carried) & last.is_current
        is_new = ~same.any(1) & ~parts_of_people(fresh, carried, self._sure_score)
        people = carried.joined(self._finder.confirmed(image_rgb, camera, fresh.taken(is_new), self.up))
        poses, alone = self._poses(
            image_rgb, camera, people, own_boxes=True, carried=Carried(last.is_named, same.any(0))
        )
        return self._converted(self._followed(poses, camera, stamp_s, own_boxes=True, vouched=~alone), camera)

    def estimate(self, image_rgb: Image, camera: Camera, boxes: ArrayLike | None = None) -> list[Pose3D]:
        """The people in one image, best first; boxes [N,4] xywh px replace the detector where they are given."""
        camera.check_image(image_rgb)
        if boxes is None:
            people = self._finder.confirmed(image_rgb, camera, self._finder.detected(image_rgb), self.up)
            seen = self._finder.estimated_twice(image_rgb, camera, people, self.up, self._views)
        else:
            people = Detections.from_boxes(np.asarray(boxes))
            seen = self._finder.estimated(image_rgb, camera, people, self.up, self._views)
        poses, _ = self._selection.poses(seen, camera, people, own_boxes=boxes is None)
        return self._converted(self._standing.placed_once(poses, camera, self.up), camera)

    def networks(self) -> list[tuple[str, RunNetwork, ModelSpec]]:
        """Name, bare forward pass and spec of each network, for measuring what the pipeline adds to them."""
        parts: list[Engine | Detector] = [self.engine, *([self._detector] if self._detector else [])]
        return [(part.spec.name, part.run_raw, part.spec) for part in parts]

    def warm_up(self) -> None:
        """Run every network once, so that the first frame is as fast as the others."""
        size = self.spec.input.size
        self.engine.infer(np.zeros((1, size, size, 3), np.float32))
        if self.num_aug > 1:
            self.engine.infer(np.zeros((self.num_aug, size, size, 3), np.float32))
        if self._detector is not None:
            self._detector.detect(np.zeros((64, 64, 3), np.uint8))

    def reset(self) -> None:
        """Forget everybody: the next frame is the first of another recording."""
        self._tracker.reset()
        self._standing.reset()
        self._smoother.reset()
        if self._detector is not None:
            self._detector.reset()

    def release_memory(self) -> None:
        """Give back what frames have taken, most of all on a GPU; not during one. The next takes it again."""
        self.engine.release_memory()
        if self._detector is not None:
            self._detector.release_memory()

    def close(self) -> None:
        """Free the engines; the pipeline cannot be used afterwards."""
        self.engine.close()
        if self._detector is not None:
            self._detector.close()

    def _followed(
        self,
        poses: list[Pose3D],
        camera: Camera,
        stamp_s: float,
        own_boxes: bool,
        vouched: NDArray[np.bool_] | None = None,
    ) -> list[TrackedPose]:
        """The people who have an id, on the floor and smoothed. The tracker keeps the joints as they were seen."""
        tracked = self._tracker.update(poses, stamp_s, vouched)
        tracked = self._standing.placed(tracked, camera, self.up, stamp_s)
        if not tracked or self.smoothing.method == "none":
            return tracked
        joints3d = self._smoother.smoothed(
            [pose.track_id for pose in tracked],
            np.stack([pose.joints3d for pose in tracked]),
            np.stack([pose.uncertainty for pose in tracked]),
            stamp_s,
        )
        joints2d, _ = camera.project(joints3d)
        boxes = self._regions.boxes(joints2d, camera) if own_boxes else [pose.box for pose in tracked]
        return [
            replace(pose, box=boxes[i], joints3d=joints3d[i], joints2d=joints2d[i]) for i, pose in enumerate(tracked)
        ]

    def _poses(
        self, image_rgb: Image, camera: Camera, detections: Detections, own_boxes: bool, carried: Carried = NOBODY
    ) -> tuple[list[Pose3D], NDArray[np.bool_]]:
        """The poses of those who are people, and for whom of them only their own last pose speaks."""
        is_carried = carried.among(len(detections))
        seen = self._finder.estimated(image_rgb, camera, detections, self.up, self._views, is_carried)
        return self._selection.poses(seen, camera, detections, own_boxes, carried)

    def _converted(self, poses: Sequence[Pose], camera: Camera) -> list[Pose]:
        """The poses in the joints of the convention; what finds and follows people goes by the engine's own."""
        if self._conversion.skeleton == self.spec.skeleton or not poses:
            return list(poses)
        joints3d = self._conversion.joints(np.stack([pose.joints3d for pose in poses]))
        joints2d, _ = camera.project(joints3d)
        uncertainty = self._conversion.uncertainty(np.stack([pose.uncertainty for pose in poses]))
        return [
            replace(pose, joints3d=joints3d[i], joints2d=joints2d[i], uncertainty=uncertainty[i])
            for i, pose in enumerate(poses)
        ]


def _detector_spec(spec: ModelSpec) -> Path:
    """The spec file of the detector: beside the engine's own, or a known name."""
    assert spec.detector is not None
    beside = spec.path.parent / f"{spec.detector}.yaml"
    return beside if beside.is_file() else find_spec(spec.detector)


def _unit_up(up: ArrayLike) -> Floats:
    vector = np.array(up, np.float64)
    length = np.linalg.norm(vector)
    if vector.shape != (3,) or not np.isfinite(vector).all() or length == 0:
        raise InputError(f"up must be three numbers that are not all zero, got {up!r}: a level camera has 0,-1,0.")
    return vector / length
