"""Shards as a source of training: batches half of people known in 3D and half of people known in 2D."""

from __future__ import annotations

import itertools
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import CropSpec
from metrabs_ros.skeleton import Skeleton
from training.augment import Augmentation, AugmentConfig
from training.augmentation.occlusion import voc_objects
from training.data.pictures import PictureFile
from training.data.record import Record
from training.data.shards import Shards
from training.examples import Batch, Example, collate
from training.framing import PAPER
from training.skeleton import SKELETON

_VALIDATION_BATCHES = 16
_VALIDATION_SEED = 20_260_102


@dataclass(frozen=True)
class ShardedPeople:
    """folders3d, folders2d: folders of shards; a batch has equally many of either kind, from folders in turn, or only
    3D where there are no folders of the other kind. held_out: folders for validation, not augmented. skeleton: whose
    joints are learned, NaN where a data set lacks one; universal: 3D labels are height-normalised. pascal_voc: its
    folder, for objects to paste; backgrounds: a folder of photos without people. threads: that make crops."""

    folders3d: tuple[Path, ...]
    held_out: tuple[Path, ...]
    folders2d: tuple[Path, ...] = ()
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    skeleton: Skeleton = SKELETON
    universal: bool = False
    pascal_voc: Path | None = None
    backgrounds: Path | None = None
    side: int = 256
    threads: int = 4
    framing: ClassVar[CropSpec] = PAPER

    def batches(self, batch_size: int, seed: int, skip: int, rank: int) -> Iterator[Batch]:
        """Endless and the same for the same arguments; skipped batches cost reading, not crops."""
        kinds = [folders for folders in (self.folders3d, self.folders2d) if folders]
        if not kinds or batch_size % len(kinds):
            raise InputError(
                f"A batch of {batch_size} cannot be shared by {len(kinds)} kinds of labels: change either."
            )
        augmentation = self._augmentation()
        streams = [
            _turns([_endless(Shards(folder), (seed, rank, k, i)) for i, folder in enumerate(folders)])
            for k, folders in enumerate(kinds)
        ]
        share = batch_size // len(kinds)
        with ThreadPoolExecutor(self.threads) as pool:
            ahead: deque[list[Future[Example]]] = deque()
            for number in itertools.count():
                drawn = [next(stream) for stream in streams for _ in range(share)]
                if number < skip:
                    continue
                dice = [np.random.default_rng((seed, rank, number, i)) for i in range(batch_size)]
                ahead.append([pool.submit(augmentation.example, *pair) for pair in zip(drawn, dice, strict=True)])
                if len(ahead) > 1:
                    yield collate(_usable(ahead.popleft()))

    def validation(self, batch_size: int) -> Iterable[Batch]:
        """Up to 16 batches, spread by a fixed seed."""
        plain = Augmentation(skeleton=self.skeleton, side=self.side, universal=self.universal)
        rng = np.random.default_rng(_VALIDATION_SEED)
        records = itertools.chain.from_iterable(Shards(folder).once(rng) for folder in self.held_out)
        for _ in range(_VALIDATION_BATCHES):
            chunk = list(itertools.islice(records, batch_size))
            if not chunk:
                return
            yield collate([plain.example(record, rng) for record in chunk])

    def _augmentation(self) -> Augmentation:
        objects = voc_objects(self.pascal_voc) if self.pascal_voc is not None else ()
        photos = sorted(self.backgrounds.rglob("*.jpg")) if self.backgrounds is not None else ()
        pictures = [PictureFile(path) for path in photos]
        return Augmentation(self.augment, objects, pictures, self.skeleton, self.side, self.universal)

    def examples3d(self) -> int:
        """How many examples known in 3D the shards hold. Raises InputError where there are none."""
        return sum(sum(Shards(folder).counts().values()) for folder in self.folders3d)


def _usable(futures: list[Future[Example]]) -> list[Example]:
    """The examples that could be made; those that could not are named in a warning. Raises the last fault where none
    could be."""
    found: list[Example] = []
    fault: InputError | None = None
    for future in futures:
        try:
            found.append(future.result())
        except InputError as error:
            fault = error
            warnings.warn(f"An example is left out: {error}", stacklevel=3)
    if not found and fault is not None:
        raise fault
    return found


def _endless(shards: Shards, seed: tuple[int, ...]) -> Iterator[Record]:
    for epoch in itertools.count():
        yield from shards.once(np.random.default_rng((*seed, epoch)))


def _turns(streams: list[Iterator[Record]]) -> Iterator[Record]:
    for stream in itertools.cycle(streams):
        yield next(stream)
