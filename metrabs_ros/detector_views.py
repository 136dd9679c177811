"""The square parts of an image that a person detector looks at, one after the other.

Its network sees 224 px; a person of a quarter of the image's height would be lost in it. So the image is looked at as a
pyramid of square views, the whole and overlapping parts of it.
"""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
# x, y of the top-left pixel and side of a square part of the image, px; it may reach beyond the image.
View = tuple[int, int, int]

# Neighbouring views share at least this part of their side, so that a person on a seam is whole in one of them.
_OVERLAP = 0.25
# Around somebody who is not cut off by a view, as a part of their longer side.
_LEAST_MARGIN = 0.1
# Views smaller than this show nobody; strips longer than so many views are looked at as a whole only.
_LEAST_SIDE = 16
_MOST_VIEWS_ACROSS = 12
# A closer look is so many times as wide as the box that is looked at.
_CLOSE = 1.8


@functools.lru_cache(maxsize=16)
def views_of(width: int, height: int) -> tuple[View, ...]:
    """Square views (x, y, side) px: the whole image, squares of its shorter side, and squares of two thirds of that."""
    longer, shorter = max(width, height), min(width, height)
    views = [((width - longer) // 2, (height - longer) // 2, longer)]
    for side in (shorter, shorter * 2 // 3):
        if max(_LEAST_SIDE, longer / _MOST_VIEWS_ACROSS) < side < longer / 1.2:
            views += [(x, y, side) for y in _starts(height, side) for x in _starts(width, side)]
    return tuple(views)


def views_around(box: Floats, width: int, height: int) -> list[View]:
    """The image's views that do not cut off what is there of somebody in the box [4] xywh px; largest people first.

    The whole image is always one of them.
    """
    margin = _LEAST_MARGIN * max(box[2:])
    low = np.maximum(box[:2] - margin, 0)
    high = np.minimum(box[:2] + box[2:] + margin, [width, height])
    whole, *parts = views_of(width, height)
    inside = [view for view in parts if (low >= view[:2]).all() and (high <= np.add(view[:2], view[2])).all()]
    return [*sorted(inside, key=lambda view: view[2]), whole]


def view_close_to(box: Floats) -> View:
    """The view of a closer look at a square box [4] xywh px."""
    side = max(_LEAST_SIDE, round(_CLOSE * float(max(box[2:]))))
    x, y = (round(float(start + extent / 2) - side / 2) for start, extent in zip(box[:2], box[2:], strict=True))
    return x, y, side


def is_in(view: View, width: int, height: int) -> bool:
    """Whether the middle of a view is in an image of that size."""
    x, y, side = view
    return 0 <= x + side / 2 < width and 0 <= y + side / 2 < height


def view_pixels(image: NDArray[np.uint8], view: View, size: int) -> NDArray[np.float32]:
    """The view resampled to [size,size,3] float32 RGB in 0..1, black outside the image, anti-aliased."""
    x, y, side = view
    height, width = image.shape[:2]
    left, top, right, bottom = max(0, x), max(0, y), min(width, x + side), min(height, y + side)
    scale = size / side
    small = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    part = image[top:bottom, left:right]
    # Halving is ten times as fast as means over squares that are not whole.
    while part.shape[0] >= 2 * small[1] and part.shape[1] >= 2 * small[0]:
        part = cv2.resize(part, (part.shape[1] // 2, part.shape[0] // 2), interpolation=cv2.INTER_AREA)
    part = cv2.resize(part, small, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    pixels = np.zeros((size, size, 3), np.float32)
    u, v = round((left - x) * scale), round((top - y) * scale)
    part = part[: size - v, : size - u]
    np.multiply(part, np.float32(1 / 255), out=pixels[v : v + part.shape[0], u : u + part.shape[1]])
    return pixels


def _starts(length: int, side: int) -> list[int]:
    """Where views of ``side`` begin so that they cover 0..length evenly."""
    count = 1 + math.ceil((length - side) / (side * (1 - _OVERLAP)) - 1e-9)
    return [round(start) for start in np.linspace(0, length - side, count)]
