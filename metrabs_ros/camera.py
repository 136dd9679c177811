"""A calibrated camera: intrinsics and lens distortion, from 3D points to pixels and back.

Pixel (0, 0) is the centre of the top-left pixel, as in OpenCV and ROS. The camera's optical frame has x right, y down,
z forward. Lens models are OpenCV's, with its order of coefficients (calib3d documentation, "Detailed Description"):
``plumb_bob`` and ``rational_polynomial`` share one formula whose coefficient count decides (4, 5, 8, 12 or 14), and
``equidistant`` is the Kannala-Brandt fisheye with 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from metrabs_ros.distortion import (
    distortion_limit,
    fisheye_angle,
    inverted_radius,
    polynomial_distorted,
    polynomial_undistorted,
)
from metrabs_ros.errors import InputError

Floats = NDArray[np.float64]

_POLYNOMIAL_MODELS = ("plumb_bob", "rational_polynomial")
_POLYNOMIAL_COUNTS = (4, 5, 8, 12, 14)


class CameraError(InputError):
    """A camera that cannot be used; the message says what was expected, what came and what to do."""


@dataclass(frozen=True, eq=False)
class Camera:
    """K [3,3] px, D [n] lens coefficients, distortion_model, size (width, height) px.

    Raises CameraError for intrinsics that no camera has, an unknown lens model or a wrong number of coefficients.
    """

    K: Floats
    D: Floats
    distortion_model: str
    size: tuple[int, int]
    _limit: float = field(init=False, repr=False)
    _K_inv: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        K = np.array(self.K, np.float64)
        D = np.array(self.D, np.float64).ravel()
        width, height = (int(side) for side in self.size)
        _check_intrinsics(K)
        if width <= 0 or height <= 0:
            raise CameraError(
                f"The camera's image size must be positive, got {width}x{height}: "
                "set width and height in the calibration."
            )
        model, D = _checked_distortion(self.distortion_model, D)
        K.setflags(write=False)
        D.setflags(write=False)
        object.__setattr__(self, "K", K)
        object.__setattr__(self, "D", D)
        object.__setattr__(self, "distortion_model", model)
        object.__setattr__(self, "size", (width, height))
        object.__setattr__(self, "_limit", distortion_limit(model, D))
        object.__setattr__(self, "_K_inv", np.linalg.inv(K))

    @classmethod
    def from_fov(cls, fov_deg: float, size: tuple[int, int]) -> Camera:
        """A pinhole camera whose longer image side spans ``fov_deg`` degrees, centred, square pixels."""
        if not 0 < fov_deg < 180:
            raise CameraError(f"A field of view must lie between 0 and 180 degrees, got {fov_deg}: give e.g. --fov 55.")
        width, height = size
        focal = max(width, height) / (2 * math.tan(math.radians(fov_deg) / 2))
        K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
        return cls(K, np.zeros(0), "plumb_bob", (width, height))

    @classmethod
    def from_yaml(cls, path: str | Path) -> Camera:
        """A calibration file as ROS camera_calibration writes it."""
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CameraError(f"Cannot read the calibration file {path}: {error}.") from error
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise CameraError(
                f"{path} is not valid YAML ({_one_line(error)}): expected a camera_calibration file."
            ) from error
        if not isinstance(data, dict):
            raise CameraError(
                f"{path} holds no calibration: expected keys image_width, image_height, camera_matrix, ..."
            )
        missing = [key for key in ("image_width", "image_height", "camera_matrix") if key not in data]
        if missing:
            raise CameraError(
                f"{path} lacks {', '.join(missing)}: expected the YAML that ROS camera_calibration writes, got keys "
                f"{', '.join(map(str, data)) or 'none'}."
            )
        try:
            K = _matrix(data["camera_matrix"], 9).reshape(3, 3)
            D = _matrix(data.get("distortion_coefficients", []), None)
            size = (int(data["image_width"]), int(data["image_height"]))
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise CameraError(
                f"{path}: a matrix or size is not as camera_calibration writes it ({_one_line(error)})."
            ) from error
        return cls(K, D, str(data.get("distortion_model", "plumb_bob")), size)

    @property
    def is_distorted(self) -> bool:
        """Whether straight lines in the world may be bent in the image."""
        return self.distortion_model == "equidistant" or bool(np.any(self.D))

    def undistorted(self) -> Camera:
        """The same intrinsics without lens distortion, as for a rectified image."""
        return Camera(self.K, np.zeros(0), "plumb_bob", self.size)

    def cropped(self, x_offset: int, y_offset: int, size: tuple[int, int]) -> Camera:
        """The camera of the sub-image that starts at (x_offset, y_offset)."""
        shift = np.array([[1, 0, -x_offset], [0, 1, -y_offset], [0, 0, 1.0]])
        return Camera(shift @ self.K, self.D, self.distortion_model, size)

    def zoomed(self, factor_x: float, factor_y: float | None = None) -> Camera:
        """The camera of the image resized by the factor(s); pixel areas, not pixel centres, are scaled."""
        factor_y = factor_x if factor_y is None else factor_y
        scale = np.array([[factor_x, 0, (factor_x - 1) / 2], [0, factor_y, (factor_y - 1) / 2], [0, 0, 1.0]])
        width, height = self.size
        return Camera(
            scale @ self.K, self.D, self.distortion_model, (round(width * factor_x), round(height * factor_y))
        )

    def check_image(self, image_rgb: NDArray[np.generic]) -> None:
        """Raises InputError unless the image is [H,W,3] uint8 of this camera's size."""
        if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8:
            raise InputError(
                f"An image must be [H,W,3] uint8 RGB, got {list(image_rgb.shape)} {image_rgb.dtype}: convert it first."
            )
        self.check_size(image_rgb.shape[1], image_rgb.shape[0])

    def check_size(self, width: int, height: int) -> None:
        """Raises InputError unless this camera's images have this size."""
        if (width, height) != self.size:
            raise InputError(
                f"The camera is calibrated for images of {self.size[0]}x{self.size[1]}, got one of {width}x{height}: "
                "use the calibration of this resolution."
            )

    def project(self, points: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
        """Points [...,3] m in the optical frame -> pixels [...,2] and whether each has an image at all.

        Invalid, with pixels NaN: points not in front of the camera (equidistant: on the axis behind it), and points
        beyond the angle at which the lens polynomial turns back on itself.
        """
        points = np.asarray(points, np.float64)
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.distortion_model == "equidistant":
                radius = np.hypot(x, y)
                theta = np.arctan2(radius, z)
                valid = (theta <= self._limit) & ((radius > 0) | (z > 0))
                scale = np.where(radius > 0, fisheye_angle(theta, self.D) / radius, 1 / z)
                x, y = x * scale, y * scale
            else:
                x, y, valid = x / z, y / z, z > 0
                if len(self.D):
                    valid = valid & (np.hypot(x, y) <= self._limit)
                    distorted = polynomial_distorted(np.stack([x, y], -1), self.D)
                    x, y = distorted[..., 0], distorted[..., 1]
            (fx, skew, cx), (_, fy, cy), _ = self.K.tolist()
            u, v = fx * x + skew * y + cx, fy * y + cy
        valid = valid & np.isfinite(u) & np.isfinite(v)
        return np.stack([np.where(valid, u, np.nan), np.where(valid, v, np.nan)], -1), valid

    def unproject(self, pixels: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
        """Pixels [...,2] -> unit viewing rays [...,3] in the optical frame and whether the lens model reaches them.

        A pixel that no ray within the lens model's range hits is invalid, its ray NaN.
        """
        pixels = np.asarray(pixels, np.float64)
        distorted = pixels @ self._K_inv[:2, :2].T + self._K_inv[:2, 2]
        if self.distortion_model == "equidistant":
            radius = np.linalg.norm(distorted, axis=-1)
            theta, valid = inverted_radius(radius, lambda angle: fisheye_angle(angle, self.D), self._limit)
            with np.errstate(divide="ignore", invalid="ignore"):
                lateral = np.where(radius[..., None] > 0, distorted / radius[..., None], 0.0) * np.sin(theta)[..., None]
            rays = np.concatenate([lateral, np.cos(theta)[..., None]], axis=-1)
        else:
            normalized, valid = polynomial_undistorted(distorted, self.D, self._limit)
            rays = np.concatenate([normalized, np.ones_like(normalized[..., :1])], axis=-1)
            rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        return np.where(valid[..., None], rays, np.nan), valid

    def contains(self, pixels: ArrayLike, margin: float = 0.0) -> NDArray[np.bool_]:
        """Whether pixels [...,2] lie in the image, at least ``margin`` px from its border; NaN lies outside."""
        pixels = np.asarray(pixels, np.float64)
        upper = np.array(self.size, np.float64) - 0.5 - margin
        return ((pixels >= margin - 0.5) & (pixels <= upper)).all(-1)


def _check_intrinsics(K: Floats) -> None:
    advice = "calibrate the camera, or give its field of view (--fov, parameter fov_deg)"
    if K.shape != (3, 3):
        raise CameraError(f"K must be a 3x3 matrix, got shape {K.shape}: {advice}.")
    if not np.isfinite(K).all():
        raise CameraError(f"K must hold finite numbers, got {K.ravel().tolist()}: {advice}.")
    if not K.any():
        raise CameraError(f"K is all zeros, which in ROS means an uncalibrated camera: {advice}.")
    if K[0, 0] <= 0 or K[1, 1] <= 0:
        raise CameraError(f"K must have positive focal lengths, got fx={K[0, 0]:g}, fy={K[1, 1]:g}: {advice}.")
    if not np.array_equal(K[[1, 2, 2, 2], [0, 0, 1, 2]], [0, 0, 0, 1]):
        raise CameraError(f"K must be upper triangular with a last row of 0 0 1, got {K.ravel().tolist()}: {advice}.")


def _checked_distortion(model: str, D: Floats) -> tuple[str, Floats]:
    if not np.isfinite(D).all():
        raise CameraError(f"The lens coefficients D must be finite, got {D.tolist()}: calibrate the camera again.")
    if model == "" and not D.any():
        return "plumb_bob", np.zeros(0)
    if model == "equidistant":
        if len(D) not in (0, 4):
            raise CameraError(
                f"The equidistant lens model takes 4 coefficients, got {len(D)}: check D in the calibration."
            )
        return model, D if len(D) else np.zeros(4)
    if model not in _POLYNOMIAL_MODELS:
        raise CameraError(
            f"The lens model {model!r} is not known: expected plumb_bob, rational_polynomial or equidistant; "
            "recalibrate with one of these, or use the rectified image."
        )
    if len(D) and len(D) not in _POLYNOMIAL_COUNTS:
        raise CameraError(f"{model} takes 0, 4, 5, 8, 12 or 14 coefficients, got {len(D)}: check D in the calibration.")
    return model, D if D.any() else np.zeros(0)


def _matrix(entry: Any, count: int | None) -> Floats:
    values = np.array(entry["data"] if isinstance(entry, dict) else entry, np.float64).ravel()
    if count is not None and len(values) != count:
        raise ValueError(f"expected {count} numbers, got {len(values)}")
    return values


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
