"""Resampling as the released code does it: from the nearest level of an image pyramid, exactly bilinear.

OpenCV reads between pixels in steps of 1/32 px, which a network that was trained on exact crops can tell.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_LEVELS = 3


def sampled(
    image: NDArray[np.uint8], pixels: NDArray[np.float64], scale: float, decoding: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Linear light [S,S,3] at pixels [S,S,2] (x, y) of image [H,W,3] uint8; zero outside the image.

    ``scale``: pixels of the crop over those of the image; it picks the level, means over squares of 1, 2 or 4 px.
    decoding [256]: linear light of each 8-bit value.
    """
    pitch = int(2 ** np.clip(np.floor(-np.log2(scale)), 0, _LEVELS - 1))
    # Squares count from the image's corner, and those that are not whole are left out.
    size = np.array([image.shape[1], image.shape[0]]) // pitch * pitch
    # Some lenses, followed beyond their range, put pixels farther away than whole numbers reach.
    low = np.clip(np.floor(pixels.min((0, 1))) // pitch * pitch - pitch, 0, size).astype(int)
    high = np.clip(-(np.ceil(pixels.max((0, 1))) // -pitch) * pitch + 2 * pitch, 0, size).astype(int)
    if (high <= low).any():
        return np.zeros((*pixels.shape[:2], image.shape[2]), np.float32)
    linear = cv2.LUT(image[low[1] : high[1], low[0] : high[0]], decoding)
    if pitch > 1:
        small = (high - low) // pitch
        linear = cv2.resize(linear, (int(small[0]), int(small[1])), interpolation=cv2.INTER_AREA)
    return _bilinear(np.atleast_3d(linear), (pixels - low - (pitch - 1) / 2) / pitch)


def _bilinear(image: NDArray[np.float32], pixels: NDArray[np.float64]) -> NDArray[np.float32]:
    """image [H,W,C] at pixels [S,S,2]; its surroundings are zero."""
    height, width, channels = image.shape
    padded = np.zeros((height + 2, width + 2, channels), np.float32)
    padded[1:-1, 1:-1] = image
    at = np.clip(pixels, -1, [width, height])
    corner = np.minimum(np.floor(at), [width - 1, height - 1])
    x, y = np.moveaxis((at - corner).astype(np.float32)[..., None], -2, 0)
    first = ((corner[..., 1] + 1) * (width + 2) + corner[..., 0] + 1).astype(np.intp)
    rows = padded.reshape(-1, channels)
    upper = rows[first] * (1 - x) + rows[first + 1] * x
    lower = rows[first + width + 2] * (1 - x) + rows[first + width + 3] * x
    return upper * (1 - y) + lower * y
