"""Whole synthetic pictures for the detector, rendered once at a few hundred pixels and stored.

`python -m training.detector.scenes FOLDER --blocks 100` writes FOLDER/block_00000.npz and so on; those that are there
already are left alone, so the command goes on where it was stopped, and training may begin meanwhile.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from metrabs_ros.errors import InputError
from training.synthetic.camera_sampling import sampled_camera
from training.synthetic.frame import Frame, frame_of
from training.synthetic.scene import sampled_scene, sampled_stock

SEED = 4091
# Pictures of a block share a stock of people, photos and textures.
_PER_BLOCK = 40
_LONGER_SIDE = 640
_EMPTY = 0.12
_SUPERSAMPLING = 1.3


@dataclass(frozen=True, eq=False)
class Picture:
    """image [H,W,3] uint8 RGB; per person: boxes [N,4] xywh px of the whole body cut to the picture, joints2d [N,J,2]
    px (NaN behind the lens), visible [N,J]."""

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    joints2d: NDArray[np.float32]
    visible: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Stored:
    """A Picture whose image is still a JPEG."""

    jpeg: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    joints2d: NDArray[np.float32]
    visible: NDArray[np.bool_]

    def picture(self) -> Picture:
        image = cv2.cvtColor(cv2.imdecode(self.jpeg, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return Picture(image, self.boxes, self.joints2d, self.visible)


def rendered_block(number: int, seed: int = SEED, held_out: bool = False, count: int = _PER_BLOCK) -> Iterator[Picture]:
    """``count`` pictures, a function of the arguments alone; some show nobody."""
    stock = sampled_stock(np.random.default_rng([seed, int(held_out), number]), held_out)
    for i in range(count):
        rng = np.random.default_rng([seed, int(held_out), number, i])
        width, height = sampled_camera(rng).size
        shrink = _LONGER_SIDE / max(width, height)
        scene = sampled_scene(rng, stock, (round(width * shrink), round(height * shrink)))
        assert scene is not None
        if rng.random() < _EMPTY:
            scene = scene.deserted()
        yield of_frame(frame_of(scene, rng, _SUPERSAMPLING))


def of_frame(frame: Frame) -> Picture:
    return Picture(
        frame.image, frame.boxes.astype(np.float32), frame.joints2d.astype(np.float32), frame.visible.astype(bool)
    )


def write_block(path: Path, pictures: list[Picture]) -> None:
    """JPEGs and labels in one file that exists whole or not at all."""
    encoded = []
    for picture in pictures:
        _, data = cv2.imencode(".jpg", picture.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 93])
        encoded.append(data.ravel())
    part = path.with_suffix(".part.npz")
    np.savez(
        part,
        jpegs=np.concatenate(encoded),
        bytes=np.array([len(data) for data in encoded]),
        people=np.array([len(picture.boxes) for picture in pictures]),
        boxes=np.concatenate([picture.boxes for picture in pictures]),
        joints2d=np.concatenate([picture.joints2d for picture in pictures]),
        visible=np.concatenate([picture.visible for picture in pictures]),
    )
    part.replace(path)


def read_block(path: Path) -> list[Stored]:
    """Raises InputError where the file is no block."""
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in ("jpegs", "bytes", "people", "boxes", "joints2d", "visible")}
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"The pictures {path} cannot be read ({error}): delete the file and render again.") from error
    ends, people = np.cumsum(arrays["bytes"]), np.cumsum(arrays["people"])
    jpegs = np.split(arrays["jpegs"], ends[:-1])
    labels = [np.split(arrays[name], people[:-1]) for name in ("boxes", "joints2d", "visible")]
    return [Stored(*parts) for parts in zip(jpegs, *labels, strict=True)]


def blocks(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("block_*.npz") if ".part" not in path.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--blocks", type=int, default=100, help=f"of {_PER_BLOCK} pictures")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--held-out", action="store_true", help="people and backgrounds that training never sees")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for number in range(options.blocks):
        path = options.folder / f"block_{number:05d}.npz"
        if not path.exists():
            write_block(path, list(rendered_block(number, options.seed, options.held_out)))


if __name__ == "__main__":
    main()
