"""Stamps: what says that a step is done, and for which inputs.

A stamp is written, atomically, only after its step succeeded. It holds a hash of the step's inputs and the sizes of the
files the step made. A step is due when its stamp is missing, holds another hash, or a file it made is gone or has
another size. While a step runs a mark stands beside the stamps, so that a killed step can be told from one never begun.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


def hash_inputs(facts: Iterable[str], files: Iterable[Path], root: Path) -> str:
    """Hash of some facts and of the names and contents of some (small) files below `root`."""
    digest = hashlib.sha256()
    for fact in facts:
        digest.update(f"fact {fact}\n".encode())
    for file in sorted(files):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"file {file.relative_to(root)} {content}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Stamps:
    """The stamps in one folder."""

    folder: Path

    def is_valid(self, step: str, inputs_hash: str) -> bool:
        """Whether `step` is done for these inputs and everything it made is still there."""
        try:
            stamp = json.loads(self._stamp(step).read_text(encoding="utf-8"))
            if self.was_interrupted(step) or stamp["inputs"] != inputs_hash:
                return False
            return all(Path(path).stat().st_size == size for path, size in stamp["made"].items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def was_interrupted(self, step: str) -> bool:
        """Whether `step` was begun and neither finished nor begun anew from a clean state."""
        return self._mark(step).exists()

    def begin(self, step: str) -> None:
        """Takes the stamp away and leaves the mark of a running step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._mark(step).touch()
        self.drop(step)

    def drop(self, step: str) -> None:
        self._stamp(step).unlink(missing_ok=True)

    def finish(self, step: str, inputs_hash: str, made: Iterable[Path]) -> None:
        """Writes the stamp, then takes the mark away. Killed in between, the step is done again."""
        stamp = {"inputs": inputs_hash, "made": {str(path): path.stat().st_size for path in sorted(made)}}
        part = self.folder / f"{step}.part"
        with part.open("w", encoding="utf-8") as file:
            json.dump(stamp, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._stamp(step))
        self._mark(step).unlink()

    def _stamp(self, step: str) -> Path:
        return self.folder / f"{step}.json"

    def _mark(self, step: str) -> Path:
        return self.folder / f"{step}.begun"
