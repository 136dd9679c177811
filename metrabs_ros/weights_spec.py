"""Which file holds a network's weights, and where it comes from where it is not ours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from metrabs_ros.errors import InputError


@dataclass(frozen=True)
class PackageFile:
    """Where a weight file that is not ours comes from: a member of a pinned wheel on PyPI or of an npm package."""

    member: str
    wheel: str | None = None
    npm: str | None = None

    def __post_init__(self) -> None:
        if (self.wheel is None) == (self.npm is None):
            raise InputError("weights: source must name either a wheel or an npm package.")

    @property
    def package(self) -> str:
        return f"the wheel {self.wheel}" if self.wheel else f"the npm package {self.npm}"


@dataclass(frozen=True)
class WeightsSpec:
    """The weight file beside the spec (or in the user's cache), its sha256 and where it can be fetched."""

    file: str
    sha256: str
    source: PackageFile | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise InputError(f"weights: sha256 must be 64 hexadecimal digits, got {self.sha256!r}.")
        if Path(self.file).name != self.file or self.file in ("", ".."):
            raise InputError(f"weights: file must be a plain file name without folders, got {self.file!r}.")
