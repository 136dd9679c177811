"""The synthetic stream as a source of training: fresh crops, each shown again a few times where rendering is slow."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import CropSpec
from training.examples import Batch, collate, joined, mirrored
from training.framing import RUNTIME
from training.negatives import negatives
from training.skeleton import SKELETON
from training.synthetic import evaluation_set, stream
from training.synthetic.stream import StreamConfig

# Seeds of processes must not meet: no run has so many.
_SEEDS_A_RUN = 1000
_VALIDATION_BATCH = 32


@dataclass(frozen=True)
class SyntheticPeople:
    """Crops from ``workers`` rendering processes.

    showings: how often each crop is seen on average, mirrored half of the time after the first; window: from so many
    of the latest crops those are drawn. background: so many crops without people are added to each batch of
    batch_size. validation: the first ``held_out`` crops of the evaluation set, rendered once and kept.
    """

    config: StreamConfig = field(default_factory=StreamConfig)
    workers: int = 1
    showings: int = 1
    window: int = 2048
    background: int = 0
    held_out: int = 512
    framing: ClassVar[CropSpec] = RUNTIME

    def batches(self, batch_size: int, seed: int, skip: int, rank: int) -> Iterator[Batch]:
        own_seed = seed * _SEEDS_A_RUN + rank
        if batch_size % self.showings:
            raise InputError(f"batch_size must be a multiple of showings, got {batch_size} and {self.showings}.")
        fresh_size = batch_size // self.showings
        # The window is rendered again on resuming, so that it holds what it held.
        remembered = 0 if self.showings == 1 else min(skip, -(-self.window // fresh_size))
        fresh = stream.loader(self.config, fresh_size, self.workers, own_seed, skip - remembered)
        kept = deque(itertools.islice(fresh, remembered), maxlen=max(1, self.window // fresh_size))
        for number in itertools.count(skip):
            new = next(fresh)
            kept.append(new)
            parts = [new]
            if self.showings > 1:
                parts.append(self._old(kept, batch_size - fresh_size, own_seed, number))
            if self.background:
                parts.append(self._nobody(self.background, (own_seed, number), held_out=False))
            yield joined(parts)

    def validation(self, batch_size: int) -> Iterable[Batch]:
        kept = _KEPT.get(self)
        if kept is None:
            crops = evaluation_set.crops(self.held_out, self.config)
            kept = [collate(crops[i : i + _VALIDATION_BATCH]) for i in range(0, self.held_out, _VALIDATION_BATCH)]
            if self.background:
                kept.append(self._nobody(self.held_out // 4, (evaluation_set.SEED,), held_out=True))
            _KEPT[self] = kept
        return kept

    def _nobody(self, count: int, seed: tuple[int, ...], held_out: bool) -> Batch:
        return negatives(count, self.config.side, seed, held_out, self.config.things)

    def _old(self, kept: deque[Batch], count: int, seed: int, number: int) -> Batch:
        dice = torch.Generator().manual_seed(seed * 2**32 + number)
        size = len(kept[0])
        picks = torch.randint(len(kept) * size, (count,), generator=dice).tolist()
        old = joined([kept[pick // size][slice(pick % size, pick % size + 1)] for pick in picks])
        flipped = torch.rand(count, generator=dice) < 0.5
        return mirrored(old, flipped, torch.from_numpy(SKELETON.mirror))


_KEPT: dict[SyntheticPeople, list[Batch]] = {}
