"""Pictures to batches: augmented crops with what the encoder's fixed blocks make of them, and those of evaluation.

Every picture is augmented three times, and runs with the same augmentation share the crops and their maps: rendering,
augmentation and most of the network's forward pass are paid once, and a run sees twice as much in the same time.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from metrabs_ros.errors import InputError
from training.augment import NONE, Augmentation, AugmentConfig
from training.claims.people import Pictures
from training.claims.runs import SKELETON, RunConfig
from training.examples import LABELS, Batch, collate
from training.model import backbones
from training.validation import to_input

TRUNCATED = AugmentConfig(
    geometry=False, colour=False, occlusion=0, occlusion_composited=0, objects=0, background=0, truncation=1
)
_WHOLE = AugmentConfig(**{**NONE.__dict__, "objects": 0})
_BATCH = 50


class Feed:
    """Batches of stored crops: number ``step`` is a function of the seed and the step alone.

    A batch's ``image`` holds maps [N,C,h,w] float16, which an encoder with the same fixed blocks takes for pictures.
    """

    def __init__(self, place: Path, batch_size: int, seed: int) -> None:
        try:
            self._maps = np.load(place / "maps.npy", mmap_mode="r")
            with np.load(place / "labels.npz") as stored:
                self._labels = {name: stored[name] for name in LABELS}
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"The crops in {place} cannot be read ({error}): delete that folder and start again."
            ) from error
        self._size, self._seed, self._count = batch_size, seed, len(self._maps)

    def batch(self, step: int) -> Batch:
        """Every crop is shown once before any is shown again."""
        shown = np.arange(step * self._size, (step + 1) * self._size)
        rows = np.concatenate([self._order(epoch)[shown[shown // self._count == epoch] % self._count]
                               for epoch in np.unique(shown // self._count)])  # fmt: skip
        labels = {name: torch.from_numpy(values[rows]) for name, values in self._labels.items()}
        return Batch(image=torch.from_numpy(self._maps[rows]), **labels, sources=("claims",) * len(rows))

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._seed, epoch]).permutation(self._count)


def stored(folder: Path, config: RunConfig, pictures: Pictures) -> Path:
    """The folder of a run's crops, made where it is not there yet."""
    place = folder / f"crops_{config.crops_key}"
    if not place.is_dir():
        _store(place, config, pictures)
    return place


@torch.no_grad()
def _store(place: Path, config: RunConfig, pictures: Pictures) -> None:
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    encoder = backbones.build(config.backbone, 32, centred=False).to(memory_format=torch.channels_last)
    encoder.fix_first_blocks(config.fixed_blocks)
    augmentation = Augmentation(config.augmentation, skeleton=SKELETON, side=config.side)
    count = config.showings * len(pictures)
    maps: NDArray[np.float16] | None = None
    labels: list[dict[str, NDArray]] = []
    for start in range(0, count, _BATCH):
        numbers = range(start, min(start + _BATCH, count))
        batch = collate([augmentation.example(pictures.record(n % len(pictures)), np.random.default_rng([1, n]))
                         for n in numbers])  # fmt: skip
        found = encoder.fixed_part(to_input(batch.image).contiguous(memory_format=torch.channels_last))
        if maps is None:
            maps = np.lib.format.open_memmap(part / "maps.npy", "w+", np.float16, (count, *found.shape[1:]))
        maps[numbers.start : numbers.stop] = found.numpy()
        labels.append({name: getattr(batch, name).numpy() for name in LABELS})
    assert maps is not None
    del maps  # flushes
    np.savez(part / "labels.npz", **{name: np.concatenate([some[name] for some in labels]) for name in LABELS})
    part.rename(place)


def fixed(pictures: Pictures, side: int, count: int, truncated: bool = False) -> list[Batch]:
    """The first ``count`` pictures as crops of the whole person, or truncated at random, the same every time."""
    augmentation = Augmentation(TRUNCATED if truncated else _WHOLE, skeleton=SKELETON, side=side)
    count = min(count, len(pictures))
    examples = (augmentation.example(pictures.record(i), np.random.default_rng([3, i])) for i in range(count))
    return [collate([next(examples) for _ in range(min(_BATCH, count - start))]) for start in range(0, count, _BATCH)]
