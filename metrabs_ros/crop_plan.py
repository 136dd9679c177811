"""What crops are to be read from, worked out before any pixel is: the CPU and a GPU make them of the same plan."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.area import Squares

Floats = NDArray[np.float64]

GAMMA = 2.2
# Instead of no light at all, of which OpenCV takes a power in three times as long.
BLACK = 1e-30
# Lens distortion is followed on a grid of this pitch, px of the crop, and interpolated between.
GRID_PITCH = 8
# An image point that the lens model does not reach is read from here: outside every image.
NOWHERE = -1e4


@dataclass(frozen=True, eq=False)
class Reading:
    """Rows of a crop on squares of the image, from ``first`` to before ``end``, counted as ``squares`` counts them.

    One more square of black is around them, whose top-left one is at (0, 0) for H_squares_crop [3,3], which a pinhole
    camera has, or else for grid [G,G,2] float32, of every GRID_PITCH-th pixel of the rows. The other one is None.
    """

    squares: Squares
    first: NDArray[np.intp]
    end: NDArray[np.intp]
    H_squares_crop: Floats | None
    grid: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class CropPlan:
    """N crops of ``side`` px: where in the image each of their pixels lies and the exponents [N] from light to values.

    grids [N,G,G,2] float32: the image pixel of every GRID_PITCH-th crop pixel, NOWHERE where there is none. H_img_crop
    [N,3,3] where the camera is a pinhole, else None.
    """

    side: int
    grids: NDArray[np.float32]
    H_img_crop: Floats | None
    squares: Sequence[Squares]
    exponents: Sequence[float]

    def __len__(self) -> int:
        return len(self.grids)

    def reading(self, i: int, rows: slice, size: tuple[int, int]) -> Reading | None:
        """Of ``rows``, which begin on the grid, of crop ``i``; None where they show nothing of the image.

        size: the image's width and height.
        """
        grid = self.grids[i, rows.start // GRID_PITCH : -(-rows.stop // GRID_PITCH) + 1]
        reached = grid
        if grid.min() < NOWHERE / 2:
            reached = grid[(grid > NOWHERE / 2).all(-1)]
        squares = self.squares[i]
        between = squares.reached(size, reached) if reached.size else None
        if between is None:
            return None
        first, end = between
        scale = 1 / squares.pitch
        offset = (0.5 - squares.corner_of(first - 1)) * scale - 0.5
        if self.H_img_crop is None or reached is not grid:
            on_squares = np.where(grid > NOWHERE / 2, grid * scale + offset, NOWHERE).astype(np.float32)
            return Reading(squares, first, end, None, on_squares)
        H_img_crop = self.H_img_crop[i].copy()
        H_img_crop[:, 2] += H_img_crop[:, 1] * rows.start
        H_squares_crop = H_img_crop * [[scale], [scale], [1]]
        H_squares_crop[:2] += offset[:, None] * H_img_crop[2]
        return Reading(squares, first, end, H_squares_crop, None)


@functools.cache
def decoding() -> NDArray[np.float32]:
    """Linear light [256] of each 8-bit value."""
    return np.maximum((np.arange(256) / 255) ** GAMMA, BLACK).astype(np.float32)
