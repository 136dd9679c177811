"""Measure as the paper does: `python -m training.evaluate PROTOCOL --predictions FILE --truth FILE`.

PROTOCOL is h36m, h36m2, 3dhp, mupots, 3dpw, 3dpw_unknown, truncation, synthetic or agreement. Predictions are .npz
files or a poses.jsonl (training/protocols/poses.py says what is in them; beside --root, --recording says of which
sequence it is). --engine and --checkpoint predict on the data set in --root instead, in true boxes, or in whole
pictures where people are told by place. Several --predictions, --checkpoint (synthetic: --seed) are repetitions:
mean ± std is printed.

    python -m training.evaluate synthetic --engine metrabs_small --engine blazepose_full --count 500 --seed 0

compares engines on held-out synthetic people.

    python -m training.evaluate agreement --engine metrabs_small --reference blazepose_heavy --pictures VIDEO --fov 55

says how they agree with another engine on a real video, and how steady their bones are.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from metrabs_ros.camera import Camera
from metrabs_ros.engine import Engine
from metrabs_ros.errors import InputError
from metrabs_ros.frames import open_frames
from metrabs_ros.strict import nearest
from training.protocols import h36m, joints, mpi_inf_3dhp, mupots, recording, threedpw, truncation
from training.protocols.poses import Poses, from_records, is_recording, load, save
from training.tables import Sheet, rendered


@dataclass(frozen=True)
class DataSet:
    """A protocol's module with arguments of its evaluate, the reader in training.data with those of evaluation_records.

    first_frame: the number of a recording's first picture there. found: people are told by place, so that engines look
    for them in whole pictures; by_number: by numbers that no tracker knows. cut: engines see parts of people, whose
    true poses are in crops that nobody else has.
    """

    module: Any
    reader: str
    arguments: dict[str, Any] = field(default_factory=dict)
    selection: dict[str, Any] = field(default_factory=dict)
    first_frame: int = 0
    found: bool = False
    by_number: bool = False
    cut: bool = False

    def records(self, root: Path | None) -> Iterable[Any]:
        """Raises InputError."""
        return importlib.import_module(f"training.data.{self.reader}").evaluation_records(root, **self.selection)


PROTOCOLS = {
    "h36m": DataSet(h36m, "h36m", {"protocol": 1}, {"protocol": 1}),
    "h36m2": DataSet(h36m, "h36m", {"protocol": 2}, {"protocol": 2}),
    "3dhp": DataSet(mpi_inf_3dhp, "mpi_inf_3dhp", first_frame=1),
    "mupots": DataSet(mupots, "mupots", found=True),
    "3dpw": DataSet(threedpw, "threedpw", {"association": "known"}, by_number=True),
    "3dpw_unknown": DataSet(threedpw, "threedpw", {"association": "unknown"}, found=True),
    "truncation": DataSet(truncation, "h36m", selection={"protocol": 1}, cut=True),
}


@dataclass(frozen=True)
class DataSetOptions:
    """The command's options of these names."""

    predictions: list[Path] | None
    root: Path | None
    true_boxes: bool
    recording: str | None
    num_aug: int
    keep: Path | None


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL")],
    predictions: Annotated[list[Path] | None, typer.Option(help="Predicted poses; several: of several seeds.")] = None,
    truth: Annotated[Path | None, typer.Option(help="The true poses, in the same kind of file.")] = None,
    engine: Annotated[list[str] | None, typer.Option(help="Engine by name or spec; several are compared.")] = None,
    checkpoint: Annotated[list[Path] | None, typer.Option(help="A run's folder or a checkpoint's.")] = None,
    root: Annotated[Path | None, typer.Option(help="The data set, in its official layout.")] = None,
    stride: Annotated[int | None, typer.Option(help="Checkpoints: dense prediction at 32, 16, 8 or 4 px.")] = None,
    true_boxes: Annotated[bool, typer.Option(help="MuPoTS, 3dpw_unknown: give engines the true boxes.")] = False,
    recording_of: Annotated[
        str | None, typer.Option("--recording", help="The sequence of --root that a poses.jsonl is of, as TS1.")
    ] = None,
    num_aug: Annotated[int, typer.Option(help="Data set: views of each person, averaged (the paper on 3DPW: 5).")] = 1,
    keep: Annotated[Path | None, typer.Option(help="Write what the first engine predicted to this .npz.")] = None,
    count: Annotated[int, typer.Option(help="Synthetic: how many people.")] = 500,
    room: Annotated[bool, typer.Option(help="Synthetic: only adults before tilted cameras, half hidden.")] = False,
    seed: Annotated[list[int] | None, typer.Option(help="Synthetic: 0 is the fixed set.")] = None,
    common_joints: Annotated[bool, typer.Option(help="Only joints that the predictions have.")] = False,
    frames: Annotated[int, typer.Option(help="Synthetic: also so many whole pictures, detector and all.")] = 0,
    floor: Annotated[bool, typer.Option(help="Synthetic: whole pictures with the floor known as well.")] = False,
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
            opened = _engines(engine, checkpoint, stride)
            runs = _synthetic(opened, count, seed or [0], second_look, room)
            frame_sheets = [_pictures(opened, frames, one, detector, room, floor) for one in seed or [0] if frames]
        elif protocol == "agreement":
            runs = [[_agreement(_engines(engine, checkpoint, stride), reference, pictures, fov, every)]]
            frame_sheets = []
        elif protocol in PROTOCOLS:
            if len(engine or ()) + bool(checkpoint) > 1:
                raise InputError(
                    "On a data set give one --engine, or several --checkpoint of one configuration's seeds."
                )
            options = DataSetOptions(predictions, root, true_boxes, recording_of, num_aug, keep)
            runs = _data_set(protocol, options, truth, _engines(engine, checkpoint, stride), common_joints)
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


def _engines(names: list[str] | None, places: list[Path] | None, stride: int | None = None) -> list[Engine]:
    if not names and not places:
        return []
    from training.protocols import looks

    opened = [looks.engine_of(name) for name in names or ()]
    return opened + [looks.engine_of_checkpoint(place, stride) for place in places or ()]


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


def _pictures(
    engines: list[Engine], frames: int, seed: int, detectors: list[str] | None, room: bool, floor: bool
) -> Sheet:
    from training.protocols import looks, synthetic_frames
    from training.synthetic import evaluation_set

    named = list(zip(_distinct(engines), engines, strict=True))
    if detectors is None:
        pipelines = {name: looks.pipeline_of(engine) for name, engine in named}
    else:
        pipelines = {f"{name}, {d}": looks.pipeline_of(engine, d) for name, engine in named for d in detectors}
    drawn = evaluation_set.room_frames if room else evaluation_set.frames
    return synthetic_frames.evaluate(pipelines, drawn(frames, seed=evaluation_set.SEED + seed), floor)


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
    name: str, options: DataSetOptions, truth: Path | None, engines: list[Engine], common: bool
) -> list[list[Sheet]]:
    """The sheets of each repetition."""
    files, root, protocol = options.predictions, options.root, PROTOCOLS[name]
    if bool(files) == bool(engines):
        raise InputError("Give either --predictions or --engine/--checkpoint, and not both.")
    if (truth is None) == (root is None):
        raise InputError("Give the true poses: either --truth FILE or --root, the data set's folder.")
    if engines and root is None:
        raise InputError("An engine needs pictures: give --root, the data set's folder, instead of --truth.")
    if engines:
        runs = _seen(name, engines, options)
    elif protocol.cut and root is not None:
        raise InputError(f"{name} makes its own crops of a data set: give --engine or --checkpoint, or --truth FILE.")
    else:
        labels = load(truth) if truth else from_records(protocol.records(root))
        runs = [_beside(load(path), labels, path, name, options) for path in files or ()]
    if options.keep is not None and runs:
        save(options.keep, runs[0][0])
    names = {engine.spec.name for engine in engines} or {files[0].stem if files and len(files) == 1 else "predictions"}
    title, module = " / ".join(sorted(names)), protocol.module
    return [
        module.evaluate(found, true, title, wanted=_wanted(module, found, true, common), **protocol.arguments)
        for found, true in runs
    ]


def _seen(name: str, engines: list[Engine], options: DataSetOptions) -> list[tuple[Poses, Poses]]:
    """What each engine sees on a data set, and the true poses."""
    from training.protocols import looks, truncated_crops

    protocol = PROTOCOLS[name]
    if protocol.cut:
        if options.num_aug != 1:
            raise InputError(f"{name} looks once at crops of its own, got --num-aug {options.num_aug}: leave it out.")
        return [truncated_crops.seen(engine, protocol.records(options.root)) for engine in engines]
    labels = from_records(protocol.records(options.root))
    seen = looks.found_in_pictures if protocol.found and not options.true_boxes else looks.seen_in_records
    return [(seen(engine, protocol.records(options.root), labels, options.num_aug), labels) for engine in engines]


def _beside(found: Poses, labels: Poses, path: Path, name: str, options: DataSetOptions) -> tuple[Poses, Poses]:
    """Predictions of a file and the labels that they are judged by."""
    if options.root is None or not is_recording(path):
        return found, labels
    protocol = PROTOCOLS[name]
    if protocol.by_number:
        raise InputError(f"{path} has track ids, and {name} asks for the data set's own numbers: take {name}_unknown.")
    own = recording.of_recording(labels, options.recording, protocol.first_frame)
    return (found if protocol.found else recording.by_place(own, found)), own


def _wanted(module: Any, found: Poses, labels: Poses, common: bool) -> tuple[str, ...]:
    if not common:
        return module.JOINTS
    return joints.common(module.JOINTS, found.joint_names, labels.joint_names)


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
