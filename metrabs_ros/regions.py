"""Where in the image a person is, from the joints of their skeleton."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.camera import Camera
from metrabs_ros.skeleton import Skeleton

Floats = NDArray[np.float64]

# Joints lie inside the body: a box around them is widened by this part of its longer side on every side.
_FLESH = 0.06


class Regions:
    """Boxes, circles and axes of people with a given skeleton; joints2d [N,J,2] px, NaN where a joint has no image."""

    def __init__(self, skeleton: Skeleton) -> None:
        self._hips = skeleton.mean_of(("left_hip", "right_hip"))
        self._shoulders = skeleton.mean_of(("left_shoulder", "right_shoulder"))

    def boxes(self, joints2d: Floats, camera: Camera) -> Floats:
        """[N,4] xywh px around the joints that are in the image; around nothing: zeros."""
        inside = camera.contains(joints2d)[..., None]
        low = np.where(inside, joints2d, np.inf).min(1)
        high = np.where(inside, joints2d, -np.inf).max(1)
        anything = np.isfinite(low).all(-1, keepdims=True)
        low, high = np.where(anything, low, 0.0), np.where(anything, high, 0.0)
        margin = _FLESH * (high - low).max(-1, keepdims=True)
        border = np.array(camera.size) - 0.5
        low = np.clip(low - margin, -0.5, border)
        high = np.clip(high + margin, -0.5, border)
        return np.concatenate([low, high - low], -1)

    def squares(self, joints2d: Floats, camera: Camera) -> Floats:
        """[N,4] xywh px: the square around the circle that is centred between the hips and reaches the farthest joint.

        This is what BlazePose's detector predicts; without hips in the skeleton, the centre is that of all joints.
        Joints farther outside the image than half its size count as if they were there: somebody near whose legs are
        not seen may have them close to the camera's plane, thousands of pixels away. NaN where no joint has an image.
        """
        size = np.array(camera.size)
        near = np.clip(joints2d, -0.5 * size, 1.5 * size)
        known = np.isfinite(near).all(-1, keepdims=True)
        if self._hips is None:
            center = np.where(known, near, 0.0).sum(1) / np.maximum(known.sum(1), 1)
        else:
            hips = self._hips > 0
            center = np.einsum("j,njc->nc", self._hips[hips], near[:, hips])
        distance = np.linalg.norm(near - center[:, None], axis=-1)
        radius = np.where(np.isnan(distance), -np.inf, distance).max(1, keepdims=True) * (1 + _FLESH)
        radius = np.where(np.isfinite(radius), radius, np.nan)
        return np.concatenate([center - radius, 2 * radius, 2 * radius], -1)

    def torso_axes(self, joints: Floats) -> Floats:
        """Unit directions [N,C] from the hips to the shoulders of joints [N,J,C] in 2D or 3D; NaN where unknown."""
        if self._hips is None or self._shoulders is None:
            return np.full((len(joints), joints.shape[-1]), np.nan)
        axes = np.einsum("j,njc->nc", self._shoulders - self._hips, joints)
        with np.errstate(divide="ignore", invalid="ignore"):
            return axes / np.linalg.norm(axes, axis=-1, keepdims=True)
