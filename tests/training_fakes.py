"""A tiny stand-in for the synthetic stream, and a run small enough for tests: `python -m training.train THIS_FILE`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from metrabs_ros.model_spec import CropSpec
from training.config import TrainConfig
from training.examples import Batch, Example, collate
from training.framing import RUNTIME
from training.heatmap import Grid
from training.losses import LossConfig
from training.model.metrabs import MetrabsConfig
from training.schedule import Schedule
from training.skeleton import SKELETON

SIDE = 64
JOINTS = len(SKELETON.joint_names)


def fake_person(rng: np.random.Generator, source: str = "fake", labels3d: bool = True) -> Example:
    """Coloured discs where the joints are: something that can be learned."""
    pose = rng.normal(0, 0.6, (JOINTS, 3))
    K = np.array([[100.0, 0, 32], [0, 100, 32], [0, 0, 1]])
    pose = pose + [0, 0, rng.uniform(4, 6)]
    pixels = (pose @ K.T)[:, :2] / pose[:, 2:]
    image = np.full((SIDE, SIDE, 3), 128, np.uint8)
    inside = ((pixels >= 0) & (pixels <= SIDE - 1)).all(1)
    for number in np.flatnonzero(inside):
        u, v = np.round(pixels[number]).astype(int)
        image[max(0, v - 2) : v + 3, max(0, u - 2) : u + 3] = (number * 9, 255 - number * 9, (number * 50) % 256)
    joints3d = pose if labels3d else np.full_like(pose, np.nan)
    return Example(
        image, K.astype(np.float32), joints3d.astype(np.float32), pixels.astype(np.float32), inside, labels3d, source
    )


def fake_background(rng: np.random.Generator) -> Example:
    nothing = np.full((JOINTS, 3), np.nan, np.float32)
    image = rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    nobody = np.zeros(JOINTS, bool)
    return Example(image, np.eye(3, dtype=np.float32), nothing, nothing[:, :2], nobody, False, "background:fake")


@dataclass(frozen=True)
class FakePeopleStream:
    """Batch k of a process depends on seed, rank and k only. as_ranks: what so many processes see, in one batch."""

    as_ranks: int = 1
    framing: ClassVar[CropSpec] = RUNTIME

    def batches(self, batch_size: int, seed: int, skip: int, rank: int) -> Iterator[Batch]:
        number = skip
        while True:
            if str(number) == os.environ.get("FAKE_STREAM_KILLS_AT"):
                os.kill(os.getpid(), signal.SIGKILL)
            if str(number) == os.environ.get("FAKE_STREAM_TERMINATES_AT"):
                os.kill(os.getpid(), signal.SIGTERM)
            dice = [np.random.default_rng([seed, rank + one, number]) for one in range(self.as_ranks)]
            yield collate([fake_person(rng) for _ in range(batch_size) for rng in dice])
            number += 1

    def validation(self, batch_size: int) -> Iterable[Batch]:
        rng = np.random.default_rng(12345)
        yield collate([*[fake_person(rng) for _ in range(batch_size)], fake_background(rng)])


CONFIG = TrainConfig(
    model=MetrabsConfig(backbone="blazepose_random", grid=Grid(side=SIDE), confidence=True, person=True),
    data=FakePeopleStream(),
    steps=20,
    batch_size=2,
    loss=LossConfig(absolute_from=12, mix="uniform", weak_until=14),
    schedule=Schedule(base=1e-3),
    frozen_encoder_steps=5,
    log_every=1,
    checkpoint_every=10,
    validate_every=10,
)
