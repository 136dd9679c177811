"""metrabs-engine quantize."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from metrabs_ros.cli.engine.shown import console
from metrabs_ros.model_spec import find_spec, load_spec
from metrabs_ros.parity import BOUNDS_MM
from metrabs_ros.quantize import quantize as quantize_spec


def quantize(
    name: Annotated[str, typer.Argument(help="An engine by name or spec file.")],
    bound: Annotated[
        float, typer.Option(metavar="MM", help="Mean distance that the joints may move; layers that cost more stay.")
    ] = BOUNDS_MM["int8"],
) -> None:
    """Make the INT8 network that `build --precision int8` takes, by measuring what each layer costs; takes minutes."""
    spec = load_spec(find_spec(name))
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(spec.name, total=1.0)
        done = quantize_spec(spec, bound, lambda what, part: bar.update(task, completed=part, description=what))
    table = Table("output", "mean", "largest", "unit", box=None, pad_edge=False)
    for difference in done.found:
        table.add_row(difference.output, f"{difference.mean:.4f}", f"{difference.largest:.4f}", difference.unit)
    count = len(done.layers)
    console.print(f"{spec.name}: {count} of {count + len(done.left)} convolutions in INT8: {done.path}")
    costly = sorted(done.left, key=lambda layer: -done.alone_mm[layer])
    if costly:
        shown = ", ".join(f"{layer} ({done.alone_mm[layer]:.1f} mm alone)" for layer in costly[:5])
        console.print(f"Left in float32, the most sensitive first: {shown}{', ...' if len(costly) > 5 else ''}.")
    console.print("Beside float32, on the CPU, on crops that nothing was chosen on:")
    console.print(table)
