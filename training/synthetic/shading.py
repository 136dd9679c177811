"""From the z-buffer to linear light: per pixel the surface, its relief, the sun with shadows, sky and ground."""

from __future__ import annotations

import numba
import numpy as np

from training.synthetic.backdrop import surface_behind
from training.synthetic.fields import EYE, HEAD
from training.synthetic.materials import M, R, albedo, face_colour, slot_at, wave

# Beyond this a shadow is not looked up in the map, m.
_FAR = 60.0


@numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def _lit(shadow, to_map, x, y, z, bias, spread):  # type: ignore[no-untyped-def]
    """The part of the light, 0..1, that reaches a world point: five taps of the shadow map."""
    u = to_map[0, 0] * x + to_map[0, 1] * y + to_map[0, 2] * z + to_map[0, 3]
    v = to_map[1, 0] * x + to_map[1, 1] * y + to_map[1, 2] * z + to_map[1, 3]
    w = to_map[2, 0] * x + to_map[2, 1] * y + to_map[2, 2] * z + to_map[2, 3] - bias
    side = shadow.shape[0]
    total = 0.0
    if u < -spread or v < -spread or u > side + spread or v > side + spread:
        return 1.0
    for k in range(5):
        a = u + (spread if k == 1 else (-spread if k == 2 else 0.0))
        b = v + (spread if k == 3 else (-spread if k == 4 else 0.0))
        i, j = int(a + 0.5), int(b + 0.5)
        if a < 0 or b < 0 or i >= side or j >= side or shadow[j, i] > w:
            total += 1.0
    return total / 5


@numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def shade(  # type: ignore[no-untyped-def]
    depth,
    triangle,
    second,
    third,
    K,
    R_world_cam,
    eye,
    points,
    normals,
    patterns,
    fields,
    faces,
    parts,
    owners,
    params,
    light,
    shadow,
    to_map,
    spread,
    overhead,
    over_map,
    numbers,
    tints,
    photo,
    textures,
):
    """Linear RGB [H,W,3]. points, normals [V,3] in the world; light [4,3]: to_sun, sun, sky, ground.

    shadow with to_map [3,4] for the sun, overhead with over_map for the sky; photo [H,W,3] behind it all.
    """
    height, width = depth.shape
    out = np.zeros((height, width, 3), np.float32)
    colour = np.zeros(3)
    n = np.zeros(3)
    direction = np.zeros(3)
    for row in range(height):
        for column in range(width):
            cx = (column - K[0, 2]) / K[0, 0]
            cy = (row - K[1, 2]) / K[1, 1]
            for c in range(3):
                direction[c] = R_world_cam[c, 0] * cx + R_world_cam[c, 1] * cy + R_world_cam[c, 2]
            t = triangle[row, column]
            if t < 0:
                gloss = 0.0
                which, distance = surface_behind(direction, eye, numbers, tints, textures, n, colour)
                if which < 0:
                    part = 1.0
                    if distance < _FAR:
                        x = eye[0] + distance * direction[0]
                        y = eye[1] + distance * direction[1]
                        part = _under_sky(light, shadow, to_map, spread, overhead, over_map, x, y)
                    for c in range(3):
                        out[row, column, c] = photo[row, column, c] * part
                    continue
                x = eye[0] + distance * direction[0]
                y = eye[1] + distance * direction[1]
                z = eye[2] + distance * direction[2]
            else:
                distance = depth[row, column]
                b, c_ = second[row, column], third[row, column]
                a = 1 - b - c_
                i, j, k = faces[t, 0], faces[t, 1], faces[t, 2]
                for c in range(3):
                    n[c] = a * normals[i, c] + b * normals[j, c] + c_ * normals[k, c]
                x = eye[0] + distance * direction[0]
                y = eye[1] + distance * direction[1]
                z = eye[2] + distance * direction[2]
                px = a * patterns[i, 0] + b * patterns[j, 0] + c_ * patterns[k, 0]
                py = a * patterns[i, 1] + b * patterns[j, 1] + c_ * patterns[k, 1]
                pz = a * patterns[i, 2] + b * patterns[j, 2] + c_ * patterns[k, 2]
                own = params[owners[t]]
                gloss, bump_at = _surface(own, parts[t], fields, i, j, k, a, b, c_, px, py, pz, colour)
                _relief(own, bump_at, px, py, pz, n)
                facing = n[0] * direction[0] + n[1] * direction[1] + n[2] * direction[2]
                if facing > 0:
                    for c in range(3):
                        n[c] = -n[c]
            length = np.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]) + 1e-9
            for c in range(3):
                n[c] /= length
            toward = n[0] * light[0, 0] + n[1] * light[0, 1] + n[2] * light[0, 2]
            lit = 0.0
            if toward > 0:
                lit = _lit(shadow, to_map, x + 0.015 * n[0], y + 0.015 * n[1], z + 0.015 * n[2], 0.012, spread)
            up = 0.5 + 0.5 * n[2]
            open_sky = 0.4 + 0.6 * _lit(overhead, over_map, x + 0.1 * n[0], y + 0.1 * n[1], z + 0.05, 0.02, 2.5)
            shine = 0.0
            if gloss > 0 and lit > 0:
                size = np.sqrt(direction[0] ** 2 + direction[1] ** 2 + direction[2] ** 2)
                hx, hy, hz = (
                    light[0, 0] - direction[0] / size,
                    light[0, 1] - direction[1] / size,
                    light[0, 2] - direction[2] / size,
                )
                half = (n[0] * hx + n[1] * hy + n[2] * hz) / np.sqrt(hx * hx + hy * hy + hz * hz)
                half = half * half
                half = half * half
                half = half * half
                shine = gloss * half * half * lit
            for c in range(3):
                ambient = (light[2, c] * up + light[3, c] * (1 - up)) * open_sky
                out[row, column, c] = colour[c] * (ambient + light[1, c] * max(0.0, toward) * lit) + light[1, c] * shine
    return out


@numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def _under_sky(light, shadow, to_map, spread, overhead, over_map, x, y):  # type: ignore[no-untyped-def]
    """How much of the light on a photo's ground is left in the shadows of people and things, 0..1."""
    lit = _lit(shadow, to_map, x, y, 0.0, 0.02, spread)
    open_sky = 0.35 + 0.65 * _lit(overhead, over_map, x, y, 0.0, 0.02, 3.0)
    sun = light[1, 1] * max(0.05, light[0, 2])
    return (sun * lit + light[2, 1] * open_sky) / (sun + light[2, 1])


@numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def _surface(own, part, fields, i, j, k, a, b, c, x, y, z, colour):  # type: ignore[no-untyped-def]
    """The colour [3] of a point in its triangle; returns gloss and where its material begins in ``own``."""
    if own[0] > 0.5:
        slot = int(own[0]) - 1
        return albedo(own, slot, part, 0.0, x, y, z, colour), R + slot * M
    arm = a * fields[i, 0] + b * fields[j, 0] + c * fields[k, 0]
    leg = a * fields[i, 1] + b * fields[j, 1] + c * fields[k, 1]
    height = a * fields[i, 2] + b * fields[j, 2] + c * fields[k, 2]
    scalp = a * fields[i, 3] + b * fields[j, 3] + c * fields[k, 3]
    slot = slot_at(own, part, arm, leg, height, scalp, x, y, z)
    if part == EYE:
        face_colour(own, part, scalp, x, y, z, colour)
        return 0.06, -1
    gloss = albedo(own, slot, part, scalp, x, y, z, colour)
    if part == HEAD and slot == 0:
        face_colour(own, part, scalp, x, y, z, colour)
    return gloss, R + slot * M


@numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def _relief(own, at, x, y, z, n):  # type: ignore[no-untyped-def]
    """Turns the normal by folds: two crossing, warped waves in the pattern's space."""
    if at < 0 or own[at + 10] == 0:
        return
    s, turn, seed = own[at + 11], own[at + 12], own[at + 13]
    ct, st = wave(turn + 1.5708), wave(turn)
    cu, su = wave(turn + 2.7708), wave(turn + 1.2)
    warp = 1.3 * wave(0.62 * s * x + seed) + 1.1 * wave(0.46 * s * z - 2 * seed) + wave(s * 0.25 * y + seed)
    first = wave(s * (ct * z + st * x) + 2 * warp)
    other = wave(0.7 * s * (cu * z + su * y) + 1.7 * warp)
    n[0] += own[at + 10] * (first * st + 0.5 * other * ct)
    n[1] += own[at + 10] * other * su
    n[2] += own[at + 10] * (first * ct + other * cu)
