"""Photo backgrounds from Debian's wallpaper packages: `python -m training.synthetic.backgrounds` downloads and indexes.

Needs apt-get and dpkg-deb, but no root. Each picture's licence is read from its package's copyright file; a picture
without a licence of its own or its package's is left out, and so is one in which the runtime's detector finds a person.
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from metrabs_ros.errors import InputError
from training.synthetic.body_data import cache_folder
from training.synthetic.debian_package import kept_aside, licence_of, licences_of, unpacked

PACKAGES = (
    "mate-backgrounds",
    "plasma-workspace-wallpapers",
    "ukui-wallpapers",
    "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04",
    "tuxpaint-data",
    "sweethome3d",
)
# Drawings with people-like figures.
_UNWANTED = ("Autumn/", "FlyingKonqui/", "SafeLanding/", "/html/", "fluent-color", "/fonts/")
_LONG_SIDE = 1280


@dataclass(frozen=True)
class Picture:
    """file: name in the cache; package, source: path in it; licence; held_out: kept for evaluation; texture: a small
    patch of floor or wall rather than a view."""

    file: str
    package: str
    source: str
    licence: str
    held_out: bool
    texture: bool


@functools.cache
def pictures(held_out: bool, texture: bool = False) -> tuple[Picture, ...]:
    """The index's views, or its textures. Raises InputError where the cache has not been built."""
    index = index_file()
    if not index.exists():
        raise InputError(f"No photo backgrounds at {index}: build them with python -m training.synthetic.backgrounds.")
    entries = [Picture(**entry) for entry in json.loads(index.read_text(encoding="utf-8"))]
    return tuple(entry for entry in entries if entry.held_out == held_out and entry.texture == texture)


@functools.lru_cache(maxsize=64)
def photo(picture: Picture) -> NDArray[np.uint8]:
    """The picture [h,w,3] RGB."""
    image = cv2.imread(str(_folder() / picture.file), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(
            f"Cannot read {picture.file}: build the cache again with python -m training.synthetic.backgrounds."
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def halved(image: NDArray[np.uint8], shrink: int) -> NDArray[np.uint8]:
    """The picture at 1/shrink of its size."""
    if shrink == 1:
        return image
    return cv2.resize(image, (image.shape[1] // shrink, image.shape[0] // shrink), interpolation=cv2.INTER_AREA)


def textures(rng: np.random.Generator, held_out: bool, count: int, side: int = 256) -> NDArray[np.uint8]:
    """[count,side,side,3] patches cut from pictures, to be put on floors, walls and things."""
    out = np.empty((count, side, side, 3), np.uint8)
    views, patches = pictures(held_out), pictures(held_out, texture=True)
    for i in range(count):
        entries = patches if patches and rng.random() < 0.5 else views
        image = photo(entries[rng.integers(len(entries))])
        extent = min(side * (1 if entries is patches else int(rng.choice([1, 2]))), *image.shape[:2])
        y, x = (int(rng.integers(0, length - extent + 1)) for length in image.shape[:2])
        out[i] = cv2.resize(image[y : y + extent, x : x + extent], (side, side), interpolation=cv2.INTER_AREA)
        if rng.random() < 0.4:
            grey = rng.normal(128, rng.uniform(6, 40), (side // 4, side // 4, 1)).clip(0, 255).astype(np.uint8)
            out[i] = np.repeat(cv2.resize(grey, (side, side), interpolation=cv2.INTER_CUBIC)[..., None], 3, 2)
    return out


def build(packages: tuple[str, ...] = PACKAGES) -> list[Picture]:
    """Downloads, unpacks, filters, shrinks and indexes."""
    folder = _folder()
    folder.mkdir(exist_ok=True)
    found: list[Picture] = []
    for package in packages:
        with tempfile.TemporaryDirectory() as scratch:
            root = unpacked(package, Path(scratch))
            licences = licences_of(root, package)
            _unzip_textures(root)
            for path in sorted(p for p in root.rglob("*") if _is_picture(p)):
                source = str(path.relative_to(root))
                licence = licence_of(source, licences)
                picture = _cached(path, package, source, licence, folder) if licence and _wanted(path) else None
                if picture:
                    found.append(picture)
    index_file().write_text(json.dumps([asdict(picture) for picture in found], indent=1), encoding="utf-8")
    return found


def readme() -> Path:
    """The document that lists packages and licences."""
    return Path(__file__).with_name("README.md")


def index_file() -> Path:
    return _folder() / "index.json"


def _folder() -> Path:
    return cache_folder() / "backgrounds"


def _unzip_textures(root: Path) -> None:
    """Sweet Home 3D keeps its floors and walls in its jar."""
    for jar in root.rglob("sweethome3d.jar"):
        with zipfile.ZipFile(jar) as archive:
            for member in archive.namelist():
                if "/resources/textures/" in member and member.endswith(".jpg"):
                    archive.extract(member, jar.parent)


def _is_picture(path: Path) -> bool:
    if path.suffix not in (".jpg", ".png") or not path.is_file():
        return False
    return path.stat().st_size > 60_000 or "/resources/textures/" in str(path) or "/tuxpaint/templates/" in str(path)


def _wanted(path: Path) -> bool:
    """One size of each wallpaper (plasma's come in many), no screenshots, nothing with figures."""
    if path.stem == "screenshot" or any(part in str(path) for part in _UNWANTED):
        return False
    sizes = sorted(path.parent.glob("[0-9]*x[0-9]*.*"), key=lambda p: p.stat().st_size)
    return not sizes or path not in sizes or path == sizes[-1]


def _cached(path: Path, package: str, source: str, licence: str, folder: Path) -> Picture | None:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        return None
    scale = min(1.0, _LONG_SIDE / max(image.shape[:2]))
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if _is_flat(image) or (max(image.shape) > 400 and _has_people(image)):
        return None
    stem, held_out = kept_aside(f"{package}/{source}")
    name = f"{stem}.jpg"
    cv2.imwrite(str(folder / name), image, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return Picture(name, package, source, licence, held_out, max(image.shape) < 400)


def _is_flat(image: NDArray[np.uint8]) -> bool:
    """Whether most of the picture is one colour, as of transparent drawings."""
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(int)
    return bool((np.abs(small - np.median(small, 0)).max(1) < 6).mean() > 0.6)


def _has_people(image_bgr: NDArray[np.uint8]) -> bool:
    found = _detector().detect(np.ascontiguousarray(image_bgr[..., ::-1]))
    return bool((found.scores > 0.7).any())


@functools.cache
def _detector():  # type: ignore[no-untyped-def]
    from metrabs_ros.detector import open_detector
    from metrabs_ros.model_spec import find_spec, load_spec

    spec = load_spec(find_spec("blazepose_detector"))
    assert spec.detection is not None
    # All figures rest on the list of pictures, which was made before there were closer looks.
    return open_detector(replace(spec, detection=replace(spec.detection, faint_threshold=None)))


if __name__ == "__main__":
    built = build()
    kept = sum(not picture.held_out for picture in built)
    sys.stdout.write(f"{kept} pictures for training and {len(built) - kept} for evaluation in {_folder()}\n")
