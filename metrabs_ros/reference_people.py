"""The reference pose set: real people as a network sees them, on which precisions and runtimes are compared.

engines/reference_people.jpg is a sheet of square crops, made by `python -m demo.reference_people`. Every other crop is
for choosing (calibration, layers), the rest for measuring what came of it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import engine_folders

Floats = NDArray[np.float32]

FILE = "reference_people.jpg"
SIDE = 256
COLUMNS = 8


def reference_crops(size: int) -> Floats:
    """All crops [N,size,size,3], RGB in 0..1. Raises InputError where the sheet is missing or damaged."""
    places = [folder / FILE for folder in engine_folders()]
    path = next((place for place in places if place.is_file()), None)
    sheet = None if path is None else cv2.imread(str(path), cv2.IMREAD_COLOR)
    if sheet is None or sheet.shape[1] != COLUMNS * SIDE or sheet.shape[0] % SIDE:
        raise InputError(
            f"The reference people are missing or damaged: expected a sheet of {SIDE} px crops at "
            f"{' or '.join(map(str, places))}; install metrabs_ros again."
        )
    cells = sheet.reshape(-1, SIDE, COLUMNS, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)
    resized = (
        cells if size == SIDE else [cv2.resize(cell, (size, size), interpolation=cv2.INTER_CUBIC) for cell in cells]
    )
    return np.stack([cell[..., ::-1] for cell in resized]).astype(np.float32) / np.float32(255)


def crops_for_choosing(size: int) -> Floats:
    """Half of the crops: calibration of quantisation, choice of layers."""
    return reference_crops(size)[::2]


def crops_for_measuring(size: int) -> Floats:
    """The other half."""
    return reference_crops(size)[1::2]
