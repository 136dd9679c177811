"""From a record to an Example, augmented as in the paper (3.5 and 6), every part with its own switch (table 7).

The geometric part turns, zooms and mirrors the virtual camera before the picture is resampled, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from metrabs_ros import crop
from metrabs_ros.crop import VirtualCameras
from metrabs_ros.errors import InputError
from metrabs_ros.skeleton import Skeleton
from training.augmentation.background import with_background
from training.augmentation.colour import recoloured
from training.augmentation.geometry import View, in_disc, sampled_part, turned, viewed_box
from training.augmentation.occlusion import Cutout, with_noise, with_objects
from training.data.pictures import Picture
from training.data.record import Record, in_order
from training.examples import Example
from training.skeleton import SKELETON

# The runtime's resampling encodes linear light with this exponent; a mask's coverage is linear.
_GAMMA = 2.2


@dataclass(frozen=True)
class AugmentConfig:
    """geometry, colour: switches. rotation_deg: ±; zoom: smallest and largest; shift: radius in sides of the box;
    mirror, occlusion, background, truncation: probabilities. objects: share of occlusions that are pasted objects, the
    others are noise. occlusion_composited: probability on MuCo, whose people hide each other already."""

    geometry: bool = True
    rotation_deg: float = 20.0
    zoom: tuple[float, float] = (0.75, 1.25)
    shift: float = 0.1
    mirror: float = 0.5
    colour: bool = True
    occlusion: float = 0.7
    occlusion_composited: float = 0.3
    objects: float = 0.5
    background: float = 0.7
    truncation: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mirror", "occlusion", "occlusion_composited", "objects", "background", "truncation"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is a probability, between 0 and 1, got {getattr(self, name)}.")

    def of(self, dataset: str) -> AugmentConfig:
        """What holds for one data set."""
        return replace(self, occlusion=self.occlusion_composited) if dataset == "muco" else self


NONE = AugmentConfig(geometry=False, colour=False, occlusion=0, occlusion_composited=0, background=0)


class Augmentation:
    """Turns records into crops of ``side`` px with the joints of ``skeleton``.

    objects: what may be pasted, see augmentation.occlusion.voc_objects; backgrounds: photos without people. universal:
    3D labels are the height-normalised skeletons where there are such. Raises InputError where config needs objects and
    there are none.
    """

    def __init__(
        self,
        config: AugmentConfig = NONE,
        objects: Sequence[Cutout] = (),
        backgrounds: Sequence[Picture] = (),
        skeleton: Skeleton = SKELETON,
        side: int = 256,
        universal: bool = False,
    ) -> None:
        if max(config.occlusion, config.occlusion_composited) * config.objects > 0 and not len(objects):
            raise InputError("Pasting objects needs objects: give those of Pascal VOC, or set objects to 0.")
        self.config, self.skeleton, self.side, self.universal = config, skeleton, side, universal
        self._objects, self._backgrounds = objects, backgrounds

    def example(self, record: Record, rng: np.random.Generator) -> Example:
        """Repeatable by the state of rng; a part that is switched off leaves the others as they are."""
        config = self.config.of(record.dataset)
        geometry_rng, truncation_rng, background_rng, occlusion_rng, colour_rng = rng.spawn(5)
        view = sampled_view(config, geometry_rng, truncation_rng)
        cameras = self.cameras(record, view)
        pixels = crop.warp(record.image(), record.camera, cameras)[0]
        if record.mask is not None and background_rng.random() < config.background:
            pixels = self._on_background(pixels, record, cameras, background_rng)
        pixels, covered = self._appearance(pixels, config, occlusion_rng, colour_rng)
        return self._labelled(record, cameras, view, pixels, covered)

    def cameras(self, record: Record, view: View) -> VirtualCameras:
        """The one virtual camera that sees the record's person. Raises InputError where the lens cannot see them."""
        cameras, seen = crop.virtual_cameras(record.camera, viewed_box(record.box, view), self.side, record.up)
        if not seen.all():
            raise InputError(f"{record.dataset}: the camera cannot see the box {record.box.tolist()}: leave it out.")
        return turned(cameras, view)

    def _on_background(
        self, pixels: NDArray[np.float32], record: Record, cameras: VirtualCameras, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        if not len(self._backgrounds):
            raise InputError("Swapping backgrounds needs photos without people: give some, or set background to 0.")
        assert record.mask is not None
        inside = crop.warp(record.mask.load(), record.camera, cameras)[0, :, :, 0] ** np.float32(_GAMMA)
        photo = self._backgrounds[rng.integers(len(self._backgrounds))].load()
        return with_background(pixels, inside, photo, rng)

    def _appearance(
        self,
        pixels: NDArray[np.float32],
        config: AugmentConfig,
        occlusion_rng: np.random.Generator,
        colour_rng: np.random.Generator,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Objects get the picture's colours; noise stays white, as in random erasing."""
        covered = np.zeros(pixels.shape[:2], bool)
        with_object = occlusion_rng.random() < config.objects
        occluded = occlusion_rng.random() < config.occlusion
        if occluded and with_object:
            pixels, covered = with_objects(pixels, self._objects, occlusion_rng)
        if config.colour:
            pixels = recoloured(pixels, colour_rng)
        if occluded and not with_object:
            pixels, covered = with_noise(pixels, occlusion_rng)
        return pixels, covered

    def _labelled(
        self,
        record: Record,
        cameras: VirtualCameras,
        view: View,
        pixels: NDArray[np.float32],
        covered: NDArray[np.bool_],
    ) -> Example:
        names = self.skeleton.joint_names
        R_crop_cam, K = cameras.R_crop_cam[0], cameras.K[0]
        on_picture = in_order(record.joints2d, record.joint_names, names)
        joints3d = np.full((len(names), 3), np.nan)
        if record.joints3d is None:
            joints2d = crop.from_image(on_picture[None], cameras, record.camera)[0][0]
        else:
            metric = in_order(record.joints3d, record.joint_names, names) @ R_crop_cam.T
            with np.errstate(invalid="ignore", divide="ignore"):
                joints2d = np.where(metric[:, 2:] > 0, (metric @ K.T)[:, :2] / metric[:, 2:], np.nan)
            joints3d = metric
            if self.universal and record.joints3d_universal is not None:
                joints3d = in_order(record.joints3d_universal, record.joint_names, names) @ R_crop_cam.T
        visible = record.camera.contains(on_picture) & _uncovered(joints2d, covered)
        if record.visible is not None:
            visible &= in_order(record.visible, record.joint_names, names)
        order = self.skeleton.mirror if view.mirrored else np.arange(len(names))
        return Example(
            image=np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8),
            K=K.astype(np.float32),
            joints3d=joints3d[order].astype(np.float32),
            joints2d=joints2d[order].astype(np.float32),
            visible=visible[order],
            labels3d=record.joints3d is not None,
            source=record.dataset,
        )


def sampled_view(config: AugmentConfig, geometry_rng: np.random.Generator, truncation_rng: np.random.Generator) -> View:
    """How the camera is turned, by config."""
    part = sampled_part(truncation_rng) if truncation_rng.random() < config.truncation else None
    if not config.geometry:
        return View(part=part)
    shift = config.shift * in_disc(geometry_rng)
    return View(
        roll=np.radians(geometry_rng.uniform(-config.rotation_deg, config.rotation_deg)),
        zoom=geometry_rng.uniform(*config.zoom),
        shift=(float(shift[0]), float(shift[1])),
        mirrored=bool(geometry_rng.random() < config.mirror),
        part=part,
    )


def _uncovered(joints2d: NDArray, covered: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which joints [J,2] px lie on the crop and not behind anything put there."""
    side = len(covered)
    with np.errstate(invalid="ignore"):
        inside = ((joints2d >= -0.5) & (joints2d < side - 0.5)).all(-1)
    places = np.where(inside[:, None], np.rint(np.nan_to_num(joints2d)), 0).astype(int).clip(0, side - 1)
    return inside & ~covered[places[:, 1], places[:, 0]]
