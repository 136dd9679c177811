"""Where people are in an image, and each of them the right way up on their crop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrabs_ros import crop
from metrabs_ros.augmented_views import AugmentedViews
from metrabs_ros.camera import Camera
from metrabs_ros.detector import Detector
from metrabs_ros.errors import InputError
from metrabs_ros.estimator import Estimates, PoseEstimator
from metrabs_ros.iterated_camera import IteratedCamera
from metrabs_ros.pose import Detections
from metrabs_ros.regions import Regions

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]

# Where the body leans more than this from what was taken as up, another look with the body upright pays.
_LEAN_COSINE = np.cos(np.radians(7))
_MORE_LOOKS = 3
# So many times as vague as at the first look is seen less clearly: crops that differ are not equally vague.
_LESS_CLEAR = 1.1
_ONE_VIEW = AugmentedViews.of(1)


class PeopleFinder:
    """Detector, second look and estimates; ``world_up`` [3] is the world's up in the camera's optical frame."""

    def __init__(self, estimator: PoseEstimator, detector: Detector | None, regions: Regions) -> None:
        self._engine = estimator.engine
        self._detector = detector
        self._regions = regions
        self._estimator = estimator
        crop_spec = self._engine.spec.crop
        self._body_upright = crop_spec.body_upright
        self._pose_scale = crop_spec.box_scale if crop_spec.pose_scale is None else crop_spec.pose_scale

    def detected(
        self,
        image_rgb: Image,
        max_views: int | None = None,
        near: Floats | None = None,
        known: Floats | None = None,
    ) -> Detections:
        """By all views of the image or the next ``max_views`` in turn, one of them around the box ``near`` [4] instead,
        or close to what was faint and is nobody of those at ``known`` [M,4]; without doubtful ones where the engine's
        spec has no use for them.

        Raises InputError where there is no detector.
        """
        if self._detector is None:
            spec = self._engine.spec
            raise InputError(f"The engine {spec.name} names no detector: give boxes, or name one in {spec.path}.")
        found = self._detector.detect(image_rgb, max_views, near, known)
        if self._engine.spec.max_doubtful_vagueness > 0:
            return found
        return found.taken(found.scores >= self._detector.sure_score)

    def confirmed(self, image_rgb: Image, camera: Camera, found: Detections, world_up: Floats) -> Detections:
        """Those whom a second look, mirrored and at another scale, also takes for people."""
        spec = self._engine.spec
        look = spec.second_look
        if look is None or not len(found):
            return found
        camera = self._looked_through(camera)
        box_scale = spec.crop.box_scale * look.zoom
        virtual, _ = crop.virtual_cameras(
            camera, found.boxes, spec.input.size, self._up_of(camera, found, world_up), box_scale, spec.crop.focal
        )
        mirrored = crop.warp(image_rgb, camera, virtual, resampling=spec.crop.resampling)[:, :, ::-1]
        return found.taken(self._engine.infer(mirrored).person_score >= look.min_score)

    def estimated(
        self,
        image_rgb: Image,
        camera: Camera,
        detections: Detections,
        world_up: Floats,
        views: AugmentedViews,
        by_joints: NDArray[np.bool_] | None = None,
    ) -> Estimates:
        """The estimates of all, of whom those ``by_joints`` [N] are framed by squares around their own joints (None:
        nobody); bodies whose axis nobody told are looked at until they stand upright on the crop.

        For that one view does: all views are only taken once it is known what is up.
        """
        camera = self._looked_through(camera)
        up = self._up_of(camera, detections, world_up)
        scales = self._scales(camera, detections, by_joints)
        untold = ~np.isfinite(detections.body_axes).all(-1) & self._body_upright
        if not untold.any():
            return self._estimator(image_rgb, camera, detections.boxes, up, views, scales)
        seen = self._estimator(image_rgb, camera, detections.boxes, up, _ONE_VIEW, scales)
        for _ in range(_MORE_LOOKS):
            axes = self._regions.torso_axes(camera.project(seen.joints3d)[0])
            torso_up = self._up_of(camera, Detections(detections.boxes, detections.scores, axes), world_up)
            again = untold & (np.einsum("nc,nc->n", torso_up, up) < _LEAN_COSINE)
            if not again.any():
                break
            up = np.where(again[:, None], torso_up, up)
            looked = self._estimator(image_rgb, camera, detections.boxes[again], up[again], _ONE_VIEW, scales[again])
            seen.put(again, looked)
        return seen if len(views) == 1 else self._estimator(image_rgb, camera, detections.boxes, up, views, scales)

    def estimated_twice(
        self, image_rgb: Image, camera: Camera, detections: Detections, world_up: Floats, views: AugmentedViews
    ) -> Estimates:
        """The estimates of all in a single image, looked at again where their joints were: that frames them better than
        a detection does, unless they are seen less clearly so (portraits, whose legs are guessed).

        One look where the engine's spec has no pose_scale.
        """
        if self._engine.spec.crop.pose_scale is None:
            return self.estimated(image_rgb, camera, detections, world_up, views)
        seen = self.estimated(image_rgb, camera, detections, world_up, _ONE_VIEW)
        joints2d, _ = camera.project(seen.joints3d)
        squares, axes = self._regions.squares(joints2d, camera), self._regions.torso_axes(joints2d)
        is_known = np.isfinite(squares).all(-1)
        again = detections.replaced(is_known, squares, axes)
        twice = self.estimated(image_rgb, camera, again, world_up, _ONE_VIEW, is_known)
        is_better = is_known & ~(twice.vagueness > _LESS_CLEAR * seen.vagueness)
        if len(views) > 1:
            framed = detections.replaced(is_better, squares, axes)
            return self.estimated(image_rgb, camera, framed, world_up, views, is_better)
        seen.put(is_better, twice.taken(is_better))
        return seen

    def _scales(self, camera: Camera, detections: Detections, by_joints: NDArray[np.bool_] | None) -> Floats:
        """[N] box_scale or pose_scale; portraits, whose hips are outside the image and guessed, need the wider one."""
        scales = np.full(len(detections), self._engine.spec.crop.box_scale)
        if by_joints is not None:
            scales[by_joints & camera.contains(_centers(detections.boxes))] = self._pose_scale
        return scales

    def _looked_through(self, camera: Camera) -> Camera:
        """The camera whose crops the engine knows."""
        return IteratedCamera.of(camera) if self._engine.spec.crop.lens == "iterated" else camera

    def _up_of(self, camera: Camera, detections: Detections, world_up: Floats) -> Floats:
        """[N,3] what shall point up on each person's crop: unit length, square to the line of sight where it can be."""
        up = np.broadcast_to(world_up, (len(detections), 3))
        centers = _centers(detections.boxes)
        if self._body_upright:
            body = crop.up_along(camera, centers, detections.body_axes)
            up = np.where(np.isfinite(body).all(-1, keepdims=True), body, up)
        sight, _ = camera.unproject(centers)
        up = up - np.einsum("nc,nc->n", up, sight)[:, None] * sight
        length = np.linalg.norm(up, axis=-1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(length > 1e-6, up / length, world_up)


def _centers(boxes: Floats) -> Floats:
    """[N,4] xywh px -> [N,2] px."""
    return boxes[:, :2] + boxes[:, 2:] / 2
