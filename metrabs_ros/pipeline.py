"""The frame's story: image and camera in, every person's absolute skeleton out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrabs_ros import crop, plausibility, reconstruct
from metrabs_ros.camera import Camera
from metrabs_ros.detector import Detector, box_iou, open_detector
from metrabs_ros.engine import Engine, open_engine
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import ModelSpec, find_spec, load_spec
from metrabs_ros.pose import Detections, Pose3D, TrackedPose
from metrabs_ros.regions import Regions
from metrabs_ros.skeleton import Skeleton
from metrabs_ros.tracking import Tracker

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]
RunNetwork = Callable[[NDArray[np.float32]], object]

DEFAULT_ENGINE = "blazepose_full"
# World up in the optical frame of a level camera.
LEVEL_UP = (0.0, -1.0, 0.0)
# For so long a person whom neither detector nor engine confirms is still looked for where they were.
_CARRY_S = 0.3
# A detection that overlaps a carried person by this much is that person.
_SAME_BOX_IOU = 0.3
# Where the body leans more than this from what was taken as up, another look with the body upright pays.
_LEAN_COSINE = np.cos(np.radians(7))
_MORE_LOOKS = 3


class PosePipeline:
    """Detector, crops, engine, reconstruction and tracker in a row.

    ``up`` is world up in the camera's optical frame. ``views_per_frame`` bounds the detector's work on each frame of a
    video (None: everything on every frame); people already known are carried from frame to frame meanwhile, and while
    nobody is known it looks at twice as many.
    """

    def __init__(
        self,
        engine: Engine,
        detector: Detector | None,
        tracker: Tracker | None = None,
        up: ArrayLike = LEVEL_UP,
        views_per_frame: int | None = 1,
    ) -> None:
        self.engine = engine
        self.up = _unit_up(up)
        self._detector = detector
        self._tracker = tracker or Tracker()
        self._views_per_frame = views_per_frame
        self._regions = Regions(engine.spec.skeleton)
        self._body_upright = engine.spec.crop.upright == "body"

    @classmethod
    def from_engine(
        cls,
        name_or_path: str | Path = DEFAULT_ENGINE,
        backend: str = "auto",
        num_aug: int = 1,
        up: ArrayLike = LEVEL_UP,
        views_per_frame: int | None = 1,
    ) -> PosePipeline:
        """The engine of a name or spec file, with the detector that its spec names. Raises InputError."""
        if num_aug != 1:
            raise InputError(f"num_aug must be 1, got {num_aug}: test-time augmentation is not available yet.")
        spec = load_spec(find_spec(name_or_path))
        engine = open_engine(spec, backend)
        detector = None if spec.detector is None else open_detector(load_spec(_detector_spec(spec)))
        return cls(engine, detector, up=up, views_per_frame=views_per_frame)

    @property
    def spec(self) -> ModelSpec:
        return self.engine.spec

    @property
    def skeleton(self) -> Skeleton:
        return self.spec.skeleton

    def process(
        self, image_rgb: Image, camera: Camera, stamp_s: float, detections: Detections | None = None
    ) -> list[TrackedPose]:
        """The people in the next frame of a video; ``detections`` replace the detector where they are given.

        image_rgb [H,W,3] uint8; stamp_s, seconds, must not go back between resets. Raises InputError where the image
        does not fit the camera; the people known so far are kept then.
        """
        check_image(image_rgb, camera)
        if detections is not None:
            return self._tracker.update(self._poses(image_rgb, camera, detections, own_boxes=False), stamp_s)
        carried = self._carried(stamp_s)
        fresh = self._detected(image_rgb, self._view_budget(somebody_known=bool(len(carried))))
        known = box_iou(fresh.boxes, carried.boxes).max(1, initial=0) > _SAME_BOX_IOU
        people = carried.joined(self._confirmed(image_rgb, camera, fresh.taken(~known)))
        return self._tracker.update(self._poses(image_rgb, camera, people, own_boxes=True), stamp_s)

    def estimate(self, image_rgb: Image, camera: Camera, boxes: ArrayLike | None = None) -> list[Pose3D]:
        """The people in one image, best first; boxes [N,4] xywh px replace the detector where they are given."""
        check_image(image_rgb, camera)
        if boxes is None:
            found = self._confirmed(image_rgb, camera, self._detected(image_rgb, None))
            return self._poses(image_rgb, camera, found, own_boxes=True)
        return self._poses(image_rgb, camera, Detections.from_boxes(np.asarray(boxes)), own_boxes=False)

    def networks(self) -> list[tuple[str, RunNetwork, ModelSpec]]:
        """Name, bare forward pass and spec of each network, for measuring what the pipeline adds to them."""
        networks: list[tuple[str, RunNetwork, ModelSpec]] = [(self.spec.name, self.engine.run_raw, self.spec)]
        if self._detector is not None:
            networks.append((self._detector.spec.name, self._detector.run_raw, self._detector.spec))
        return networks

    def warm_up(self) -> None:
        """Run every network once, so that the first frame is as fast as the others."""
        size = self.spec.input.size
        self.engine.infer(np.zeros((1, size, size, 3), np.float32))
        if self._detector is not None:
            self._detector.detect(np.zeros((64, 64, 3), np.uint8))

    def reset(self) -> None:
        """Forget everybody: the next frame is the first of another recording."""
        self._tracker.reset()
        if self._detector is not None:
            self._detector.reset()

    def close(self) -> None:
        """Free the engines; the pipeline cannot be used afterwards."""
        self.engine.close()
        if self._detector is not None:
            self._detector.close()

    def _detected(self, image_rgb: Image, max_views: int | None) -> Detections:
        if self._detector is None:
            raise InputError(
                f"The engine {self.spec.name} names no detector: give boxes, or name one in {self.spec.path}."
            )
        return self._detector.detect(image_rgb, max_views)

    def _confirmed(self, image_rgb: Image, camera: Camera, found: Detections) -> Detections:
        """Those whom a second look, mirrored and at another scale, also takes for people."""
        look = self.spec.second_look
        if look is None or not len(found):
            return found
        box_scale = self.spec.crop.box_scale * look.zoom
        virtual, _ = crop.virtual_cameras(
            camera, found.boxes, self.spec.input.size, self._up_of(camera, found), box_scale
        )
        mirrored = crop.warp(image_rgb, camera, virtual)[:, :, ::-1]
        return found.taken(self.engine.infer(mirrored).person_score >= look.min_score)

    def _view_budget(self, somebody_known: bool) -> int | None:
        if self._views_per_frame is None or not self.engine.scores_people:
            return None
        return self._views_per_frame if somebody_known else 2 * self._views_per_frame

    def _carried(self, stamp_s: float) -> Detections:
        """Where the people of the last frames are looked for in this one, if the engine can tell that they left."""
        poses = self._tracker.seen_since(stamp_s - _CARRY_S) if self.engine.scores_people else []
        if not poses:
            return Detections.from_boxes(np.zeros((0, 4)))
        joints2d = np.stack([pose.joints2d for pose in poses])
        boxes = self._regions.squares(joints2d) if self._body_upright else np.stack([pose.box for pose in poses])
        return Detections(boxes, np.array([pose.score for pose in poses]), self._regions.torso_axes(joints2d))

    def _poses(self, image_rgb: Image, camera: Camera, detections: Detections, own_boxes: bool) -> list[Pose3D]:
        joints3d, joints2d, person_scores = self._seen_upright(image_rgb, camera, detections)
        scores = np.minimum(detections.scores, person_scores) if not self.engine.scores_people else person_scores
        good = np.flatnonzero(plausibility.in_front(joints3d) & (person_scores >= self.spec.min_person_score))
        good = good[plausibility.kept_by_nms(joints3d[good], joints2d[good], scores[good])]
        boxes = self._regions.boxes(joints2d, camera) if own_boxes else detections.boxes
        unknown_spread = np.full(joints3d.shape[1], np.nan)
        return [Pose3D(boxes[i], float(scores[i]), joints3d[i], joints2d[i], unknown_spread) for i in good]

    def _seen_upright(self, image_rgb: Image, camera: Camera, detections: Detections) -> tuple[Floats, Floats, Floats]:
        """What _seen sees; bodies whose axis nobody told are looked at again until they stand upright on the crop."""
        up = self._up_of(camera, detections)
        joints3d, joints2d, scores = self._seen(image_rgb, camera, detections.boxes, up)
        untold = ~np.isfinite(detections.body_axes).all(-1) & self._body_upright
        for _ in range(_MORE_LOOKS if untold.any() else 0):
            axes = self._regions.torso_axes(joints2d)
            torso_up = self._up_of(camera, Detections(detections.boxes, detections.scores, axes))
            again = untold & (np.einsum("nc,nc->n", torso_up, up) < _LEAN_COSINE)
            if not again.any():
                break
            up = np.where(again[:, None], torso_up, up)
            joints3d[again], joints2d[again], scores[again] = self._seen(
                image_rgb, camera, detections.boxes[again], up[again]
            )
        return joints3d, joints2d, scores

    def _up_of(self, camera: Camera, detections: Detections) -> Floats:
        """[N,3] what shall point up on each person's crop: unit length, square to the line of sight where it can be."""
        up = np.broadcast_to(self.up, (len(detections), 3))
        centers = detections.boxes[:, :2] + detections.boxes[:, 2:] / 2
        if self._body_upright:
            body = crop.up_along(camera, centers, detections.body_axes)
            up = np.where(np.isfinite(body).all(-1, keepdims=True), body, up)
        sight, _ = camera.unproject(centers)
        up = up - np.einsum("nc,nc->n", up, sight)[:, None] * sight
        length = np.linalg.norm(up, axis=-1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(length > 1e-6, up / length, self.up)

    def _seen(self, image_rgb: Image, camera: Camera, boxes: Floats, up: Floats) -> tuple[Floats, Floats, Floats]:
        """joints3d [N,J,3] m, joints2d [N,J,2] px and person scores [N] of one look at each box."""
        side = self.spec.input.size
        virtual, in_view = crop.virtual_cameras(camera, boxes, side, up, self.spec.crop.box_scale)
        output = self.engine.infer(crop.warp(image_rgb, camera, virtual))
        on_image, _ = crop.to_image(output.coords2d, virtual, camera)
        recipe = self.spec.reconstruction
        inside = reconstruct.in_fov(output.coords2d, side, recipe.border) & camera.contains(on_image)
        in_crop = reconstruct.absolute(
            output.coords2d,
            output.coords3d_rel,
            virtual.K,
            inside,
            output.confidence,
            recipe.perspective,
            recipe.mix_3d,
        )
        joints3d = crop.to_camera_frame(in_crop, virtual.R_crop_cam)
        joints2d, _ = camera.project(joints3d)
        return joints3d, joints2d, np.where(in_view, output.person_score, 0.0)


def check_image(image_rgb: NDArray[np.generic], camera: Camera) -> None:
    """Raises InputError unless the image is [H,W,3] uint8 of the camera's size."""
    if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8:
        raise InputError(
            f"An image must be [H,W,3] uint8 RGB, got {list(image_rgb.shape)} {image_rgb.dtype}: convert it first."
        )
    height, width = image_rgb.shape[:2]
    if (width, height) != camera.size:
        raise InputError(
            f"The camera is calibrated for images of {camera.size[0]}x{camera.size[1]}, got one of {width}x{height}: "
            "use the calibration of this resolution."
        )


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
