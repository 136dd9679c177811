"""A growing pool of rendered crops in a device's memory, and batches drawn from it at random."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metrabs_ros.errors import InputError
from training.examples import LABELS, Batch, mirrored
from training.render_pool import HELD_OUT, PART
from training.skeleton import SKELETON


class Pool:
    """The parts of a folder that training.render_pool writes; ``read`` takes in those that are new."""

    def __init__(self, folder: Path, device: torch.device, capacity: int, side: int = 256) -> None:
        self.folder, self.device, self.capacity = folder, device, capacity
        self.count = 0
        self.full = False
        self._images = torch.empty((capacity, side, side, 3), dtype=torch.uint8, device=device)
        self._labels: dict[str, torch.Tensor] = {}
        self._sources: list[str] = []
        self._known: set[str] = set()
        self._waiting: list[Path] = []
        self._mirror = torch.from_numpy(SKELETON.mirror).to(device)

    def wait_for(self, count: int, seconds: float) -> None:
        """Until so many crops are there. Raises InputError when that takes longer than ``seconds``."""
        end = time.monotonic() + seconds
        while self.count < count and not self.full:
            if time.monotonic() > end:
                raise InputError(
                    f"{self.folder} has {self.count} crops after {seconds:.0f} s, expected {count}: "
                    "is training.render_pool running?"
                )
            self.read()
            time.sleep(0.05)

    def read(self, most: int = 100_000) -> int:
        """Takes in up to so many new parts; returns how many."""
        if self.full:
            return 0
        if not self._waiting:
            self._waiting = [path for path in self.folder.glob(f"{PART}-*.npz") if path.name not in self._known]
        taken = 0
        while self._waiting and taken < most:
            path = self._waiting.pop()
            part = _read(path)
            size = len(part["image"])
            if self.count + size > self.capacity:
                self.full = True
                break
            self._images[self.count : self.count + size] = torch.from_numpy(part["image"]).to(self.device)
            for name in LABELS:
                values = torch.from_numpy(part[name])
                if name not in self._labels:
                    shape = (self.capacity, *values.shape[1:])
                    self._labels[name] = torch.zeros(shape, dtype=values.dtype, device=self.device)
                self._labels[name][self.count : self.count + size] = values.to(self.device)
            self._sources += part["sources"].tolist()
            self._known.add(path.name)
            self.count += size
            taken += 1
        return taken

    def drawn(self, size: int, dice: np.random.Generator) -> Batch:
        """So many crops at random, half of them mirrored, on the device."""
        rows = dice.integers(0, self.count, size)
        where = torch.from_numpy(rows).to(self.device)
        labels = {name: values[where] for name, values in self._labels.items()}
        batch = Batch(image=self._images[where], **labels, sources=tuple(self._sources[row] for row in rows))
        return mirrored(batch, torch.from_numpy(dice.random(size) < 0.5).to(self.device), self._mirror)


def held_out(folder: Path) -> Iterator[Batch]:
    """The parts for validation, in order."""
    for path in sorted(folder.glob(f"{HELD_OUT}-*.npz")):
        part = _read(path)
        tensors = {name: torch.from_numpy(part[name]) for name in ("image", *LABELS)}
        yield Batch(**tensors, sources=tuple(part["sources"].tolist()))


def _read(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in ("image", *LABELS, "sources")}
