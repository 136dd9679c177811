"""One person in one picture as a data set labels them: what every reader yields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from training.data.pictures import Image, Picture

Floats = NDArray[np.float64]

# A picture without calibration is taken as seen from far away, as in the released code: its rays are nearly parallel.
FAR_FOV_DEG = 8.0


@dataclass(frozen=True, eq=False)
class Mask:
    """Where the person is: the red channel of ``picture`` above ``threshold``."""

    picture: Picture
    threshold: int = 127

    def load(self) -> Image:
        """[H,W,3] uint8, 0 or 255."""
        red = self.picture.load()[:, :, :1]
        return np.repeat(np.where(red > self.threshold, np.uint8(255), np.uint8(0)), 3, axis=2)


@dataclass(frozen=True, eq=False)
class Record:
    """dataset; picture; camera, that the picture was taken with; box [4] xywh px; joint_names J of them;
    joints2d [J,2] px of the picture and joints3d [J,3] m in the camera's optical frame, NaN where unlabelled, joints3d
    None where only 2D is known; joints3d_universal [J,3] m, the height-normalised skeleton where there is one;
    visible [J] bool or None where the data set does not say; up [3]: up in the world, in the camera's frame;
    gamma: exponent that the picture's values need; ids: subject, sequence, activity, scene, frame."""

    dataset: str
    picture: Picture
    camera: Camera
    box: Floats
    joint_names: tuple[str, ...]
    joints2d: Floats
    joints3d: Floats | None = None
    joints3d_universal: Floats | None = None
    visible: NDArray[np.bool_] | None = None
    mask: Mask | None = None
    up: Floats = field(default_factory=lambda: np.array([0.0, -1.0, 0.0]))
    gamma: float = 1.0
    subject: str = ""
    sequence: str = ""
    activity: str = ""
    scene: str = ""
    frame: int = 0

    def __post_init__(self) -> None:
        count = len(self.joint_names)
        for name, width in (("joints2d", 2), ("joints3d", 3), ("joints3d_universal", 3)):
            array = getattr(self, name)
            if array is not None and np.shape(array) != (count, width):
                raise InputError(f"{self.dataset}: {name} must be [{count},{width}], got {list(np.shape(array))}.")

    def image(self) -> Image:
        """The picture, its values corrected: [H,W,3] uint8 RGB of the camera's size. Raises InputError."""
        image = self.picture.load()
        if image.shape[1::-1] != self.camera.size:
            raise InputError(
                f"{self.dataset}: {self.picture} is {image.shape[1]}x{image.shape[0]}, but its camera has "
                f"{self.camera.size[0]}x{self.camera.size[1]}: use the pictures as they are given out."
            )
        if self.gamma != 1:
            image = cv2.LUT(image, np.rint((np.arange(256) / 255) ** self.gamma * 255).astype(np.uint8))
        return image


def in_order(values: NDArray, names: Sequence[str], wanted: Sequence[str]) -> NDArray:
    """values [J,...] of joints ``names`` as rows for the ``wanted`` joints; NaN (False) where there is none."""
    empty = False if values.dtype == bool else np.nan
    out = np.full((len(wanted), *values.shape[1:]), empty, values.dtype)
    row = {name: i for i, name in enumerate(names)}
    for i, name in enumerate(wanted):
        if name in row:
            out[i] = values[row[name]]
    return out


def joint_box(joints2d: Floats, factor: float = 1.05) -> Floats:
    """The box [4] xywh px about the labelled joints [J,2], enlarged about its middle."""
    low, high = np.nanmin(joints2d, 0), np.nanmax(joints2d, 0)
    half = (high - low) / 2 * factor
    return np.concatenate([(low + high) / 2 - half, 2 * half])


def with_detection(box: Floats, detections: Sequence[Sequence[float]]) -> Floats:
    """The hull of a joint box and the most confident detection (xywh, score), unless that is somebody else (IoU)."""
    if not len(detections):
        return box
    best = np.asarray(max(detections, key=lambda detection: detection[4])[:4], np.float64)
    low = np.minimum(box[:2], best[:2])
    high = np.maximum(box[:2] + box[2:], best[:2] + best[2:])
    hull = np.concatenate([low, high - low])
    return hull if np.prod(box[2:]) / np.prod(hull[2:]) > 0.5 else box


class Thinning:
    """Keeps a pose only if a joint moved by ``distance`` m since the last that was kept (P 6)."""

    def __init__(self, distance: float = 0.1) -> None:
        self._distance = distance
        self._last: Floats | None = None

    def keeps(self, joints3d: Floats) -> bool:
        """joints3d [J,3] m in a frame that stands still, NaN where unknown; only poses that nothing else rejects.

        A joint counts as moved from where it was in the last kept pose that knew it, or, if none did, from where it was
        first seen.
        """
        if self._last is None:
            self._last = joints3d
            return True
        moved = bool((np.linalg.norm(joints3d - self._last, axis=1) >= self._distance).any())
        preferred, otherwise = (joints3d, self._last) if moved else (self._last, joints3d)
        self._last = np.where(np.isnan(preferred), otherwise, preferred)
        return moved
