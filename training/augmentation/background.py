"""Another background for people whose outline is known."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from training.augmentation.geometry import in_disc

Crop = NDArray[np.float32]

ZOOM = (1.2, 1.5)
SHIFT = 0.1


def with_background(
    crop: Crop, inside: NDArray[np.float32], photo: NDArray[np.uint8], rng: np.random.Generator
) -> Crop:
    """crop [S,S,3] in 0..1 where inside [S,S] is 1, and elsewhere the photo [H,W,3] uint8, zoomed to cover it."""
    side = len(crop)
    height, width = photo.shape[:2]
    zoom = rng.uniform(*ZOOM) * side / min(height, width)
    middle = np.array([side, side]) / 2 + SHIFT * side * in_disc(rng)
    if zoom < 0.5:
        # Averaged first, or the warp would alias.
        photo = cv2.resize(photo, None, fx=2 * zoom, fy=2 * zoom, interpolation=cv2.INTER_AREA)
        zoom *= height / photo.shape[0]
        height, width = photo.shape[:2]
    onto_crop = np.array([[zoom, 0, middle[0] - zoom * width / 2], [0, zoom, middle[1] - zoom * height / 2]])
    warped = cv2.warpAffine(photo, onto_crop, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    behind = warped.astype(np.float32) / 255
    return behind + inside[:, :, None] * (crop - behind)
