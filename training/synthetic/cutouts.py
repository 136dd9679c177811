"""Things and animals cut out of photos and drawings: `python -m training.synthetic.cutouts` downloads and indexes them.

They are put into pictures, before and beside people: what is nobody, but looks like somebody to a detector that has
never seen an animal. From the stamps of Tux Paint; those that show people, parts of them or their like are left out.
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from metrabs_ros.cache_files import write_atomically
from metrabs_ros.errors import InputError
from training.synthetic.body_data import cache_folder
from training.synthetic.debian_package import kept_aside, licence_of, licences_of, unpacked

PACKAGE = "tuxpaint-stamps-default"
_STAMPS = "usr/share/tuxpaint/stamps"
_WANTED = ("animals", "clothes", "food", "household", "medical", "naturalforces", "plants", "town/houses", "vehicles")
_UNWANTED = ("apes/", "armor/", "cats/cartoon/", "_mirror", "_flip")
_LONG_SIDE = 256
# What is less opaque is not there.
_LEAST_OPAQUE = 0.02
_MOST_THINGS = 3


@dataclass(frozen=True)
class Cutout:
    """file: name in the cache; source: path in the package; licence; held_out: kept for evaluation."""

    file: str
    source: str
    licence: str
    held_out: bool


@functools.cache
def cutouts(held_out: bool) -> tuple[Cutout, ...]:
    """The index's. Raises InputError where the cache has not been built."""
    index = _folder() / "index.json"
    if not index.exists():
        raise InputError(f"No cut-outs at {index}: build them with python -m training.synthetic.cutouts.")
    entries = [Cutout(**entry) for entry in json.loads(index.read_text(encoding="utf-8"))]
    return tuple(entry for entry in entries if entry.held_out == held_out)


@functools.cache
def image_of(cutout: Cutout) -> NDArray[np.uint8]:
    """[h,w,4] RGB and opacity, the longer side at most 256 px."""
    image = cv2.imread(str(_folder() / cutout.file), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise InputError(f"Cannot read {cutout.file}: build the cache again with python -m training.synthetic.cutouts.")
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)


def strewn(
    image: NDArray[np.uint8], rng: np.random.Generator, held_out: bool, central: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The square picture [S,S,3] with one to three cut-outs of any size, turned and mirrored, anywhere, and how opaque
    they are together [S,S]. ``central``: the last one is about in the middle and as large as a person would be."""
    entries = cutouts(held_out)
    seen, size = image.astype(np.float32), image.shape[0]
    opacity = np.zeros((size, size), np.float32)
    count = int(rng.integers(1, _MOST_THINGS + 1))
    for i in range(count):
        thing = image_of(entries[rng.integers(len(entries))])
        if central and i == count - 1:
            place = _placed(thing, rng, size, rng.uniform(0.3, 1.3), rng.normal(size / 2, 0.1 * size, 2))
        else:
            extent = np.exp(rng.uniform(np.log(0.1), np.log(0.9)))
            place = _placed(thing, rng, size, extent, rng.uniform(0, size, 2))
        seen = seen * (1 - place[..., 3:]) + place[..., :3]
        opacity += place[..., 3] * (1 - opacity)
    return np.clip(seen, 0, 255).astype(np.uint8), opacity


def build() -> list[Cutout]:
    """Downloads, unpacks, filters, shrinks and indexes."""
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        root = unpacked(PACKAGE, Path(scratch))
        licences = licences_of(root, PACKAGE)
        for wanted in _WANTED:
            for path in sorted((root / _STAMPS / wanted).rglob("*.png")):
                source = str(path.relative_to(root))
                licence = licence_of(source, licences)
                if licence is None or any(part in source for part in _UNWANTED):
                    continue
                image = _shrunk(path)
                if image is None:
                    continue
                stem, held_out = kept_aside(source)
                cv2.imwrite(str(folder / f"{stem}.png"), image)
                found.append(Cutout(f"{stem}.png", source, licence, held_out))
    index = json.dumps([asdict(cutout) for cutout in found], indent=1)
    write_atomically(folder / "index.json", index.encode())
    return found


def _folder() -> Path:
    return cache_folder() / "cutouts"


def _placed(
    thing: NDArray[np.uint8], rng: np.random.Generator, size: int, extent: float, middle: NDArray[np.floating]
) -> NDArray[np.float32]:
    """[S,S,4]: the cut-out, ``extent`` of the picture long, around ``middle``; colours weighed by opacity 0..1, so that
    what is not there does not show at the edges."""
    if rng.random() < 0.5:
        thing = thing[:, ::-1]
    height, width = thing.shape[:2]
    scale = size * extent / max(width, height)
    angle = rng.normal(0, 10) if rng.random() < 0.7 else rng.uniform(-180, 180)
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale)
    turn[:, 2] += middle - [(width - 1) / 2, (height - 1) / 2]
    weighed = thing.astype(np.float32)
    weighed[..., 3] /= 255
    weighed[..., :3] *= weighed[..., 3:] * rng.uniform(0.5, 1.3)
    if scale < 0.5:
        weighed = cv2.GaussianBlur(weighed, (0, 0), 0.4 / scale)
    return cv2.warpAffine(weighed, turn, (size, size), flags=cv2.INTER_LINEAR)


def _shrunk(path: Path) -> NDArray[np.uint8] | None:
    """[h,w,4] BGR and opacity without empty borders; None where the picture has no transparent parts."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4 or image[..., 3].min() > 255 * _LEAST_OPAQUE:
        return None
    x, y, width, height = cv2.boundingRect((image[..., 3] > 255 * _LEAST_OPAQUE).astype(np.uint8))
    image = image[y : y + height, x : x + width].astype(np.float32)
    # Colours of what cannot be seen do not bleed into its neighbours.
    image[..., :3] *= image[..., 3:] / 255
    scale = min(1.0, _LONG_SIDE / max(width, height))
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    image[..., :3] /= np.maximum(image[..., 3:] / 255, 1e-3)
    return np.clip(image, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    built = build()
    kept = sum(not cutout.held_out for cutout in built)
    sys.stdout.write(f"{kept} cut-outs for training and {len(built) - kept} for evaluation in {_folder()}\n")
