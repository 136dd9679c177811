"""Procedural surfaces in numba: what colour, relief and gloss a point of a person or thing has.

A surface has slots of ``MATERIAL`` numbers each; which slot a point belongs to is decided per pixel by its anatomical
coordinates (fields.py) and the owner's ``RULES``, so hems are sharp at any resolution. Patterns and folds live in the
rest pose's space and so move with the body. Colours are linear light.
"""

from __future__ import annotations

import numba
import numpy as np

from training.synthetic.fields import ARM, EYE, FOOT, HAND, HEAD

MATERIAL = (
    "red",
    "green",
    "blue",
    "red2",
    "green2",
    "blue2",
    "pattern",
    "scale",
    "phase",
    "gloss",
    "bump",
    "bump_scale",
    "bump_turn",
    "seed",
)
SLOTS = ("skin", "top", "inner", "bottom", "shoes", "socks", "hair", "hat")
RULES = (
    "kind",
    "sleeve",
    "top_low",
    "neck_depth",
    "trouser_leg",
    "waist",
    "tucked",
    "shoe_top",
    "sock_top",
    "open_front",
    "hair_shift",
    "beard",
    "gloves",
    "hem_wave",
    "hat_line",
    "mask",
    "eye_hue",
    "backpack",
)
M, R = len(MATERIAL), len(RULES)
WIDTH = R + len(SLOTS) * M
RULE = {name: i for i, name in enumerate(RULES)}
PATTERNS = ("plain", "stripes_across", "stripes_along", "checks", "dots", "camouflage", "logo", "halves", "gradient")

_PERSON = 0.0
_SKIN, _TOP, _INNER, _BOTTOM, _SHOES, _SOCKS, _HAIR, _HAT = range(8)


@numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def hashed(x, y, z):  # type: ignore[no-untyped-def]
    """A number in 0..1 for each integer lattice point."""
    h = np.uint32(x) * np.uint32(374761393) + np.uint32(y) * np.uint32(668265263) + np.uint32(z) * np.uint32(2147483647)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    return np.float32((h ^ (h >> np.uint32(16))) & np.uint32(0xFFFFFF)) / np.float32(16777216)


@numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def value_noise(x, y, z):  # type: ignore[no-untyped-def]
    """Smooth noise in 0..1 with unit wavelength."""
    xi, yi, zi = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    fx, fy, fz = x - xi, y - yi, z - zi
    fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
    total = 0.0
    for dz in range(2):
        wz = fz if dz else 1 - fz
        for dy in range(2):
            wy = fy if dy else 1 - fy
            for dx in range(2):
                total += (fx if dx else 1 - fx) * wy * wz * hashed(xi + dx, yi + dy, zi + dz)
    return total


@numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def wave(x):  # type: ignore[no-untyped-def]
    """sin(x) within 0.06, by parabolas: folds and stripes need no better, and it takes a quarter of the time."""
    x = x * 0.15915494
    x = x - np.floor(x + 0.5)
    return 8 * x * (1 - 2 * abs(x))


@numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def slot_at(params, part, arm, leg, height, scalp, x, y, z):  # type: ignore[no-untyped-def]
    """The slot of a person's point; x, y, z are rest-pose metres with x from the middle and y backward."""
    if part == EYE:
        return -1
    ripple = params[13] * (wave(23 * x + params[5] * 40) + wave(31 * y + params[2] * 50))
    if part == HEAD:
        if params[14] < 1 and scalp > params[14]:
            return _HAT
        if scalp > params[10] + 0.006 * wave(90 * x + 3 * params[10]) * wave(70 * y):
            return _HAIR
        return _SKIN
    if part == HAND:
        return _TOP if params[12] > 0.5 else _SKIN
    if leg > params[7]:
        return _SHOES
    if part == FOOT or leg > params[8]:
        return _SOCKS if leg > params[8] else (_BOTTOM if leg < params[4] else _SKIN)
    bottom = height + ripple < params[5] and leg + 2 * ripple < params[4]
    neckline = 1.0 - params[3] * max(0.0, 1 - abs(x) * (9 + 6 * params[3])) * (1.0 if y < 0 else 0.35)
    top = (height + ripple > params[2]) and arm + ripple < params[1] and (height < neckline or part == ARM)
    if top and bottom and params[6] > 0.5:
        return _BOTTOM
    if top:
        if params[9] > 0 and y < 0.02 and part != ARM and abs(x) < params[9] * (1.25 - height):
            return _INNER
        return _TOP
    return _BOTTOM if bottom else _SKIN


@numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def albedo(params, slot, part, scalp, x, y, z, out):  # type: ignore[no-untyped-def]
    """Writes the linear colour [3] of a point and returns its gloss."""
    o = R + slot * M
    mix = _pattern(params, o, x, y, z)
    for c in range(3):
        out[c] = params[o + c] * (1 - mix) + params[o + 3 + c] * mix
    grain = 0.86 + 0.28 * value_noise(x * 60 + params[o + 13], y * 60, z * 60)
    if slot == _HAIR:
        grain = 0.55 + 0.9 * value_noise(x * 160, y * 160, z * 28 + params[o + 13])
    for c in range(3):
        out[c] *= grain
    return params[o + 9]


@numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def _pattern(params, o, x, y, z):  # type: ignore[no-untyped-def]
    kind, s, phase = params[o + 6], params[o + 7], params[o + 8]
    if kind == 0:
        return 0.0
    if kind == 1:
        return 1.0 if wave(z * s + phase) > 0.1 else 0.0
    if kind == 2:
        return 1.0 if wave(np.arctan2(y, x) * s * 0.16 + phase) > 0.3 else 0.0
    if kind == 3:
        return 0.5 * ((wave(z * s + phase) > 0.2) + (wave((x + y) * s + phase) > 0.2))
    if kind == 4:
        return 1.0 if wave(z * s) * wave((x + y) * s + phase) > 0.55 else 0.0
    if kind == 5:
        n = value_noise(x * s * 0.3 + phase, y * s * 0.3, z * s * 0.3)
        return 0.0 if n < 0.45 else (1.0 if n > 0.6 else 0.5)
    if kind == 6:
        u, v = x * 10 - 0.4 * wave(phase), (z - 0.36 - 0.05 * wave(phase + 1.5708)) * (7 + 0.1 * s)
        inside = y < 0.02 and u * u + v * v < 0.7
        return 1.0 if inside and wave(u * s * 0.25 + phase) * wave(v * s * 0.3) > -0.2 else 0.0
    if kind == 7:
        return 1.0 if z > 0.32 + 0.1 * wave(phase) else 0.0
    return min(1.0, max(0.0, 0.5 + (z - 0.2) * 1.4))


@numba.njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def face_colour(params, part, scalp, x, y, z, out):  # type: ignore[no-untyped-def]
    """Eyes, brows, lips, stubble and beard onto ``out`` [3], which holds the skin's colour; head coordinates below.

    x metres from the middle, y -1 face .. 1 back, z 0 chin .. 1 crown (template's proportions).
    """
    if part == EYE:
        dx = abs(x) - 0.031
        dz = (z - 0.483) * 0.24
        dark = dx * dx + dz * dz < 0.000055
        for c in range(3):
            out[c] = 0.015 + 0.05 * params[16] if dark else 0.32
        return
    ax = abs(x)
    if y < 0.1:
        if 0.525 < z < 0.558 and 0.01 < ax < 0.054 and y < -0.4:
            for c in range(3):
                out[c] = 0.3 * out[c] + 0.7 * params[R + _HAIR * M + c]
        if 0.135 < z < 0.195 and ax < 0.026 and y < -0.5:
            out[0] *= 0.85
            out[1] *= 0.55
            out[2] *= 0.6
        elif params[11] > 0 and z < 0.22 + 1.6 * ax and z < 0.36 and (ax > 0.028 or z < 0.135 or z > 0.195):
            for c in range(3):
                out[c] = (1 - params[11]) * out[c] + params[11] * params[R + _HAIR * M + c]
    if params[15] > 0.5 and z < 0.4 and y < 0.2 and z > 0.04:
        for c in range(3):
            out[c] = params[R + _HAT * M + c]
