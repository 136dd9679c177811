"""Small geometry for numba: rotation vectors, frames along limbs, and the two-bone reach."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def unit(v):  # type: ignore[no-untyped-def]
    """Vector [3] of length 1."""
    return v / max(np.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]), 1e-12)


@numba.njit(cache=True, nogil=True)
def turn(v):  # type: ignore[no-untyped-def]
    """Rotation matrix of a rotation vector."""
    angle = np.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
    out = np.eye(3)
    if angle < 1e-9:
        return out
    x, y, z = v / angle
    c, s = np.cos(angle), np.sin(angle)
    t = 1 - c
    out[0, 0], out[0, 1], out[0, 2] = t * x * x + c, t * x * y - s * z, t * x * z + s * y
    out[1, 0], out[1, 1], out[1, 2] = t * x * y + s * z, t * y * y + c, t * y * z - s * x
    out[2, 0], out[2, 1], out[2, 2] = t * x * z - s * y, t * y * z + s * x, t * z * z + c
    return out


@numba.njit(cache=True, nogil=True)
def cross(a, b):  # type: ignore[no-untyped-def]
    """Cross product of vectors [3]."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


@numba.njit(cache=True, nogil=True)
def vec(x, y, z):  # type: ignore[no-untyped-def]
    """Three numbers as an array."""
    return np.array([x, y, z])


@numba.njit(cache=True, nogil=True)
def frame(along, axis):  # type: ignore[no-untyped-def]
    """Columns: along, the part of axis across it, and their cross product."""
    out = np.empty((3, 3))
    across = unit(axis - along * (axis @ along))
    out[:, 0], out[:, 1], out[:, 2] = along, across, cross(along, across)
    return out


@numba.njit(cache=True, nogil=True)
def two_bones(start, target, upper, lower, pole):  # type: ignore[no-untyped-def]
    """Upper direction, hinge axis and bend angle that bring the chain's end to the target, bending towards the pole."""
    to = target - start
    distance = max(1e-6, np.sqrt(to @ to))
    along = to / distance
    reach = min(max(distance, abs(upper - lower) * 1.02 + 0.15 * upper), (upper + lower) * 0.998)
    side = unit(pole - along * (pole @ along))
    at_start = np.arccos(min(1.0, max(-1.0, (upper * upper + reach * reach - lower * lower) / (2 * upper * reach))))
    at_hinge = np.arccos(min(1.0, max(-1.0, (upper * upper + lower * lower - reach * reach) / (2 * upper * lower))))
    direction = along * np.cos(at_start) + side * np.sin(at_start)
    return direction, unit(cross(direction, along)) if at_start > 1e-3 else unit(cross(side, along)), np.pi - at_hinge
