"""Training from stored maps: what a network's fixed blocks make of synthetic crops, computed once and shown often.

`python -m training.store_features CONFIG` writes them. Most of a heavy network's forward pass, and all of the
rendering, are then paid once; what can be trained is what comes behind the fixed blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import CropSpec
from training.examples import LABELS, Batch, collate, joined, mirrored
from training.framing import RUNTIME
from training.negatives import negatives
from training.skeleton import SKELETON
from training.synthetic import evaluation_set, stream
from training.synthetic.stream import StreamConfig


@dataclass(frozen=True)
class StoredFeatures:
    """Maps and labels in ``folder``: parts of one block of the synthetic stream each, mirrored images included.

    parts: how many to train on; empty, photos: scenes without their people and pieces of photos added to each part;
    held_out: parts of the evaluation set's crops. earlier: maps of fewer fixed blocks, ``earlier_blocks``, from which
    these are made instead of rendering. in_memory: read once (as many parts as are there by then), not at every use.
    A batch's ``image`` holds float16 maps [N,C,h,w] instead of pixels.
    """

    folder: Path
    config: StreamConfig = field(default_factory=StreamConfig)
    parts: int = 800
    empty: int = 6
    photos: int = 4
    held_out: int = 6
    seed: int = 0
    earlier: Path | None = None
    earlier_blocks: int = 0
    in_memory: bool = False
    framing: ClassVar[CropSpec] = RUNTIME

    def batches(self, batch_size: int, seed: int, skip: int, rank: int) -> Iterator[Batch]:
        """Rows drawn at random from the parts that are there now. Raises InputError where none is."""
        for number in itertools.count(skip):
            shelf = self._shelf
            dice = np.random.default_rng([seed, rank, number])
            yield shelf.rows(np.sort(dice.integers(0, shelf.count, batch_size)))

    def validation(self, batch_size: int) -> Iterable[Batch]:
        shelf = _Shelf(self._paths(held_out=True), self.in_memory)
        return (shelf.rows(np.arange(i, min(i + batch_size, shelf.count))) for i in range(0, shelf.count, batch_size))

    def wanted(self) -> list[tuple[Path, int, bool]]:
        """(path, number, held out) of the parts that are not there yet: those for validation first."""
        every = [(self.path(n, True), n, True) for n in range(self.held_out)]
        every += [(self.path(n, False), n, False) for n in range(self.parts)]
        lacking = [part for part in every if not part[0].is_file()]
        if self.earlier is None:
            return lacking
        return [part for part in lacking if (self.earlier / part[0].name).is_file()]

    def path(self, number: int, held_out: bool) -> Path:
        return self.folder / f"{'held-out' if held_out else 'part'}-{number:05d}.npy"

    def labelled(self, number: int, held_out: bool) -> Batch:
        """The crops of a part as pictures."""
        seed = evaluation_set.SEED if held_out else self.seed
        config = replace(self.config, held_out=held_out)
        parts = [collate(stream.block(config, seed, number))]
        if self.empty:
            parts.append(collate(stream.empty_block(config, seed, number, self.empty)))
        if self.photos:
            parts.append(negatives(self.photos, config.side, (seed, number), held_out, config.things))
        seen = joined(parts)
        if held_out:
            return seen
        everybody = torch.ones(len(seen), dtype=torch.bool)
        return joined([seen, mirrored(seen, everybody, torch.from_numpy(SKELETON.mirror))])

    def _paths(self, held_out: bool) -> list[Path]:
        found = sorted(self.folder.glob("held-out-*.npy" if held_out else "part-*.npy"))
        if not found:
            raise InputError(
                f"There are no stored features in {self.folder}: run `python -m training.store_features CONFIG`."
            )
        return found

    @cached_property
    def _shelf(self) -> _Shelf:
        return _Shelf(self._paths(held_out=False)[: self.parts], self.in_memory)


class _Shelf:
    """Parts opened for random access; the maps stay on disk until they are asked for, or else are all in memory."""

    def __init__(self, paths: list[Path], in_memory: bool) -> None:
        self._maps = [np.load(path, mmap_mode=None if in_memory else "r", allow_pickle=False) for path in paths]
        self._labels = [read_labels(path) for path in paths]
        self._starts = np.cumsum([0, *(len(part) for part in self._maps)])
        self.count = int(self._starts[-1])

    def rows(self, rows: NDArray[np.integer]) -> Batch:
        """The named rows, grouped by the part they lie in: rows are in ascending order."""
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        own = [rows[parts == part] - self._starts[part] for part in np.unique(parts)]
        picked = list(zip(np.unique(parts), own, strict=True))
        maps = np.concatenate([self._maps[part][at] for part, at in picked])
        labels = {name: np.concatenate([self._labels[part][name][at] for part, at in picked]) for name in LABELS}
        sources = itertools.chain.from_iterable(self._labels[part]["sources"][at].tolist() for part, at in picked)
        tensors = {name: torch.from_numpy(values) for name, values in labels.items()}
        return Batch(image=torch.from_numpy(maps), **tensors, sources=tuple(sources))


def labels_of(path: Path) -> Path:
    return path.with_suffix(".npz")


def read_labels(path: Path) -> dict[str, NDArray[Any]]:
    """The labels of a part, and the sources of its rows."""
    with np.load(labels_of(path), allow_pickle=False) as stored:
        return {name: stored[name] for name in (*LABELS, "sources")}
