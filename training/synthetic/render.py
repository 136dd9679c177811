"""A z-buffer in numba: triangle numbers and barycentric coordinates per pixel, and shadow maps.

Everything here is in a camera frame (x right, y down, z forward, metres) or in pixels with (0,0) the centre of the
top-left pixel. Lens distortion is none of its business: crops are seen by pinhole cameras.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
NEAR = 0.08


@dataclass(frozen=True, eq=False)
class Buffers:
    """depth [H,W] m (inf where nothing is), triangle [H,W] (-1), and two perspective-correct barycentrics [H,W]."""

    depth: NDArray[np.float32]
    triangle: NDArray[np.int32]
    second: NDArray[np.float32]
    third: NDArray[np.float32]


def rasterized(
    points: Floats, faces: NDArray[np.int32], culled: NDArray[np.bool_], K: Floats, size: tuple[int, int]
) -> Buffers:
    """Triangles [T,3] of camera-frame points [V,3] seen through K [3,3] on (width, height) px.

    culled [T]: faces seen from behind are left out (closed meshes).
    """
    width, height = size
    buffers = Buffers(
        np.full((height, width), np.inf, np.float32),
        np.full((height, width), -1, np.int32),
        np.zeros((height, width), np.float32),
        np.zeros((height, width), np.float32),
    )
    flat = projected(points, np.asarray(K, np.float32))
    _fill(flat, faces, culled, buffers.depth, buffers.triangle, buffers.second, buffers.third)
    return buffers


def shadow_map(points: Floats, faces: NDArray[np.int32], side: int) -> NDArray[np.float32]:
    """Depth [side,side] along z of an orthographic view; points [V,3] are already in its px (x, y) and metres (z)."""
    depth = np.full((side, side), np.inf, np.float32)
    _fill_depth(np.ascontiguousarray(points, np.float32), faces, depth)
    return depth


@numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def projected(points, K):  # type: ignore[no-untyped-def]
    """Camera-frame points [V,3] -> [V,3] of u, v px and 1/z; 1/z = -1 where behind the near plane."""
    out = np.empty(points.shape, np.float32)
    for i in range(points.shape[0]):
        z = points[i, 2]
        if z < NEAR:
            out[i, 0] = out[i, 1] = np.float32(0)
            out[i, 2] = np.float32(-1)
            continue
        w = np.float32(1) / z
        out[i, 0] = K[0, 0] * points[i, 0] * w + K[0, 1] * points[i, 1] * w + K[0, 2]
        out[i, 1] = K[1, 1] * points[i, 1] * w + K[1, 2]
        out[i, 2] = w
    return out


@numba.njit(cache=True, nogil=True)
def _fill(flat, faces, culled, depth, triangle, second, third):  # type: ignore[no-untyped-def]
    height, width = depth.shape
    for t in range(faces.shape[0]):
        i, j, k = faces[t, 0], faces[t, 1], faces[t, 2]
        wi, wj, wk = flat[i, 2], flat[j, 2], flat[k, 2]
        if wi < 0 or wj < 0 or wk < 0:
            continue
        xi, yi, xj, yj, xk, yk = flat[i, 0], flat[i, 1], flat[j, 0], flat[j, 1], flat[k, 0], flat[k, 1]
        area = (xj - xi) * (yk - yi) - (xk - xi) * (yj - yi)
        if area == 0 or (culled[t] and area > 0):
            continue
        left, right = min(xi, xj, xk), max(xi, xj, xk)
        top, bottom = min(yi, yj, yk), max(yi, yj, yk)
        if right < 0 or bottom < 0 or left > width - 1 or top > height - 1:
            continue
        x0, x1 = max(0, int(np.ceil(left))), min(width - 1, int(np.floor(right)))
        y0, y1 = max(0, int(np.ceil(top))), min(height - 1, int(np.floor(bottom)))
        inverse = np.float32(1) / area
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                b = ((x - xi) * (yk - yi) - (xk - xi) * (y - yi)) * inverse
                c = ((xj - xi) * (y - yi) - (x - xi) * (yj - yi)) * inverse
                a = 1 - b - c
                if a < 0 or b < 0 or c < 0:
                    continue
                w = a * wi + b * wj + c * wk
                z = 1 / w
                if z < depth[y, x]:
                    depth[y, x] = z
                    triangle[y, x] = t
                    second[y, x] = b * wj * z
                    third[y, x] = c * wk * z


@numba.njit(cache=True, nogil=True)
def _fill_depth(points, faces, depth):  # type: ignore[no-untyped-def]
    height, width = depth.shape
    for t in range(faces.shape[0]):
        i, j, k = faces[t, 0], faces[t, 1], faces[t, 2]
        xi, yi, xj, yj, xk, yk = points[i, 0], points[i, 1], points[j, 0], points[j, 1], points[k, 0], points[k, 1]
        area = (xj - xi) * (yk - yi) - (xk - xi) * (yj - yi)
        if area >= 0:  # only the side that faces the light
            continue
        left, right = min(xi, xj, xk), max(xi, xj, xk)
        top, bottom = min(yi, yj, yk), max(yi, yj, yk)
        if right < 0 or bottom < 0 or left > width - 1 or top > height - 1:
            continue
        inverse = np.float32(1) / area
        for y in range(max(0, int(np.ceil(top))), min(height - 1, int(np.floor(bottom))) + 1):
            for x in range(max(0, int(np.ceil(left))), min(width - 1, int(np.floor(right))) + 1):
                b = ((x - xi) * (yk - yi) - (xk - xi) * (y - yi)) * inverse
                c = ((xj - xi) * (y - yi) - (x - xi) * (yj - yi)) * inverse
                if b < 0 or c < 0 or b + c > 1:
                    continue
                z = (1 - b - c) * points[i, 2] + b * points[j, 2] + c * points[k, 2]
                if z < depth[y, x]:
                    depth[y, x] = z


@numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def vertex_normals(points, faces):  # type: ignore[no-untyped-def]
    """Unit normals [V,3] of points [V,3], weighted by the areas of the faces [T,3] around each."""
    out = np.zeros(points.shape, np.float32)
    for t in range(faces.shape[0]):
        i, j, k = faces[t, 0], faces[t, 1], faces[t, 2]
        ax, ay, az = points[j, 0] - points[i, 0], points[j, 1] - points[i, 1], points[j, 2] - points[i, 2]
        bx, by, bz = points[k, 0] - points[i, 0], points[k, 1] - points[i, 1], points[k, 2] - points[i, 2]
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for v in (i, j, k):
            out[v, 0] += nx
            out[v, 1] += ny
            out[v, 2] += nz
    for v in range(points.shape[0]):
        length = np.sqrt(out[v, 0] ** 2 + out[v, 1] ** 2 + out[v, 2] ** 2) + np.float32(1e-12)
        out[v, 0] /= length
        out[v, 1] /= length
        out[v, 2] /= length
    return out
