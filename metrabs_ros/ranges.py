"""Settings that are numbers: each declared once with its range and what it means, and checked in sentences."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from metrabs_ros.errors import InputError


@dataclass(frozen=True)
class Range:
    """Both ends are allowed; ``meaning`` is a sentence with the unit."""

    low: float
    high: float
    meaning: str


def ranged(default: float, low: float, high: float, meaning: str) -> Any:
    """A field of a frozen dataclass of settings."""
    return dataclasses.field(default=default, metadata={"range": Range(low, high, meaning)})


def ranges_of(record: Any) -> dict[str, Range]:
    """Field name -> its range, of a record or its class."""
    return {f.name: f.metadata["range"] for f in dataclasses.fields(record) if "range" in f.metadata}


def check_ranges(record: Any) -> None:
    """Raises InputError for the first field that is no number or lies outside its range."""
    hints = {f.name: f.type for f in dataclasses.fields(record)}
    for name, allowed in ranges_of(record).items():
        value = getattr(record, name)
        is_whole = "int" in str(hints[name])
        good = isinstance(value, int if is_whole else (int, float)) and not isinstance(value, bool)
        if not good or not math.isfinite(value) or not allowed.low <= value <= allowed.high:
            raise InputError(
                f"{name} must be a{' whole' if is_whole else ''} number from {allowed.low:g} to {allowed.high:g}, "
                f"got {value!r}. It is: {allowed.meaning}"
            )
