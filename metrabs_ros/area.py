"""Resampling without aliasing: from means over squares of as many image pixels as one pixel of the crop spans.

Light is averaged, not grey values. The squares count from the image's corner, so that it makes no difference in how
many bands a crop is made.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Decoded values that are averaged at once: what stays in a core's cache.
_STRIP_VALUES = 1 << 17


def shrinkage(grid: NDArray[np.float32], pitch: int) -> int:
    """How many image pixels one crop pixel spans in the middle of the crop, as a whole number of at least 1.

    grid [G,G,2]: image pixels of crop pixels that are ``pitch`` apart.
    """
    middle = len(grid) // 2
    here = grid[middle, middle]
    right, down = ((grid[middle, middle + 1] - here) / pitch, (grid[middle + 1, middle] - here) / pitch)
    if max(*abs(right), *abs(down)) > 1e3:
        return 1
    return max(1, int(np.sqrt(abs(right[0] * down[1] - right[1] * down[0]))))


def means(
    image: NDArray[np.uint8], pixels: NDArray[np.float32], shrink: int, decoding: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.intp]] | None:
    """Linear light of the squares of ``shrink`` px that pixels [...,2] (x, y) lie in and between, framed by one more of
    black, and the top-left pixel of the first square; None where all of them lie outside image [H,W,3] uint8.

    Squares that are not whole are left out. decoding [256]: linear light of each 8-bit value.
    """
    whole = np.array([image.shape[1], image.shape[0]]) // shrink
    x, y = pixels[..., 0], pixels[..., 1]
    first = np.clip(np.floor(np.array([x.min(), y.min()]) / shrink) - 1, 0, whole).astype(int)
    end = np.clip(np.ceil(np.array([x.max(), y.max()]) / shrink) + 2, 0, whole).astype(int)
    if (end <= first).any():
        return None
    (left, top), (right, bottom) = (first * shrink).tolist(), (end * shrink).tolist()
    wide, tall = (end - first).tolist()
    framed = np.empty((tall + 2, wide + 2, 3), np.float32)
    framed[[0, -1]] = framed[:, [0, -1]] = decoding[0]
    rows = max(1, _STRIP_VALUES // (3 * wide * shrink**2))
    for row in range(0, tall, rows):
        squares = framed[1 + row : 1 + min(row + rows, tall), 1:-1]
        values = image[top + row * shrink : min(top + (row + rows) * shrink, bottom), left:right]
        if shrink == 1:
            cv2.LUT(values, decoding, squares)
        else:
            cv2.resize(cv2.LUT(values, decoding), squares.shape[1::-1], squares, interpolation=cv2.INTER_AREA)
    return framed, (first - 1) * shrink
