"""Lens distortion formulas on normalized image points: OpenCV's polynomial family and the Kannala-Brandt fisheye.

Coefficients are in OpenCV's order (calib3d documentation): k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4 tau_x tau_y, as many
of them as are given, and k1 k2 k3 k4 for the fisheye.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_NEWTON_STEPS = 25
_FIXED_POINT_STEPS = 5
# Of normalized coordinates: a thousandth of a pixel at a focal length of 1000 px.
_TOLERANCE = 1e-6


def polynomial_distorted(points: Floats, D: Floats) -> Floats:
    """OpenCV's rational, tangential, thin prism and tilt model on normalized points [...,2]."""
    if not len(D):
        return points
    radial, shift = _radial_and_shift(points, D)
    tau_x, tau_y = _padded(D)[12:]
    if tau_x or tau_y:
        tilt = _tilt_matrix(tau_x, tau_y)
        tilted = np.concatenate([points * radial + shift, np.ones_like(radial)], -1) @ tilt.T
        return tilted[..., :2] / tilted[..., 2:]
    return points * radial + shift


def _radial_and_shift(points: Floats, D: Floats) -> tuple[Floats, Floats]:
    """What points [...,2] are multiplied by, [...,1], and what is added then, [...,2]; without the sensor's tilt."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = _padded(D)[:12]
    x, y = points[..., 0], points[..., 1]
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    x_shift = 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2)
    y_shift = p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + r2 * (s3 + r2 * s4)
    return radial[..., None], np.stack([x_shift, y_shift], -1)


def _padded(D: Floats) -> Floats:
    coefficients = np.zeros(14)
    coefficients[: len(D)] = D
    return coefficients


def _tilt_matrix(tau_x: float, tau_y: float) -> Floats:
    cos_x, sin_x, cos_y, sin_y = math.cos(tau_x), math.sin(tau_x), math.cos(tau_y), math.sin(tau_y)
    rotation = np.array([[cos_y, 0, -sin_y], [0, 1, 0], [sin_y, 0, cos_y]]) @ np.array(
        [[1, 0, 0], [0, cos_x, sin_x], [0, -sin_x, cos_x]]
    )
    onto_plane = np.array([[rotation[2, 2], 0, -rotation[0, 2]], [0, rotation[2, 2], -rotation[1, 2]], [0, 0, 1]])
    return onto_plane @ rotation


def fisheye_angle(theta: Floats, D: Floats) -> Floats:
    """Kannala-Brandt: distorted angle of the incidence angle theta, both rad."""
    t2 = theta * theta
    k1, k2, k3, k4 = D
    return theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))


def distortion_limit(model: str, D: Floats) -> float:
    """The largest radius (polynomial: tan of the angle; equidistant: rad) up to which the radial part still grows."""
    if model == "equidistant":
        grid = np.linspace(0, math.pi, 4001)
        radii = fisheye_angle(grid, D)
    else:
        if not len(D):
            return math.inf
        grid = np.tan(np.linspace(0, math.radians(89.9), 4001))
        radii = _radial_part(grid, D)
    turning = np.flatnonzero(np.diff(radii) <= 0)
    return float(grid[turning[0]]) if len(turning) else float(grid[-1])


def _radial_part(radius: Floats, D: Floats) -> Floats:
    """The distorted radius of each radius by the radial coefficients alone; -1 where their fraction is not positive."""
    k1, k2, _, _, k3, k4, k5, k6 = _padded(D)[:8]
    r2 = radius * radius
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        numerator = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        denominator = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
        return np.where((numerator > 0) & (denominator > 0), radius * numerator / denominator, -1.0)


def inverted_radius(
    radius: Floats, growing: Callable[[Floats], Floats], limit: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """The argument in 0..limit at which the growing function reaches ``radius``, by table and Newton steps."""
    grid = np.linspace(0, limit, 2001)
    table = growing(grid)
    valid = radius <= table[-1]
    angle = np.interp(radius, table, grid)
    step = 1e-6
    for _ in range(3):
        slope = (growing(angle + step) - growing(angle - step)) / (2 * step)
        angle = np.clip(angle - (growing(angle) - radius) / np.maximum(slope, 1e-9), 0, limit)
    return angle, valid


def polynomial_undistorted(distorted: Floats, D: Floats, limit: float) -> tuple[Floats, NDArray[np.bool_]]:
    """The normalized points [...,2] whose distortion gives ``distorted``, and whether there is one within ``limit``.

    Newton's method from where the radial part alone would put the point: from farther away, it may leave through the
    tilted sensor's horizon. Steps are at most half a focal length.
    """
    if not len(D):
        return distorted, np.isfinite(distorted).all(-1)
    grid = np.tan(np.linspace(0, math.atan(limit), 2001))
    radius = np.linalg.norm(distorted, axis=-1, keepdims=True)
    # At the limit itself the slope is zero.
    start = np.minimum(np.interp(radius, _radial_part(grid, D), grid), 0.99 * limit)
    with np.errstate(invalid="ignore"):
        points = distorted * start / np.maximum(radius, 1e-12)
    for _ in range(_NEWTON_STEPS):
        residual, jacobian = _residual_and_jacobian(points, distorted, D)
        step = _solved_2x2(jacobian, residual)
        length = np.linalg.norm(step, axis=-1, keepdims=True)
        points = points - step * np.minimum(1.0, 0.5 / np.maximum(length, 1e-12))
        if not (length > 0.1 * _TOLERANCE).any():
            break
    error = np.linalg.norm(polynomial_distorted(points, D) - distorted, axis=-1)
    in_range = np.linalg.norm(points, axis=-1) <= limit * (1 + 1e-9)
    return points, in_range & (error < _TOLERANCE)


def polynomial_iterated(distorted: Floats, D: Floats) -> Floats:
    """Where the released code takes ``distorted`` [...,2] to come from: five fixed-point steps, without sensor tilt.

    Near the axis that is the inverse; far outside, or where there is none, it is another point.
    """
    points = distorted
    for _ in range(_FIXED_POINT_STEPS):
        radial, shift = _radial_and_shift(points, D)
        points = (distorted - shift) / radial
    return points


def _residual_and_jacobian(points: Floats, target: Floats, D: Floats) -> tuple[Floats, Floats]:
    step = 1e-6
    columns = [
        (polynomial_distorted(points + offset, D) - polynomial_distorted(points - offset, D)) / (2 * step)
        for offset in (np.array([step, 0]), np.array([0, step]))
    ]
    return polynomial_distorted(points, D) - target, np.stack(columns, -1)


def _solved_2x2(matrix: Floats, vector: Floats) -> Floats:
    a, b, c, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1]
    determinant = a * d - b * c
    determinant = np.where(np.abs(determinant) < 1e-9, np.copysign(1e-9, determinant), determinant)
    x = (d * vector[..., 0] - b * vector[..., 1]) / determinant
    y = (a * vector[..., 1] - c * vector[..., 0]) / determinant
    return np.stack([x, y], -1)
