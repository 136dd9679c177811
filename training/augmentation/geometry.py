"""Where the virtual camera looks: rotation, scale, shift, mirror and truncation change it, never a crop's pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.crop import VirtualCameras

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """roll rad, zoom factor, shift [2] in sides of the box, mirrored, part [4] of the person's square that is kept
    (x, y, width, height in its sides)."""

    roll: float = 0.0
    zoom: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    mirrored: bool = False
    part: tuple[float, float, float, float] | None = None


def in_disc(rng: np.random.Generator) -> Floats:
    """A point [2] anywhere in the unit disc, evenly."""
    angle, radius = rng.uniform(-np.pi, np.pi), np.sqrt(rng.uniform())
    return radius * np.array([np.cos(angle), np.sin(angle)])


def sampled_part(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A square part of the unit square with more than a quarter of its area (P 3.5; as in the released code)."""
    while True:
        left, (right, bottom) = rng.uniform(0, 0.5), rng.uniform(0.5, 1, 2)
        side = right - left
        if 0.5 < side < bottom:
            return float(left), float(bottom - side), float(side), float(side)


def viewed_box(box: Floats, view: View) -> Floats:
    """The box [4] xywh px that the camera shall look at, before its zoom."""
    if view.part is not None:
        square = person_square(box)
        box = np.concatenate([square[:2] + square[2:] * view.part[:2], square[2:] * view.part[2:]])
    return np.concatenate([box[:2] + np.array(view.shift) * box[2:].max(), box[2:]])


def person_square(box: Floats) -> Floats:
    """The box enlarged about its middle to a square."""
    side = box[2:].max()
    return np.concatenate([box[:2] + box[2:] / 2 - side / 2, [side, side]])


def turned(cameras: VirtualCameras, view: View) -> VirtualCameras:
    """Cameras rolled, zoomed and mirrored. A mirrored camera has x to the left: its R_crop_cam is orthogonal with
    determinant -1, and all of metrabs_ros.crop works with it."""
    c, s = np.cos(view.roll), np.sin(view.roll)
    R_new_old = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    if view.mirrored:
        R_new_old = np.diag([-1.0, 1, 1]) @ R_new_old
    K = cameras.K.copy()
    K[:, :2, :2] *= view.zoom
    return VirtualCameras(K, R_new_old @ cameras.R_crop_cam, cameras.side)
