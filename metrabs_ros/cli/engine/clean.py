"""metrabs-engine clean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metrabs_ros.built_engines import built_engines, engines_folder, leftovers, remove
from metrabs_ros.cli.engine.shown import console, size_shown
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import find_spec, load_spec


def clean(
    name: Annotated[str | None, typer.Argument(help="An engine by name or spec file [default: all].")] = None,
) -> None:
    """Delete engines that were built on this machine, and what damage left; weights and quantised networks stay."""
    stem = None if name is None else Path(load_spec(find_spec(name)).weights.file).stem
    known = [engine for engine in built_engines() if stem in (None, engine.record.name)]
    damaged = leftovers(stem)
    if name is not None and not known and not damaged:
        raise InputError(f"No engine of {name} is in {engines_folder()}: `metrabs-engine list` shows what is there.")
    freed = remove([*(file for engine in known for file in engine.files), *damaged])
    also = f" and {len(damaged)} files of damaged or unfinished ones" if damaged else ""
    console.print(f"{len(known)} engines{also} deleted, {size_shown(freed)} freed in {engines_folder()}.")
