"""metrabs-engine list."""

from __future__ import annotations

from rich.table import Table

from metrabs_ros.built_engines import damaged_records
from metrabs_ros.cli.engine.shown import built_state, console, weights_state
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import known_specs, load_spec


def list_engines() -> None:
    """List the engines found, whether their weights are there, and what was built of them on this machine."""
    table = Table("name", "kind", "licence", "weights", "built", box=None, pad_edge=False)
    for name, path in sorted(known_specs().items()):
        try:
            spec = load_spec(path)
            table.add_row(name, spec.kind, spec.licence, weights_state(spec), built_state(spec))
        except InputError as error:
            table.add_row(name, "unusable", "", str(error), "")
    console.print(table)
    for damage in damaged_records():
        console.print(damage)
