"""Contact sheets: `python -m training.synthetic.sheet out.png --rows 6 --columns 10 --seed 1 [--joints] [--frames]`."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.examples import Example
from training.skeleton import JOINT_NAMES, SKELETON
from training.synthetic.frame import frame_of
from training.synthetic.scene import sampled_scene, sampled_stock
from training.synthetic.stream import StreamConfig, examples


def drawn(example: Example) -> NDArray[np.uint8]:
    """The crop [S,S,3] RGB with the skeleton: left yellow, right blue, middle green; hidden joints hollow."""
    image = np.ascontiguousarray(example.image)
    _draw(image, example.joints2d, example.visible)
    return image


def _draw(image: NDArray[np.uint8], joints2d: NDArray[np.floating], visible: NDArray[np.bool_]) -> None:
    points = [tuple(int(v) for v in np.nan_to_num(point, nan=-9999).round().clip(-9999, 9999)) for point in joints2d]
    for a, b in SKELETON.edges:
        cv2.line(image, points[a], points[b], _colour(JOINT_NAMES[b]), 1, cv2.LINE_AA)
    for point, name, seen in zip(points, JOINT_NAMES, visible, strict=True):
        cv2.circle(image, point, 2, _colour(name), -1 if seen else 1, cv2.LINE_AA)


def sheet(images: list[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Images of one size side by side, row by row."""
    rows = [np.concatenate(images[i : i + columns], 1) for i in range(0, len(images) - len(images) % columns, columns)]
    return np.concatenate(rows, 0)


def _colour(name: str) -> tuple[int, int, int]:
    return (255, 220, 0) if name.startswith("left") else (60, 140, 255) if name.startswith("right") else (60, 255, 60)


def _frames(options: argparse.Namespace) -> NDArray[np.uint8]:
    """Whole frames with boxes and, if asked for, joints."""
    images = []
    stock = sampled_stock(np.random.default_rng(options.seed), options.held_out)
    for number in range(options.rows * options.columns):
        rng = np.random.default_rng([options.seed, number])
        scene = sampled_scene(rng, stock, (640, 480))
        assert scene is not None
        frame = frame_of(scene, rng)
        image = np.ascontiguousarray(frame.image)
        for box, points, visible in zip(frame.boxes, frame.joints2d, frame.visible, strict=True):
            x, y, w, h = (round(v) for v in box)
            cv2.rectangle(image, (x, y), (x + w, y + h), (255, 120, 0), 1)
            if options.joints:
                _draw(image, points, visible)
        images.append(image)
    return sheet(images, options.columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--joints", action="store_true", help="draw the skeletons")
    parser.add_argument("--held-out", action="store_true", help="what evaluation sees")
    parser.add_argument("--frames", action="store_true", help="whole frames of 640x480 instead of crops")
    options = parser.parse_args()
    if options.frames:
        cv2.imwrite(str(options.out), _frames(options)[..., ::-1])
        return
    stream = examples(StreamConfig(held_out=options.held_out), options.seed)
    crops = [next(stream) for _ in range(options.rows * options.columns)]
    images = [drawn(example) if options.joints else example.image for example in crops]
    cv2.imwrite(str(options.out), sheet(images, options.columns)[..., ::-1])


if __name__ == "__main__":
    main()
