"""Brightness, contrast, hue and saturation, changed in random order."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Crop = NDArray[np.float32]

BRIGHTNESS = 0.125
CONTRAST = (0.5, 1.5)
SATURATION = (0.5, 1.5)
HUE_DEG = 72.0


def recoloured(crop: Crop, rng: np.random.Generator) -> Crop:
    """crop [S,S,3] float32 RGB in 0..1 -> the same, other colours."""
    steps: list[Callable[[Crop, np.random.Generator], Crop]] = [_brightness, _contrast, _hue, _saturation]
    for i in rng.permutation(len(steps)):
        crop = steps[i](crop, rng)
    return np.clip(crop, 0, 1)


def _brightness(crop: Crop, rng: np.random.Generator) -> Crop:
    return crop + np.float32(rng.uniform(-BRIGHTNESS, BRIGHTNESS))


def _contrast(crop: Crop, rng: np.random.Generator) -> Crop:
    return (crop - np.float32(0.5)) * np.float32(rng.uniform(*CONTRAST)) + np.float32(0.5)


def _hue(crop: Crop, rng: np.random.Generator) -> Crop:
    hsv = cv2.cvtColor(np.clip(crop, 0, 1), cv2.COLOR_RGB2HSV)
    hsv[:, :, 0] = (hsv[:, :, 0] + np.float32(rng.uniform(-HUE_DEG, HUE_DEG))) % 360
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _saturation(crop: Crop, rng: np.random.Generator) -> Crop:
    hsv = cv2.cvtColor(np.clip(crop, 0, 1), cv2.COLOR_RGB2HSV)
    hsv[:, :, 1] = np.minimum(hsv[:, :, 1] * np.float32(rng.uniform(*SATURATION)), 1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
