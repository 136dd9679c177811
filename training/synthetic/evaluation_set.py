"""The fixed evaluation set: crops, frames, motions of people, clothes, poses and backgrounds kept from training.

`python -m training.synthetic.evaluation_set FOLDER --crops 512 --frames 64` writes it to disk; the same call always
writes the same labels. Shapes are drawn from other seeds, pose families and patterns from other lists, and photos from
the part of the index that training never opens.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from training.examples import Example
from training.synthetic import room
from training.synthetic.clothes import sampled_outfit
from training.synthetic.frame import Frame, frame_of
from training.synthetic.people import posed_person
from training.synthetic.poses import sampled_pose
from training.synthetic.scene import Scene, Stock, sampled_scene, sampled_stock
from training.synthetic.stream import StreamConfig, block

SEED = 731
_PER_STOCK = 8
_KEY_S = 0.7


def crops(count: int, config: StreamConfig | None = None) -> list[Example]:
    """The first ``count`` crops of the evaluation set."""
    config = replace(config or StreamConfig(), held_out=True)
    out: list[Example] = []
    number = 0
    while len(out) < count:
        out += block(config, SEED, number)
        number += 1
    return out[:count]


def frames(count: int, size: tuple[int, int] | None = None, seed: int = SEED) -> Iterator[Frame]:
    """The first ``count`` whole frames (of ``size`` px if given), with 1..6 people each; those of another ``seed``
    are other people in other scenes."""
    return _frames_of(count, sampled_stock, functools.partial(sampled_scene, size=size), seed, 2)


def room_frames(count: int, seed: int = SEED) -> Iterator[Frame]:
    """As ``frames``, of one or two adults before tilted cameras (module room)."""
    return _frames_of(count, room.sampled_stock, room.sampled_scene, seed, 6)


def _frames_of(
    count: int, stock_of: Callable[..., Stock], scene_of: Callable[..., Scene | None], seed: int, lane: int
) -> Iterator[Frame]:
    """``lane``: what keeps their dice apart from those of other sets; the next number is taken, too."""
    for number in range(count):
        if number % _PER_STOCK == 0:
            stock = stock_of(np.random.default_rng([seed, lane, number // _PER_STOCK]), held_out=True)
        rng = np.random.default_rng([seed, lane + 1, number])
        scene = scene_of(rng, stock)
        assert scene is not None
        yield frame_of(scene, rng)


def motion(number: int, count: int = 30, rate: float = 10.0, size: tuple[int, int] | None = None) -> Iterator[Frame]:
    """``count`` frames at ``rate`` Hz of one scene whose first person wanders from key pose to key pose."""
    rng = np.random.default_rng([SEED, 4, number])
    scene = sampled_scene(rng, sampled_stock(rng, held_out=True), size)
    assert scene is not None
    shape, start = scene.people[0].shape, scene.people[0].joints[0] * [1, 1, 0]
    outfit = sampled_outfit(rng, shape, held_out=True)
    keys = [sampled_pose(rng, held_out=True)[0] for _ in range(int(count / rate / _KEY_S) + 3)]
    drift, yaw, turning = rng.normal(0, 0.35, 2), rng.uniform(0, 2 * np.pi), rng.normal(0, 0.4)
    for i in range(count):
        t = i / rate
        k, part = int(t / _KEY_S), (t / _KEY_S) % 1
        part = part * part * (3 - 2 * part)
        person = posed_person(shape, outfit, _between(keys[k], keys[k + 1], part), "motion", yaw + turning * t)
        moved = person.moved(start + np.array([*(drift * t), 0.0]))
        moving = Scene(
            (moved, *scene.people[1:]), scene.things, scene.thing_params, scene.light, scene.backdrop, scene.view
        )
        yield frame_of(moving, np.random.default_rng([SEED, 5, number]))


def _between(first: np.ndarray, second: np.ndarray, part: float) -> np.ndarray:
    """Angles in between; hands that are put somewhere let go at once."""
    from training.synthetic.angles import INDEX

    out = (1 - part) * first + part * second
    nearer = first if part < 0.5 else second
    for name, at in INDEX.items():
        if "_hand_" in name:
            out[at] = nearer[at]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--crops", type=int, default=512)
    parser.add_argument("--frames", type=int, default=64)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    found = crops(options.crops)
    np.savez_compressed(
        options.folder / "crops.npz",
        **{
            name: np.stack([getattr(e, name) for e in found])
            for name in ("image", "K", "joints3d", "joints2d", "visible")
        },
    )
    for i, frame in enumerate(frames(options.frames)):
        cv2.imwrite(str(options.folder / f"frame_{i:04d}.png"), frame.image[..., ::-1])
        camera = {"K": frame.camera.K, "D": frame.camera.D, "size": np.array(frame.camera.size)}
        labels = {name: getattr(frame, name) for name in ("boxes", "joints3d", "joints2d", "visible", "heights", "up")}
        np.savez_compressed(options.folder / f"frame_{i:04d}.npz", **camera, **labels)


if __name__ == "__main__":
    main()
