"""Crops that hold nobody, so that the network can say so: cut from the photos without people behind the synthetic ones.

The runtime carries a person from frame to frame for as long as the network sees one in the crop.
"""

from __future__ import annotations

import cv2
import numpy as np

from training.examples import BACKGROUND, Batch, Example, collate
from training.skeleton import SKELETON
from training.synthetic import backgrounds, cutouts

_JOINTS = len(SKELETON.joint_names)


def negatives(count: int, side: int, seed: tuple[int, ...], held_out: bool, things: float = 0.0) -> Batch:
    """``count`` square pieces of photos, of any size and turned by up to 35°, as crops of ``side`` px; into ``things``
    of them, a part of all, animals and things are put, one where somebody could be."""
    rng = np.random.default_rng(seed)
    return collate([_negative(rng, side, held_out, things) for _ in range(count)])


def _negative(rng: np.random.Generator, side: int, held_out: bool, things: float) -> Example:
    pictures = backgrounds.pictures(held_out)
    photo = backgrounds.photo(pictures[rng.integers(len(pictures))])
    height, width = photo.shape[:2]
    extent = min(height, width) * np.exp(rng.uniform(np.log(0.1), np.log(1.2)))
    angle = rng.normal(0, 8) if rng.random() < 0.7 else rng.uniform(-35, 35)
    turn = cv2.getRotationMatrix2D((rng.uniform(0, width), rng.uniform(0, height)), angle, side / extent)
    turn[:, 2] += side / 2 - turn @ [rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height, 1]
    border = cv2.BORDER_REFLECT if rng.random() < 0.5 else cv2.BORDER_CONSTANT
    shrunk = cv2.INTER_AREA if extent > side else cv2.INTER_LINEAR
    image = cv2.warpAffine(photo, turn, (side, side), flags=shrunk, borderMode=border)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    if things and rng.random() < things:
        image, _ = cutouts.strewn(image, rng, held_out, central=True)
    gain, offset = rng.uniform(0.5, 1.5), rng.normal(0, 15)
    image = np.clip(image * gain + offset + rng.normal(0, rng.uniform(0, 12), image.shape), 0, 255).astype(np.uint8)
    unknown = np.full((_JOINTS, 3), np.nan, np.float32)
    K = np.array([[side, 0, side / 2], [0, side, side / 2], [0, 0, 1]], np.float32)
    nobody = np.zeros(_JOINTS, bool)
    return Example(np.ascontiguousarray(image), K, unknown, unknown[:, :2], nobody, False, f"{BACKGROUND}:photo")
