"""Resampling without aliasing: from means over squares of as many image pixels as one pixel of the crop spans.

Light is averaged, not grey values.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# Decoded values that are averaged at once: what stays in a core's cache.
_STRIP_VALUES = 1 << 17


@dataclass(frozen=True)
class Squares:
    """Squares of ``pitch`` image pixels, side by side to the right of and below the pixel (left, top)."""

    pitch: int
    left: int
    top: int

    @classmethod
    def under(cls, grid: NDArray[np.float32], step: int) -> Squares:
        """Those for a whole crop, of whose every ``step``-th pixel grid [G,G,2] holds the image pixel.

        It makes no difference then in how many bands the crop is made.
        """
        middle = len(grid) // 2
        here = grid[middle, middle]
        right, down = (grid[middle, middle + 1] - here) / step, (grid[middle + 1, middle] - here) / step
        is_in_view = max(*abs(right), *abs(down)) < 1e3
        spanned = np.sqrt(abs(right[0] * down[1] - right[1] * down[0])) if is_in_view else 1
        pitch = max(1, int(spanned))
        left, top = (max(0, int(np.floor(grid[..., axis].min())) - pitch) for axis in (0, 1))
        return cls(pitch, left, top)

    def reached(
        self, size: tuple[int, int], pixels: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
        """The first (x, y) of the squares that pixels [...,2] (x, y) lie in and between and one past the last of them,
        counted from (left, top); None where all of them lie outside an image of ``size`` (width, height).

        Squares that are not whole are left out.
        """
        pitch, corner = self.pitch, np.array([self.left, self.top])
        whole = np.maximum(np.array(size) - corner, 0) // pitch
        x, y = pixels[..., 0], pixels[..., 1]
        low, high = np.array([[x.min(), y.min()], [x.max(), y.max()]]) - corner
        first = np.clip(np.floor(low / pitch) - 1, 0, whole).astype(int)
        end = np.clip(np.ceil(high / pitch) + 2, 0, whole).astype(int)
        return None if (end <= first).any() else (first, end)

    def corner_of(self, square: NDArray[np.intp]) -> NDArray[np.intp]:
        """The top-left pixel (x, y) of a square (x, y)."""
        return np.array([self.left, self.top]) + square * self.pitch

    def means(
        self,
        image: NDArray[np.uint8],
        first: NDArray[np.intp],
        end: NDArray[np.intp],
        decoding: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Linear light of the squares from ``first`` to before ``end``, framed by one more of black.

        decoding [256]: linear light of each 8-bit value of image [H,W,3].
        """
        pitch = self.pitch
        (left, top), (right, bottom) = self.corner_of(first).tolist(), self.corner_of(end).tolist()
        wide, tall = (end - first).tolist()
        framed = np.empty((tall + 2, wide + 2, 3), np.float32)
        framed[[0, -1]] = framed[:, [0, -1]] = decoding[0]
        rows = max(1, _STRIP_VALUES // (3 * wide * pitch**2))
        for row in range(0, tall, rows):
            strip = framed[1 + row : 1 + min(row + rows, tall), 1:-1]
            values = image[top + row * pitch : min(top + (row + rows) * pitch, bottom), left:right]
            if pitch == 1:
                cv2.LUT(values, decoding, strip)
            else:
                cv2.resize(cv2.LUT(values, decoding), strip.shape[1::-1], strip, interpolation=cv2.INTER_AREA)
        return framed
