"""A camera as the released code looks through it: the lens undone by five steps, and followed wherever it leads.

A crop of a box that reaches far outside the image differs from what the true lens would show, and what a network says
of it, too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrabs_ros.camera import Camera
from metrabs_ros.distortion import polynomial_distorted, polynomial_iterated

Floats = NDArray[np.float64]

# The formula of the released code ends before the sensor's tilt.
_MOST_COEFFICIENTS = 12


class IteratedCamera(Camera):
    """A camera of the polynomial family that keeps to no limit: whatever comes out finite is valid."""

    @classmethod
    def of(cls, camera: Camera) -> Camera:
        """The camera so; one whose lens the released code does not know, a fisheye or a tilted sensor, as it is."""
        if camera.distortion_model == "equidistant" or len(camera.D) > _MOST_COEFFICIENTS:
            return camera
        return cls(camera.K, camera.D, camera.distortion_model, camera.size)

    def project(self, points: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
        """Points [...,3] m -> pixels [...,2]; a point behind the camera is seen where its mirror image is."""
        points = np.asarray(points, np.float64)
        with np.errstate(all="ignore"):
            distorted = polynomial_distorted(points[..., :2] / points[..., 2:], self.D)
            pixels = distorted @ self.K[:2, :2].T + self.K[:2, 2]
        valid = np.isfinite(pixels).all(-1)
        return np.where(valid[..., None], pixels, np.nan), valid

    def unproject(self, pixels: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
        """Pixels [...,2] -> unit viewing rays [...,3], where the steps lead."""
        distorted = np.asarray(pixels, np.float64) @ self._K_inv[:2, :2].T + self._K_inv[:2, 2]
        with np.errstate(all="ignore"):
            normalized = polynomial_iterated(distorted, self.D)
            rays = np.concatenate([normalized, np.ones_like(normalized[..., :1])], -1)
            length = np.linalg.norm(rays, axis=-1, keepdims=True)
            rays /= length
        valid = np.isfinite(length[..., 0])
        return np.where(valid[..., None], rays, np.nan), valid
