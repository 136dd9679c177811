"""What is behind the people: a photo around the horizon, a floor, or a room, per viewing ray in numba."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from training.synthetic.backgrounds import halved
from training.synthetic.materials import hashed

Floats = NDArray[np.floating]
_PITCH = 8
# Farther than anything, m.
FAR = 1e4
# Linear light of 8-bit values, near enough to the display curve, as in _decoded.
_LINEAR = ((np.arange(256) / 255) ** 2 * (0.8 + 0.2 * np.arange(256) / 255)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Backdrop:
    """photo [h,w,3] uint8 and textures [n,s,s,3] uint8; numbers [16]: floor?, walls?, photo px per unit of the tangent,
    heading rad, horizon as part of the photo's height, gain, room's extents -x +x -y +y and ceiling m, floor texture,
    wall texture, texture px per m, tile m (0 none), tile contrast; tints [3,3] of floor, walls, ceiling."""

    photo: NDArray[np.uint8]
    textures: NDArray[np.uint8]
    numbers: NDArray[np.float32]
    tints: NDArray[np.float32]


def sampled_backdrop(
    rng: np.random.Generator, photo: NDArray[np.uint8], textures: NDArray[np.uint8], focal: float
) -> Backdrop:
    """A backdrop for a camera of ``focal`` px: half photos all around, else photo over a floor, or a room."""
    kind = rng.random()
    floor, walls = kind > 0.5, kind > 0.72
    density = focal * np.exp(rng.uniform(-0.9, 0.5))
    extents = [-rng.uniform(2, 9), rng.uniform(2, 9), -rng.uniform(2, 9), rng.uniform(2, 9), rng.uniform(2.3, 4.5)]
    tiled = rng.random() < 0.45
    numbers = [
        floor,
        walls,
        density,
        rng.uniform(0, 6.28),
        rng.uniform(0.4, 0.7),
        np.exp(rng.normal(-0.1, 0.45)),
        *extents,
        rng.integers(len(textures)),
        rng.integers(len(textures)),
        np.exp(rng.uniform(3.6, 6.0)),
        rng.uniform(0.15, 1.0) if tiled else 0,
        rng.uniform(0.2, 0.8),
    ]
    tints = np.exp(rng.normal(-0.1, 0.35, (3, 1))) * np.exp(rng.normal(0, 0.12, (3, 3)))
    return Backdrop(photo, textures, np.array(numbers, np.float32), tints.astype(np.float32))


def photo_behind(backdrop: Backdrop, K: Floats, R_world_cam: Floats, size: tuple[int, int]) -> NDArray[np.float32]:
    """The photo, linear [H,W,3], as a camera turned by R_world_cam sees it wrapped around the horizon; black where
    walls hide it all."""
    width, height = size
    if backdrop.numbers[1] > 0:
        return np.zeros((height, width, 3), np.float32)
    density, heading, horizon, gain = (float(number) for number in backdrop.numbers[2:6])
    shrink = int(2 ** np.clip(np.floor(np.log2(max(density / float(K[0, 0]), 1e-3))), 0, 3))
    u, v = np.meshgrid(np.arange(0, width + _PITCH, _PITCH), np.arange(0, height + _PITCH, _PITCH))
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(u.shape)], -1) @ R_world_cam.T
    ahead = np.arctan2(R_world_cam[1, 2], R_world_cam[0, 2])
    # The azimuth jumps behind the camera, never within the picture.
    azimuth = (np.arctan2(rays[..., 1], rays[..., 0]) - ahead + np.pi) % (2 * np.pi) - np.pi + ahead
    slope = rays[..., 2] / (np.hypot(rays[..., 0], rays[..., 1]) + 1e-6)
    across = (azimuth + heading) * density / shrink
    down = backdrop.photo.shape[0] * horizon / shrink - np.clip(slope, -20, 20) * density / shrink
    grid = np.stack([across, down], -1).astype(np.float32)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32) / _PITCH, np.arange(height, dtype=np.float32) / _PITCH)
    maps = cv2.remap(grid, x, y, cv2.INTER_LINEAR)
    seen = cv2.remap(halved(backdrop.photo, shrink), maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return cv2.LUT(seen, _LINEAR * np.float32(gain))


@numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def _decoded(value):  # type: ignore[no-untyped-def]
    v = value * np.float32(1 / 255)
    return v * v * (0.8 + 0.2 * v)  # near enough to the display curve, without a power


@numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def sampled(images, number, u, v, out):  # type: ignore[no-untyped-def]
    """Bilinear linear-light colour of one of images [n,h,w,3] at (u, v) px, mirrored endlessly, onto ``out`` [3]."""
    h, w = images.shape[1], images.shape[2]
    # Folded by floats: integer remainders would take longer than the rest.
    u = u / (2 * w)
    v = v / (2 * h)
    u = min(w - 1.001, 2 * w * (0.5 - abs(u - np.floor(u) - 0.5)))
    v = min(h - 1.001, 2 * h * (0.5 - abs(v - np.floor(v) - 0.5)))
    x0, y0 = int(u), int(v)
    fx, fy = u - x0, v - y0
    x1, y1 = x0 + 1, y0 + 1
    for c in range(3):
        top = images[number, y0, x0, c] * (1 - fx) + images[number, y0, x1, c] * fx
        low = images[number, y1, x0, c] * (1 - fx) + images[number, y1, x1, c] * fx
        out[c] = _decoded(top * (1 - fy) + low * fy)


@numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def surface_behind(direction, eye, numbers, tints, textures, normal, out):  # type: ignore[no-untyped-def]
    """Which of the floor (0), walls (1..4) and ceiling (5) the ray from ``eye`` meets, and its distance in units of the
    direction's length; colour onto ``out`` [3], normal [3]. -1 where it meets none: there is the photo, and the
    distance is that of the invisible floor under it, or FAR."""
    d0, d1, d2 = direction[0], direction[1], direction[2]
    best, which = FAR, -1
    if d2 < -1e-4 and numbers[0] > 0:
        best, which = -eye[2] / d2, 0
    if numbers[1] > 0:
        for k in range(5):
            axis = k // 2
            d = d0 if axis == 0 else (d1 if axis == 1 else d2)
            if abs(d) < 1e-5 or (d < 0) != (k % 2 == 0 and k < 4):
                continue
            t = (numbers[6 + k] - eye[axis]) / d
            if 0 < t < best:
                best, which = t, k + 1
    normal[0] = normal[1] = 0.0
    normal[2] = 1.0
    if which < 0:
        return which, (min(FAR, -eye[2] / d2) if d2 < -1e-4 else FAR)
    x, y, z = eye[0] + best * d0, eye[1] + best * d1, eye[2] + best * d2
    row = 0 if which == 0 else (2 if which == 5 else 1)
    if which == 0 or which == 5:
        u, v = x, y
        normal[2] = 1.0 if which == 0 else -1.0
    else:
        normal[2] = 0.0
        if which <= 2:
            u, v = y, -z
            normal[0] = 1.0 if which == 1 else -1.0
        else:
            u, v = x, -z
            normal[1] = 1.0 if which == 3 else -1.0
    density = numbers[13]
    if row == 2:
        out[0] = out[1] = out[2] = 0.6
    else:
        sampled(textures, int(numbers[11 + row]), u * density, v * density, out)
    tile = numbers[14]
    if tile > 0 and row == 0:
        a, b = np.floor(u / tile), np.floor(v / tile)
        shade = 1 + numbers[15] * (hashed(int(a), int(b), 7) - 0.5)
        if abs(u / tile - a) < 0.02 or abs(v / tile - b) < 0.02:
            shade *= 1 - 0.6 * numbers[15]
        for c in range(3):
            out[c] *= shade
    for c in range(3):
        out[c] *= tints[row, c]
    return which, best
