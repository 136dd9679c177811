"""metrabs-engine build."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from metrabs_ros.build_engine import Reports, build_engine
from metrabs_ros.built_engines import PRECISIONS, BuildOptions
from metrabs_ros.cli.engine.shown import console, size_shown
from metrabs_ros.engine import BUILT_BACKENDS
from metrabs_ros.model_spec import find_spec, load_spec

_USUAL = BuildOptions()


def build(
    name: Annotated[str, typer.Argument(help="An engine by name or spec file.")],
    backend: Annotated[str, typer.Option(help=f"For which: {', '.join(BUILT_BACKENDS)}.")] = "tensorrt",
    precision: Annotated[str, typer.Option(help=f"One of {', '.join(PRECISIONS)}.")] = _USUAL.precision,
    min_people: Annotated[int, typer.Option(help="Smallest batch.")] = _USUAL.people[0],
    opt_people: Annotated[int, typer.Option(help="Batch to be fastest at.")] = _USUAL.people[1],
    max_people: Annotated[int, typer.Option(help="Largest batch; more people run in parts.")] = _USUAL.people[2],
    workspace: Annotated[int, typer.Option(metavar="MIB", help="GPU memory to build with; 0: all.")] = 0,
    optimization_level: Annotated[int, typer.Option(help="0 (built fast) to 5 (runs fast).")] = 3,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Runs with later TensorRTs of this major version, too.")
    ] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="tensorrt: runs on other GPUs from 8.0 (Ampere) on, too.")
    ] = False,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            help="tensorrt_rtx: of a GPU to build for, e.g. 8.6, or current; repeatable [default: all from 8.0]."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build even what is there already.")] = False,
) -> None:
    """Build a TensorRT engine for this machine, into the user's cache.

    tensorrt builds on the GPU that it will run on; tensorrt_rtx needs none.
    """
    options = BuildOptions(
        precision,
        (min_people, opt_people, max_people),
        workspace,
        optimization_level,
        version_compatible,
        hardware_compatible,
        tuple(compute_capability or ()),
    )
    spec = load_spec(find_spec(name))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{spec.name} in {precision}", total=1.0)

        def show(phase: str, part: float) -> bool:
            bar.update(task, completed=part, description=phase)
            return True

        engine, is_new = build_engine(spec, name, backend, options, Reports(show, console.print), force)
    record = engine.record
    done = f"built in {record.build_seconds:.1f} s" if is_new else "already there"
    console.print(
        f"{spec.name}: {done}, {precision}, {'-'.join(map(str, record.options.people))} people, {backend} "
        f"{record.library_version}, compute capability {record.capabilities_shown}, "
        f"{size_shown(record.engine_bytes)}: {engine.path}"
    )
