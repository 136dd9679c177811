"""Finished runs: one small JSON file each in the runs' folder, and those of the repository, known by their key."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metrabs_ros.errors import InputError

# Results that go with the repository, so that what was trained elsewhere need not be trained again.
STORED = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Result:
    """key of the run's config, its variant and seed; figures by name, m and shares, NaN where there are none."""

    key: str
    variant: str
    seed: int
    figures: dict[str, float]


def save(folder: Path, result: Result) -> Path:
    """Write ``folder``/KEY.json; one that exists is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{result.key}.json"
    _write(place, _packed(result))
    return place


def known(folder: Path, stored: Path | None = None) -> dict[str, Result]:
    """All finished runs by their key: the repository's, then the folder's. Raises InputError, naming a damaged file."""
    stored = stored or STORED
    found = _read_many(stored) if stored.is_file() else []
    if folder.is_dir():
        found += [_unpacked(_read(path), path) for path in sorted(folder.glob("*.json"))]
    return {result.key: result for result in found}


def store(results: Iterable[Result], stored: Path | None = None) -> None:
    """Write them into one file, to go with the repository."""
    ordered = sorted(results, key=lambda result: (result.variant, result.seed))
    _write(stored or STORED, [_packed(result) for result in ordered])


def _packed(result: Result) -> dict[str, Any]:
    figures = {name: round(value, 6) if math.isfinite(value) else None for name, value in result.figures.items()}
    return {"key": result.key, "variant": result.variant, "seed": result.seed, "figures": figures}


def _write(place: Path, content: Any) -> None:
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    part.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(place)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The results in {path} cannot be read ({error}): delete the file and start again.") from error


def _read_many(path: Path) -> list[Result]:
    content = _read(path)
    if not isinstance(content, list):
        raise InputError(f"{path} must hold a list of results, it holds a {type(content).__name__}: restore it.")
    return [_unpacked(entry, path) for entry in content]


def _unpacked(entry: Any, path: Path) -> Result:
    try:
        figures = {str(k): float("nan") if v is None else float(v) for k, v in entry["figures"].items()}
        return Result(str(entry["key"]), str(entry["variant"]), int(entry["seed"]), figures)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is no result: expected key, variant, seed and figures ({type(error).__name__}: {error}): delete "
            "it and start again."
        ) from error
