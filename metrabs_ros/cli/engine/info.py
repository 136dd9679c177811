"""metrabs-engine info."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from metrabs_ros import weights
from metrabs_ros.built_engines import BuiltEngine, built_engines, damaged_records
from metrabs_ros.cli.engine.shown import console, size_shown, weights_state
from metrabs_ros.model_spec import ModelSpec, find_spec, load_spec


def info(name: Annotated[str, typer.Argument(help="An engine by name or spec file.")]) -> None:
    """Show what is known about one engine."""
    spec = load_spec(find_spec(name))
    source = spec.weights.source
    stem = Path(spec.weights.file).stem
    rows = {
        "name": spec.name,
        "kind": spec.kind,
        "about": spec.description.strip(),
        "licence": spec.licence,
        "spec": spec.path,
        "weights": f"{spec.weights.file}, {weights_state(spec)}",
        "looked for in": ", ".join(map(str, weights.weight_folders(spec.path))),
        "sha256": spec.weights.sha256,
        "source": f"{source.member} in {source.package}" if source else "none named",
        "input": f"{spec.input.size}x{spec.input.size} RGB, {spec.input.layout}",
        "detector": spec.detector,
        "joints": f"{len(spec.joints)}: {', '.join(spec.joints)}" if spec.joints else None,
    }
    for engine in built_engines():
        if engine.record.name == stem:
            rows[f"built {engine.record.backend} {engine.record.options.precision}"] = _described(engine, spec)
    table = Table(show_header=False, box=None, pad_edge=False)
    for key, value in rows.items():
        if value is not None:
            table.add_row(key, str(value))
    console.print(table)
    for damage in damaged_records(f"{glob.escape(stem)}.*"):
        console.print(damage)


def _described(engine: BuiltEngine, spec: ModelSpec) -> str:
    record = engine.record
    on = f"{record.gpu}, driver {record.driver}" if record.gpu else "no GPU"
    return (
        f"{engine.path}, {size_shown(record.engine_bytes)}, {'-'.join(map(str, record.options.people))} people, "
        f"{record.library_version}, built on {on} for compute capability {record.capabilities_shown}, "
        f"{record.built_at}"
        f"{'' if record.source_sha256 == spec.weights.sha256 else ', of other weights than the spec names'}"
    )
