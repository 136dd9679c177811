"""What is said when a data set, or a file of it, is not there or cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metrabs_ros.errors import InputError


class DataError(InputError):
    """A file of a data set is missing or damaged; the message names it and where the data set is obtained."""


@dataclass(frozen=True)
class Origin:
    """A data set's name, where its owners give it out, and what its root must hold."""

    name: str
    page: str
    layout: str

    def need(self, path: Path) -> Path:
        """The path, if something is there. Raises DataError."""
        if not path.exists():
            raise DataError(
                f"{self.name}: {path} is missing. The root must hold {self.layout}; the data set is obtained from "
                f"{self.page}."
            )
        return path

    def damaged(self, path: Path, error: object) -> DataError:
        """To be raised where the file is there but not what it should be."""
        reason = " ".join(str(error).split()) or type(error).__name__
        return DataError(
            f"{self.name}: {path} cannot be read as the official file ({reason}): get it again from {self.page}."
        )
