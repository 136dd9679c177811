"""Reads shards; one that vanished or is damaged is named in a warning and left out."""

from __future__ import annotations

import json
import tarfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import webdataset

from metrabs_ros.errors import InputError
from training.data.missing import DataError
from training.data.record import Record
from training.data.shard import INDEX, is_whole
from training.data.stored import restored


@dataclass(frozen=True)
class Shards:
    """The shards of one folder by its index; check: compare each with its SHA-256 before it is read."""

    folder: Path
    check: bool = True

    def counts(self) -> dict[str, int]:
        """Shard -> examples, in order. Raises InputError where there is no index, or nothing in it."""
        return {name: entry["count"] for name, entry in self._entries().items()}

    def read(self, name: str) -> list[Record] | None:
        """The records of one shard; None, after a warning, where it is gone or damaged."""
        path, entry = self.folder / name, self._entries()[name]
        if not path.is_file():
            _warn_left_out(path, "it is not there")
            return None
        if self.check and not is_whole(path, entry["sha256"]):
            _warn_left_out(path, "its SHA-256 is not that of the index")
            return None
        try:
            with path.open("rb") as file:
                members = webdataset.tariterators.tar_file_expander([{"url": str(path), "stream": file}])
                return [restored(sample) for sample in webdataset.tariterators.group_by_keys(members)]
        except (OSError, EOFError, ValueError, tarfile.TarError) as error:
            _warn_left_out(path, str(error))
            return None

    def once(self, rng: np.random.Generator | None = None) -> Iterator[Record]:
        """All records that can be read, shards and records within them shuffled by rng, or in order. Raises InputError
        where not one shard is left."""
        names = list(self.counts())
        found = False
        for i in rng.permutation(len(names)) if rng is not None else range(len(names)):
            records = self.read(names[i])
            if records is None:
                continue
            found = True
            order = rng.permutation(len(records)) if rng is not None else range(len(records))
            yield from (records[j] for j in order)
        if not found:
            raise InputError(
                f"None of the {len(names)} shards in {self.folder} can be read any more: restore the folder, or write "
                "them again with python -m training.data.shard."
            )

    def _entries(self) -> dict[str, dict]:
        path = self.folder / INDEX
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))["shards"]
        except OSError as error:
            raise DataError(f"{path} is missing: write shards there with python -m training.data.shard.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged: write it again with python -m training.data.shard.") from error
        if not entries:
            raise DataError(f"{path} names no shards: write some with python -m training.data.shard.")
        return dict(sorted(entries.items()))


def _warn_left_out(path: Path, reason: str) -> None:
    warnings.warn(f"The shard {path} is left out: {reason}.", stacklevel=3)
