"""Measure as the paper does: `python -m training.evaluate PROTOCOL --predictions FILE --truth FILE`.

PROTOCOL is h36m, h36m2, 3dhp, mupots, 3dpw, 3dpw_unknown, truncation, synthetic or agreement. Predictions are .npz
files or a poses.jsonl (training/protocols/poses.py says what is in them); --engine and --checkpoint predict on the data
set in --root instead. Several --predictions, --checkpoint (synthetic: --seed) are repetitions: mean ± std is printed.

    python -m training.evaluate synthetic --engine metrabs_small --engine blazepose_full --count 500 --seed 0

compares engines on held-out synthetic people.

    python -m training.evaluate agreement --engine metrabs_small --reference blazepose_heavy --pictures VIDEO --fov 55

says how they agree with another engine on a real video, and how steady their bones are.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from metrabs_ros.camera import Camera
from metrabs_ros.engine import Engine
from metrabs_ros.errors import InputError
from metrabs_ros.frames import open_frames
from metrabs_ros.strict import nearest
from training.protocols import h36m, joints, mpi_inf_3dhp, mupots, threedpw, truncation
from training.protocols.poses import Poses, from_records, load
from training.tables import Sheet, rendered

# Protocol -> its module, keyword arguments of evaluate, and the reader's module in training.data with its arguments.
PROTOCOLS: dict[str, tuple[Any, dict[str, Any], str | None, dict[str, Any]]] = {
    "h36m": (h36m, {"protocol": 1}, "h36m", {"protocol": 1}),
    "h36m2": (h36m, {"protocol": 2}, "h36m", {"protocol": 2}),
    "3dhp": (mpi_inf_3dhp, {}, "mpi_inf_3dhp", {}),
    "mupots": (mupots, {}, "mupots", {}),
    "3dpw": (threedpw, {"association": "known"}, "threedpw", {}),
    "3dpw_unknown": (threedpw, {"association": "unknown"}, "threedpw", {}),
    "truncation": (truncation, {}, None, {}),
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL")],
    predictions: Annotated[list[Path] | None, typer.Option(help="Predicted poses; several: of several seeds.")] = None,
    truth: Annotated[Path | None, typer.Option(help="The true poses, in the same kind of file.")] = None,
    engine: Annotated[list[str] | None, typer.Option(help="Engine by name or spec; several are compared.")] = None,
    checkpoint: Annotated[list[Path] | None, typer.Option(help="A run's folder or a checkpoint's.")] = None,
    root: Annotated[Path | None, typer.Option(help="The data set, in its official layout.")] = None,
    count: Annotated[int, typer.Option(help="Synthetic: how many people.")] = 500,
    room: Annotated[bool, typer.Option(help="Synthetic: only adults before tilted cameras, half hidden.")] = False,
    seed: Annotated[list[int] | None, typer.Option(help="Synthetic: 0 is the fixed set.")] = None,
    common_joints: Annotated[bool, typer.Option(help="Only joints that the predictions have.")] = False,
    frames: Annotated[int, typer.Option(help="Synthetic: also so many whole pictures, detector and all.")] = 0,
    detector: Annotated[list[str] | None, typer.Option(help="Synthetic: of whole pictures, not the spec's.")] = None,
    second_look: Annotated[bool, typer.Option(help="Synthetic: turn crops of leaning bodies, as the runtime.")] = True,
    reference: Annotated[str, typer.Option(help="Agreement: the engine to agree with.")] = "blazepose_full",
    pictures: Annotated[Path | None, typer.Option(help="Agreement: a video, or a folder of images.")] = None,
    fov: Annotated[float, typer.Option(help="Agreement: the camera's horizontal field of view, degrees.")] = 55.0,
    every: Annotated[int, typer.Option(help="Agreement: of so many pictures one is compared.")] = 3,
    output: Annotated[Path | None, typer.Option(help="Write the tables to this file as well.")] = None,
) -> None:
    try:
        if protocol == "synthetic":
            _only_synthetic(predictions, truth, root)
            opened = _engines(engine, checkpoint)
            runs = _synthetic(opened, count, seed or [0], second_look, room)
            frame_sheets = [_pictures(opened, frames, one, detector) for one in seed or [0]] if frames else []
        elif protocol == "agreement":
            runs = [[_agreement(_engines(engine, checkpoint), reference, pictures, fov, every)]]
            frame_sheets = []
        elif protocol in PROTOCOLS:
            if len(engine or ()) + bool(checkpoint) > 1:
                raise InputError(
                    "On a data set give one --engine, or several --checkpoint of one configuration's seeds."
                )
            runs = _data_set(protocol, predictions, truth, root, _engines(engine, checkpoint), common_joints)
            frame_sheets = []
        else:
            known = [*PROTOCOLS, "synthetic", "agreement"]
            raise InputError(f"There is no protocol {protocol!r}{nearest(protocol, known)}.")
        tables = [*zip(*runs, strict=True), *((sheet,) for sheet in frame_sheets)]
        text = "\n\n".join(rendered(sheets) for sheets in tables) + "\n"
        print(text)
        if output is not None:
            output.write_text(text, encoding="utf-8")
    except (InputError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _engines(names: list[str] | None, places: list[Path] | None) -> list[Engine]:
    if not names and not places:
        return []
    from training.protocols import looks

    opened = [looks.engine_of(name) for name in names or ()]
    return opened + [looks.engine_of_checkpoint(place) for place in places or ()]


def _synthetic(engines: list[Engine], count: int, seeds: list[int], second_look: bool, room: bool) -> list[list[Sheet]]:
    if not engines:
        raise InputError("The synthetic protocol compares engines: give one or several --engine or --checkpoint.")
    if count < 1:
        raise InputError(f"--count must be at least 1, got {count}.")
    from training.protocols import looks, synthetic

    runs = []
    for seed in seeds:
        people = synthetic.examples(count, seed, room)
        found = {
            name: (engine.spec.joints, looks.seen_on_crops(engine, people, second_look))
            for name, engine in zip(_distinct(engines), engines, strict=True)
        }
        runs.append(synthetic.evaluate(found, people))
    return runs


def _pictures(engines: list[Engine], frames: int, seed: int, detectors: list[str] | None) -> Sheet:
    from training.protocols import looks, synthetic_frames
    from training.synthetic import evaluation_set

    named = list(zip(_distinct(engines), engines, strict=True))
    if detectors is None:
        pipelines = {name: looks.pipeline_of(engine) for name, engine in named}
    else:
        pipelines = {f"{name}, {d}": looks.pipeline_of(engine, d) for name, engine in named for d in detectors}
    return synthetic_frames.evaluate(pipelines, evaluation_set.frames(frames, seed=evaluation_set.SEED + seed))


def _agreement(engines: list[Engine], reference: str, pictures: Path | None, fov: float, every: int) -> Sheet:
    if not engines or pictures is None:
        raise InputError(
            "Agreement needs --pictures, a video or a folder, and one or several --engine or --checkpoint."
        )
    from training.protocols import agreement, looks

    pipelines = dict(zip(_distinct(engines), map(looks.pipeline_of, engines), strict=True))
    with open_frames(pictures) as frames:
        camera = Camera.from_fov(fov, frames.size)
        judge = looks.pipeline_of(looks.engine_of(reference))
        return agreement.evaluate(pipelines, judge, frames, camera, every)


def _data_set(
    protocol: str, files: list[Path] | None, truth: Path | None, root: Path | None, engines: list[Engine], common: bool
) -> list[list[Sheet]]:
    """The sheets of each repetition."""
    module, arguments, _, _ = PROTOCOLS[protocol]
    if bool(files) == bool(engines):
        raise InputError("Give either --predictions or --engine/--checkpoint, and not both.")
    if (truth is None) == (root is None):
        raise InputError("Give the true poses: either --truth FILE or --root, the data set's folder.")
    if engines and root is None:
        raise InputError("An engine needs pictures: give --root, the data set's folder, instead of --truth.")
    labels = load(truth) if truth else from_records(_records(protocol, root))
    if files:
        found = [load(path) for path in files]
    else:
        from training.protocols import looks

        found = [looks.seen_in_records(engine, _records(protocol, root), labels) for engine in engines]
    names = {engine.spec.name for engine in engines} or {files[0].stem if files and len(files) == 1 else "predictions"}
    name = " / ".join(sorted(names))
    return [
        module.evaluate(one, labels, name, wanted=_wanted(module, one, labels, common), **arguments) for one in found
    ]


def _wanted(module: Any, found: Poses, labels: Poses, common: bool) -> tuple[str, ...]:
    if not common:
        return module.JOINTS
    return joints.common(module.JOINTS, found.joint_names, labels.joint_names)


def _records(protocol: str, root: Path | None) -> Iterable[Any]:
    _, _, reader, arguments = PROTOCOLS[protocol]
    if reader is None:
        raise InputError(f"The protocol {protocol} has no data set of its own: give --truth and --predictions.")
    return importlib.import_module(f"training.data.{reader}").test_records(root, **arguments)


def _distinct(engines: list[Engine]) -> list[str]:
    names = [engine.spec.name for engine in engines]
    return [f"{name} ({i + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]


def _only_synthetic(*unwanted: object) -> None:
    if any(unwanted):
        raise InputError(
            "The synthetic protocol makes its own people: --predictions, --truth and --root are not for it."
        )


if __name__ == "__main__":
    app()
