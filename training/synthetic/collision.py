"""How deep a pose's limbs go through the body, by capsules around bones."""

from __future__ import annotations

import functools

import numba
import numpy as np
from numpy.typing import NDArray

from training.synthetic.body_data import body_data

Floats = NDArray[np.floating]
# Bones from, to, radius as part of the body's height.
_CAPSULES = {
    "trunk": ("root", "spine01", 0.068),
    "chest": ("spine02", "neck01", 0.06),
    "head": ("neck03", "head", 0.045),
    "thigh": ("upperleg01", "lowerleg01", 0.042),
    "shin": ("lowerleg01", "foot", 0.028),
    "upper": ("upperarm02", "lowerarm01", 0.026),
    "fore": ("lowerarm01", "wrist", 0.02),
    "hand": ("wrist", "finger3-1", 0.022),
}


def overlap(positions: Floats, height: float) -> float:
    """m by which the worst pair of capsules overlaps; positions [B,3] of the bones."""
    bones, radii, pairs = _layout()
    return float(_deepest(positions, bones, radii * height, pairs))


@functools.cache
def _layout() -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int32]]:
    data = body_data()
    names, bones, radii = [], [], []
    for name, (start, end, radius) in _CAPSULES.items():
        sides = ("",) if name in ("trunk", "chest", "head") else (".L", ".R")
        for side in sides:
            names.append(name + side)
            bones.append((data.bone(start + side), data.bone(end + side)))
            radii.append(radius)
    against = {
        "fore": ("trunk", "chest", "head", "thigh", "shin"),
        "hand": ("trunk", "chest", "head", "thigh", "shin"),
        "upper": ("head",),
        "shin": ("trunk", "chest"),
    }
    pairs = [
        (i, j)
        for i, a in enumerate(names)
        for j, b in enumerate(names)
        if b[:-2] in against.get(a[:-2], ()) or b in against.get(a[:-2], ())
    ]
    across = (
        ("thigh", "thigh"),
        ("shin", "shin"),
        ("fore", "fore"),
        ("hand", "hand"),
        ("fore", "upper"),
        ("hand", "fore"),
        ("shin", "thigh"),
    )
    for a, b in across:
        pairs += [(names.index(a + x), names.index(b + y)) for x, y in ((".L", ".R"), (".R", ".L"))]
    return np.array(bones, np.int32), np.array(radii), np.array(pairs, np.int32)


@numba.njit(cache=True, nogil=True)
def _deepest(positions, bones, radii, pairs):  # type: ignore[no-untyped-def]
    worst = 0.0
    for k in range(len(pairs)):
        i, j = pairs[k, 0], pairs[k, 1]
        gap = _gap(positions[bones[i, 0]], positions[bones[i, 1]], positions[bones[j, 0]], positions[bones[j, 1]])
        worst = max(worst, radii[i] + radii[j] - gap)
    return worst


@numba.njit(cache=True, nogil=True)
def _gap(a, b, c, d):  # type: ignore[no-untyped-def]
    """Distance of two segments, sampled: exact to a few millimetres at the size of a body."""
    best = 1e9
    for i in range(9):
        s = i / 8
        px, py, pz = a[0] + s * (b[0] - a[0]), a[1] + s * (b[1] - a[1]), a[2] + s * (b[2] - a[2])
        ex, ey, ez = d[0] - c[0], d[1] - c[1], d[2] - c[2]
        t = ((px - c[0]) * ex + (py - c[1]) * ey + (pz - c[2]) * ez) / (ex * ex + ey * ey + ez * ez + 1e-12)
        t = min(1.0, max(0.0, t))
        x, y, z = px - c[0] - t * ex, py - c[1] - t * ey, pz - c[2] - t * ez
        best = min(best, np.sqrt(x * x + y * y + z * z))
    return best
