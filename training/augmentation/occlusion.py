"""What is put in front of people: rectangles of noise, and objects cut out of photos."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.missing import Origin

Crop = NDArray[np.float32]
# An object: [h,w,4] uint8, RGB and how opaque it is.
Cutout = NDArray[np.uint8]

ORIGIN = Origin(
    "Pascal VOC",
    "the page of the PASCAL Visual Object Classes challenge 2012 at the University of Oxford, host.robots.ox.ac.uk",
    "Annotations, JPEGImages and SegmentationObject (the folder VOC2012)",
)

MAX_AREA = 1 / 3
ASPECT = (0.3, 1 / 0.3)
MAX_OBJECTS = 6
# Objects are drawn at this share of their size on a crop of 256 px, and areas of rectangles reckoned on it.
_SHARE = 0.8
_MIN_PIXELS = 500
_OPAQUE_EDGE = 0.75


def with_noise(crop: Crop, rng: np.random.Generator) -> tuple[Crop, NDArray[np.bool_]]:
    """A rectangle of white noise (random erasing) on crop [S,S,3] in 0..1; also where it is [S,S]."""
    side = len(crop)
    while True:
        area = rng.uniform(0, MAX_AREA) * side**2 * _SHARE
        aspect = rng.uniform(*ASPECT)
        size = np.array([np.sqrt(area / aspect), np.sqrt(area * aspect)])
        low = rng.uniform(0, side, 2)
        if (low + size < side).all():
            break
    (x0, y0), (x1, y1) = low.astype(int), (low + size).astype(int)
    crop, covered = crop.copy(), np.zeros((side, side), bool)
    crop[y0:y1, x0:x1] = rng.integers(0, 256, (y1 - y0, x1 - x0, 3)) / np.float32(255)
    covered[y0:y1, x0:x1] = True
    return crop, covered


def with_objects(crop: Crop, objects: Sequence[Cutout], rng: np.random.Generator) -> tuple[Crop, NDArray[np.bool_]]:
    """1 to 6 of the objects anywhere on crop [S,S,3] in 0..1; also where they are opaque [S,S]."""
    side = len(crop)
    crop, covered = crop.copy(), np.zeros((side, side), bool)
    for _ in range(rng.integers(1, MAX_OBJECTS + 1)):
        cutout = objects[rng.integers(len(objects))]
        factor = rng.uniform(0.2, 1.0) * side / 256 * _SHARE
        size = [max(1, round(length * factor)) for length in cutout.shape[1::-1]]
        small = cv2.resize(cutout, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        start = np.rint(rng.uniform(0, side, 2) - np.array(size) / 2).astype(int)
        low, high = np.maximum(start, 0), np.minimum(start + size, side)
        if (high <= low).any():
            continue
        on_crop = (slice(low[1], high[1]), slice(low[0], high[0]))
        piece = small[low[1] - start[1] : high[1] - start[1], low[0] - start[0] : high[0] - start[0]]
        alpha = piece[:, :, 3:]
        crop[on_crop] += alpha * (piece[:, :, :3] - crop[on_crop])
        covered[on_crop] |= alpha[:, :, 0] > 0.5
    return crop, covered


def voc_objects(root: Path) -> list[Cutout]:
    """All segmented objects of Pascal VOC that are no people, whole, not difficult and not tiny, at half size."""
    annotations = sorted(ORIGIN.need(root / "Annotations").glob("*.xml"))
    return [cutout for path in annotations for cutout in _objects_in(root, path)]


def _objects_in(root: Path, annotation: Path) -> list[Cutout]:
    try:
        tree = ElementTree.parse(annotation).getroot()
        if tree.findtext("segmented") == "0":
            return []
        boxes = [
            (number, [int(entry.findtext(f"bndbox/{key}") or "") for key in ("xmin", "ymin", "xmax", "ymax")])
            for number, entry in enumerate(tree.findall("object"), 1)
            if entry.findtext("name") != "person"
            and entry.findtext("difficult") == "0"
            and entry.findtext("truncated") == "0"
        ]
    except (ElementTree.ParseError, ValueError) as error:
        raise ORIGIN.damaged(annotation, error) from error
    if not boxes:
        return []
    photo = ORIGIN.need(root / "JPEGImages" / f"{annotation.stem}.jpg")
    labels = ORIGIN.need(root / "SegmentationObject" / f"{annotation.stem}.png")
    with Image.open(photo) as opened:
        pixels = np.array(opened.convert("RGB"))
    with Image.open(labels) as opened:
        # A palette image: its indices number the objects.
        numbers = np.array(opened)
    found = []
    for number, (x0, y0, x1, y1) in boxes:
        inside = (numbers[y0:y1, x0:x1] == number).astype(np.uint8)
        if np.count_nonzero(inside) >= _MIN_PIXELS:
            found.append(_halved(pixels[y0:y1, x0:x1], inside))
    return found


def _halved(pixels: NDArray[np.uint8], inside: NDArray[np.uint8]) -> Cutout:
    core = cv2.erode(inside, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (8, 8)))
    alpha = np.where(core < inside, _OPAQUE_EDGE, inside) * 255
    cutout = np.dstack([pixels, alpha.astype(np.uint8)])
    size = (max(1, cutout.shape[1] // 2), max(1, cutout.shape[0] // 2))
    return cv2.resize(cutout, size, interpolation=cv2.INTER_AREA)
