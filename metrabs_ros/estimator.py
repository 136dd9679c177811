"""From boxes to absolute poses: virtual cameras, the network and the reconstruction, for all people in one batch."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrabs_ros import crop, reconstruct, uncertainty
from metrabs_ros.augmented_views import AugmentedViews
from metrabs_ros.camera import Camera
from metrabs_ros.engine import Engine, EngineOutput
from metrabs_ros.warp_choice import WarpChoice

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]

# Metres: a heatmap of one cell has no spread at all.
_LEAST_SPREAD = 1e-3


@dataclass(eq=False)
class Estimates:
    """Of N boxes: joints3d [N,J,3] m in the camera's optical frame, uncertainty [N,J] m (NaN: unknown), posture_spread
    [N,J] m between the views around their own middles (NaN for one view), and scores [N] in 0..1 for a person being
    there, 0 where the lens does not see the box; vagueness [N]: the 2D heatmaps' spread as a part of the crop's side,
    the lower quartile of the joints, so that a body half out of the image is not vague (NaN where unknown)."""

    joints3d: Floats
    uncertainty: Floats
    posture_spread: Floats
    scores: Floats
    vagueness: Floats

    def taken(self, where: NDArray[np.bool_]) -> Estimates:
        """The estimates at ``where`` [N] bool."""
        return Estimates(*(getattr(self, each.name)[where] for each in fields(self)))

    def put(self, where: NDArray[np.bool_], others: Estimates) -> None:
        """Replace the estimates at ``where`` [N] bool."""
        for each in fields(self):
            getattr(self, each.name)[where] = getattr(others, each.name)


class PoseEstimator:
    """The poses of an engine; ``calibration`` is that of its spec.

    person_height: of everybody who is seen, m, where it is known (0: unknown); see ``Calibration.size_of``.
    """

    def __init__(self, engine: Engine, person_height: float = 0.0) -> None:
        self.engine = engine
        self.calibration = engine.spec.calibration
        self.person_height = person_height
        self._size = self.calibration.size_of(person_height)
        self._counterparts = engine.spec.network_mirror
        self._choice = WarpChoice()

    def __call__(
        self,
        image_rgb: Image,
        camera: Camera,
        boxes: Floats,
        up: Floats,
        views: AugmentedViews,
        box_scale: ArrayLike | None = None,
    ) -> Estimates:
        """boxes [N,4] xywh px, up [N,3] what points up on their crops -> the mean over the views of each. box_scale,
        one for all or [N]: another than that of the spec.

        The mean is one of absolute poses in the camera's frame, each joint by itself, and of the scores. Uncertainty
        comes from the views where there are several, else from the heatmaps where the engine gives their spread.
        """
        spec = self.engine.spec
        virtual, in_view = crop.virtual_cameras(
            camera, boxes, spec.input.size, up, spec.crop.box_scale if box_scale is None else box_scale, spec.crop.focal
        )
        cameras = views.cameras(virtual)
        output = self._inferred(image_rgb, camera, cameras, views).scaled(self._size)
        on_image, _ = crop.to_image(output.coords2d, cameras, camera)
        recipe = spec.reconstruction
        # The borders are those of the crop that the network was shown: in a mirror the far one is at the left.
        on_shown = views.exchanged_columns(output.coords2d, cameras, spec.crop.mirror_about)
        inside = reconstruct.in_fov(on_shown, spec.input.size, recipe.border, recipe.border_far)
        if recipe.inside == "image":
            inside &= camera.contains(on_image)
        fit = (cameras.K, inside, _weights(output, recipe.weights), recipe.perspective, recipe.mix_3d)
        # The views of a person stay together, as in the released code.
        coupled = max(1, recipe.coupled_crops // len(views) * len(views))
        in_crop = reconstruct.absolute(output.coords2d, output.coords3d_rel, *fit, recipe.ridge, coupled)
        in_camera = self._transformed(crop.to_camera_frame(in_crop, cameras.R_crop_cam))
        each = in_camera.reshape(len(virtual), len(views), *in_camera.shape[1:])
        joints3d = each.mean(1)
        distance = np.linalg.norm(joints3d, axis=-1)
        posture_spread = np.full(distance.shape, np.nan)
        if len(views) > 1:
            spread = uncertainty.spread_of_views(each)
            posture_spread = uncertainty.spread_of_views(each - each.mean(2, keepdims=True))
            known = uncertainty.of_views(spread, len(views), distance, self.calibration)
        else:
            depth = in_crop[..., 2]
            deviation = reconstruct.absolute_deviation(output.spread2d, output.spread3d, output.coords2d, depth, *fit)
            known = uncertainty.of_heatmaps(self._transformed_deviation(deviation), distance, self.calibration)
        scores = output.person_score.reshape(len(virtual), len(views)).astype(np.float64).mean(1)
        per_view = _lower_quartiles(output.spread2d) / spec.input.size
        vagueness = per_view.reshape(len(virtual), len(views)).mean(1)
        return Estimates(joints3d, known, posture_spread, np.where(in_view, scores, 0.0), vagueness)

    def _inferred(
        self, image_rgb: Image, camera: Camera, cameras: crop.VirtualCameras, views: AugmentedViews
    ) -> EngineOutput:
        """What the network says of the cameras [N·A], as they see it."""
        about = self.engine.spec.crop.mirror_about
        gammas = views.gammas if len(views) > 1 else np.array([self.engine.spec.crop.gamma])
        shown, gammas = views.shown(cameras, about), views.of_all(gammas, cameras)
        return views.unmirrored(self._of_shown(image_rgb, camera, shown, gammas), cameras, self._counterparts, about)

    def _of_shown(
        self, image_rgb: Image, camera: Camera, shown: crop.VirtualCameras, gammas: NDArray[np.generic]
    ) -> EngineOutput:
        """What the network says of its crops, which it makes itself where it can and that was measured to be faster."""
        if not len(shown) or self.engine.spec.crop.resampling != "area" or not self.engine.can_warp:
            return self._of_crops(image_rgb, camera, shown, gammas)
        height, width = image_rgb.shape[:2]
        case = self._choice.case((width, height), len(shown))
        begun = time.perf_counter()
        output = None
        if case.is_gpu_next:
            output = self.engine.infer_warped(image_rgb, crop.planned(camera, shown, gammas))
        is_gpu = output is not None
        if output is None:
            output = self._of_crops(image_rgb, camera, shown, gammas)
        case.took(is_gpu, time.perf_counter() - begun)
        return output

    def _of_crops(
        self, image_rgb: Image, camera: Camera, shown: crop.VirtualCameras, gammas: NDArray[np.generic]
    ) -> EngineOutput:
        """The same of crops made on the CPU, when their part's turn comes."""
        resampling = self.engine.spec.crop.resampling
        at_once = self.engine.spec.input.max_batch
        parts = [slice(start, start + at_once) for start in range(0, max(1, len(shown)), at_once)]
        outputs = [
            self.engine.infer(crop.warp(image_rgb, camera, shown.taken(part), gammas[part], resampling))
            for part in parts
        ]
        return EngineOutput.joined(outputs)

    def _transformed(self, joints3d: Floats) -> Floats:
        """The network's joints [N,J,3] -> the engine's: weighted sums of them where the spec has a joint_transform."""
        transform = self.engine.spec.joint_transform
        return joints3d if transform is None else np.einsum("njc,jk->nkc", joints3d, transform.weights, optimize=True)

    def _transformed_deviation(self, deviation: Floats) -> Floats:
        """[N,J] m of the network's joints, taken to be independent -> of the engine's."""
        transform = self.engine.spec.joint_transform
        if transform is None:
            return deviation
        return np.sqrt(deviation**2 @ transform.weights.astype(np.float64) ** 2)


def _weights(output: EngineOutput, by: str) -> NDArray[np.floating]:
    """[N,J] in 0..1 of the joints in the fit: those of least variance count most where it is by ``spread``."""
    if by == "confidence":
        return output.confidence
    spread = np.maximum(output.spread3d, _LEAST_SPREAD)
    return output.confidence * (spread.min(1, keepdims=True) / spread)


def _lower_quartiles(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """[N,J] -> [N]: numpy.quantile at 0.25, at a tenth of its cost for so few."""
    ordered = np.sort(values)
    place = (values.shape[1] - 1) / 4
    low, high = ordered[:, int(place)], ordered[:, math.ceil(place)]
    return low + (place - int(place)) * (high - low)
