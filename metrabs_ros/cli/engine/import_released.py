"""metrabs-engine import: a model that the authors of MeTRAbs released for PyTorch becomes an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metrabs_ros.released import conversion


def import_released(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The unpacked directory of the released model.")],
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Where NAME.onnx and NAME.yaml are written.")],
    name: Annotated[str | None, typer.Option(help="The engine's name [default: the directory's].")] = None,
    skeleton: Annotated[
        str, typer.Option(help="One of the model's skeletons, e.g. smpl_24; without it all joints.")
    ] = "",
) -> None:
    """Make an engine of a released MeTRAbs PyTorch model directory. Needs torch and onnx; the robot does not."""
    spec = conversion.convert(directory, output, name, skeleton)
    print(f"{spec.stem}: {spec} and {spec.with_suffix('.onnx').name} written; run it with --engine {spec}")
    print(
        "Note: the released weights are for non-commercial use only, and so is this engine. Its authors' terms: "
        "https://github.com/isarandi/metrabs."
    )
