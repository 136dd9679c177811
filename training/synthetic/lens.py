"""What the real lens and picture do to a crop: where the picture ends, and how far from its middle each pixel lies."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from metrabs_ros.camera import Camera

Floats = NDArray[np.floating]


def lens_maps(
    camera: Camera, K: Floats, R_crop_cam: Floats, side: int
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32]]:
    """For a crop of ``side`` px: the part of each pixel inside the real picture [S,S] (None: all), and the squared
    distance from the picture's middle [S,S], 1 at its corners."""
    steps = np.linspace(-0.5, side - 0.5, 17)
    u, v = np.meshgrid(steps, steps)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(K).T @ R_crop_cam
    pixels, valid = camera.project(rays)
    width, height = camera.size
    scale = float(K[0, 0] / camera.K[0, 0])
    edge = np.minimum(
        np.minimum(pixels[..., 0] + 0.5, width - 0.5 - pixels[..., 0]),
        np.minimum(pixels[..., 1] + 0.5, height - 0.5 - pixels[..., 1]),
    )
    edge = np.where(valid, edge, -32.0)
    middle = (np.nan_to_num(pixels) - [width / 2, height / 2]) / (np.hypot(width, height) / 2)
    radius = _grown((middle**2).sum(-1).clip(0, 2), side)
    if edge.min() > 2:
        return None, radius
    return np.clip(_grown(edge, side) * scale + 0.5, 0, 1), radius


def _grown(grid: Floats, side: int) -> NDArray[np.float32]:
    """A grid over the crop's area (its corners included) interpolated to every pixel's centre."""
    at = ((np.arange(side) + 0.5) / side * (len(grid) - 1)).astype(np.float32)
    x, y = np.meshgrid(at, at)
    return cv2.remap(grid.astype(np.float32), x, y, cv2.INTER_LINEAR)
