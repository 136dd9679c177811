"""Views of stored pictures as the runtime cuts them, varied: of any size, turned, mirrored, four in one, of nobody.

Animals and things stand before and beside people; of some only head and chest are in the view.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from metrabs_ros.errors import InputError
from training.detector import scenes
from training.detector.targets import LEAST_VISIBLE, People, people_of
from training.negatives import negatives
from training.synthetic import cutouts

Floats = NDArray[np.floating]
# Left, top and side, px from the picture's top-left corner.
Square = tuple[float, float, float]
_FOUR_IN_ONE = 0.2
_OF_NOBODY = 0.22
_PORTRAITS = 0.2
# A portrait is of somebody whose circle has this radius at least, px of the stored picture.
_LEAST_RADIUS = 50.0
# Views of nobody and of people into which things are put.
_STREWN_NOBODY, _STREWN = 0.6, 0.3


@dataclass(frozen=True, eq=False)
class View:
    """image [S,S,3] uint8 RGB; people: whose joints lie in it, at least in part."""

    image: NDArray[np.uint8]
    people: People


class Pictures:
    """The pictures of a folder's blocks, compressed in memory; ``look_again`` takes blocks that came since."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blocks: dict[Path, list[scenes.Stored]] = {}
        self.look_again()
        if not self._blocks:
            raise InputError(f"No pictures in {folder}: render them with python -m training.detector.scenes {folder}.")

    def look_again(self) -> None:
        for path in scenes.blocks(self._folder):
            if path not in self._blocks:
                self._blocks[path] = scenes.read_block(path)
        self._all = [stored for block in self._blocks.values() for stored in block]

    def __len__(self) -> int:
        return len(self._all)

    def drawn(self, rng: np.random.Generator) -> scenes.Picture:
        return self._all[rng.integers(len(self._all))].picture()


def sampled(pictures: Pictures, rng: np.random.Generator, size: int) -> View:
    """A view of ``size`` px, a function of the generator's state and of the folder."""
    kind = rng.random()
    if kind < _OF_NOBODY:
        crop = negatives(1, size, (int(rng.integers(2**31)),), held_out=False)
        view = View(np.ascontiguousarray(crop.image[0].numpy()), People.nobody())
        return strewn(view, rng) if rng.random() < _STREWN_NOBODY else view
    if kind < _OF_NOBODY + _FOUR_IN_ONE:
        return spoiled(_four(pictures, rng, size), rng)
    picture = pictures.drawn(rng)
    near = portrayable(picture) if rng.random() < _PORTRAITS else ()
    square = portrait(picture, int(rng.choice(near)), rng) if len(near) else placed(picture, _part(rng), rng)
    view = cut(picture, square, rng, size)
    return spoiled(strewn(view, rng) if rng.random() < _STREWN else view, rng)


def _part(rng: np.random.Generator) -> float:
    """Side of the view over the picture's shorter side; 0 for the whole picture."""
    kind = rng.random()
    if kind < 0.4:
        return 0.0
    return 1.0 if kind < 0.6 else float(rng.uniform(0.35, 0.9))


def placed(picture: scenes.Picture, part: float, rng: np.random.Generator) -> Square:
    """A square of the picture, ``part`` of its shorter side wide; 0: around all of it."""
    height, width = picture.image.shape[:2]
    if part:
        side = part * min(width, height)
        return rng.uniform(0, width - side), rng.uniform(0, height - side), side
    side = max(width, height) * rng.uniform(1.0, 1.25)
    return (width - side) * rng.random(), (height - side) * rng.random(), side


def portrait(picture: scenes.Picture, person: int, rng: np.random.Generator) -> Square:
    """A square that ends between the shoulders and below the hips of somebody of ``people_of``."""
    people = people_of(picture)
    head, hips = people.point[person], people.hips[person]
    height, width = picture.image.shape[:2]
    side = min(people.radius[person] * rng.uniform(0.6, 2.2), 1.2 * width)
    end = min(height, head[1] + min((hips[1] - head[1]) * rng.uniform(0.3, 1.1), 0.8 * side))
    side = min(side, 1.2 * end)
    left = head[0] + side * (rng.normal(0, 0.2) - 0.5)
    return float(np.clip(left, min(0, width - side), max(0, width - side))), end - side, side


def portrayable(picture: scenes.Picture) -> NDArray[np.intp]:
    """Who of ``people_of`` is large enough for a portrait, seen, and head up in the picture."""
    people = people_of(picture)
    head = people.point[:, 1]
    is_up = (head > 0) & (head < people.hips[:, 1]) & (head < picture.image.shape[0])
    return np.flatnonzero(is_up & (people.radius >= _LEAST_RADIUS) & (people.visible >= LEAST_VISIBLE))


def cut(picture: scenes.Picture, square: Square, rng: np.random.Generator, size: int) -> View:
    """What a square of the picture shows, mirrored or turned; black beyond the picture."""
    height, width = picture.image.shape[:2]
    x, y, side = square
    scale = size / side
    shrunk = min(1.0, scale)
    image = picture.image
    if shrunk < 1:
        image = cv2.resize(image, (round(width * shrunk), round(height * shrunk)), interpolation=cv2.INTER_AREA)
    # From corners of the picture's pixels to corners of the view's.
    A = np.array([[scale, 0, -x * scale], [0, scale, -y * scale], [0, 0, 1.0]])
    if rng.random() < 0.5:
        A = np.array([[-1, 0, size], [0, 1, 0], [0, 0, 1.0]]) @ A
    if rng.random() < 0.5:
        angle = rng.uniform(-35, 35) if rng.random() < 0.45 else rng.uniform(-180, 180)
        A = np.vstack([cv2.getRotationMatrix2D((size / 2, size / 2), angle, 1.0), [0, 0, 1]]) @ A
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    sizes = np.diag([width / image.shape[1], height / image.shape[0], 1])
    out = cv2.warpAffine(image, (np.linalg.inv(half) @ A @ sizes @ half)[:2], (size, size), flags=cv2.INTER_LINEAR)
    return View(out, people_of(picture).moved(A).within(size))


def strewn(view: View, rng: np.random.Generator) -> View:
    """With cut-outs anywhere; joints that they cover are not seen."""
    image, opacity = cutouts.strewn(view.image, rng, held_out=False)
    at = np.clip(view.people.joints, 0, image.shape[0] - 1).astype(int)
    people = replace(view.people, seen=view.people.seen & (opacity[at[..., 1], at[..., 0]] < 0.5))
    return View(image, people)


def spoiled(view: View, rng: np.random.Generator) -> View:
    """Other light and colours, now and then grey, blurred or noisy."""
    image = view.image.astype(np.float32) * rng.uniform(0.6, 1.4) + rng.normal(0, 12)
    image += (image.mean(-1, keepdims=True) - image) * (1.0 if rng.random() < 0.08 else rng.uniform(-0.3, 0.6))
    image *= np.exp(rng.normal(0, 0.06, 3)).astype(np.float32)
    if rng.random() < 0.15:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.0))
    if rng.random() < 0.3:
        image += rng.normal(0, rng.uniform(1, 9), image.shape).astype(np.float32)
    return View(np.clip(image, 0, 255).astype(np.uint8), view.people)


def _four(pictures: Pictures, rng: np.random.Generator, size: int) -> View:
    """Four pictures in one view: people half as large."""
    half = size // 2
    image = np.zeros((size, size, 3), np.uint8)
    found = []
    for x, y in ((0, 0), (half, 0), (0, half), (half, half)):
        picture = pictures.drawn(rng)
        view = cut(picture, placed(picture, 0.0 if rng.random() < 0.7 else 1.0, rng), rng, half)
        image[y : y + half, x : x + half] = view.image
        # Whose head is cut off by a border is told at this border.
        people = replace(view.people, point=view.people.point.clip(0, half - 1))
        found.append(people.moved(np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])))
    return View(image, People.joined(found))
