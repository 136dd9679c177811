"""metrabs-engine clean."""

from __future__ import annotations

from typing import Annotated

import typer

from metrabs_ros.built_engines import built_engines, engines_folder, remove
from metrabs_ros.cli.engine.shown import console, size_shown
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import find_spec, load_spec


def clean(
    name: Annotated[str | None, typer.Argument(help="An engine by name or spec file [default: all].")] = None,
) -> None:
    """Delete engines that were built on this machine; weights and quantised networks stay."""
    known = built_engines()
    if name is not None:
        stem = load_spec(find_spec(name)).weights.file.rsplit(".", 1)[0]
        known = [engine for engine in known if engine.record.name == stem]
        if not known:
            raise InputError(
                f"No engine of {name} is in {engines_folder()}: `metrabs-engine list` shows what is there."
            )
    freed = sum(map(remove, known))
    console.print(f"{len(known)} engines deleted, {size_shown(freed)} freed in {engines_folder()}.")
