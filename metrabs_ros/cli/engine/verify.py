"""metrabs-engine verify."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from metrabs_ros.build_engine import open_in_precision
from metrabs_ros.cli.engine.shown import console
from metrabs_ros.engine import REFERENCE, open_engine
from metrabs_ros.model_spec import find_spec, load_spec
from metrabs_ros.parity import BOUNDS_MM, check, differences
from metrabs_ros.reference_people import crops_for_measuring


def verify(
    name: Annotated[str, typer.Argument(help="An engine by name or spec file.")],
    backend: Annotated[
        str, typer.Option(help="tensorrt, tensorrt_rtx; onnxruntime runs the network in that precision on the CPU.")
    ] = "tensorrt",
    precision: Annotated[str, typer.Option(help=f"One of {', '.join(BOUNDS_MM)}.")] = "fp16",
) -> None:
    """Compare an engine with ONNX Runtime in float32 on the CPU, on crops of real people; fails above a bound."""
    spec = load_spec(find_spec(name))
    crops = crops_for_measuring(spec.input.size)
    engine = open_in_precision(spec, backend, precision)
    reference = open_engine(spec, REFERENCE)
    try:
        found = differences(reference.infer(crops), engine.infer(crops))
        device = engine.device
    finally:
        reference.close()
        engine.close()
    table = Table("output", "mean", "largest", "unit", box=None, pad_edge=False)
    for difference in found:
        table.add_row(difference.output, f"{difference.mean:.4f}", f"{difference.largest:.4f}", difference.unit)
    console.print(f"{spec.name} in {precision} on {backend}, {device}, beside float32 on the CPU, {len(crops)} crops:")
    console.print(table)
    check(found, precision, f"{spec.name} in {precision} on {backend}")
    console.print(f"Joints are within the bound of {precision}: {BOUNDS_MM[precision]:g} mm on average.")
