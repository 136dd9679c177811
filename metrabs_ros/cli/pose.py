"""metrabs-pose: people's 3D skeletons from a video, an image or a folder of images, without ROS."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from metrabs_ros import annotate, cli
from metrabs_ros.camera import Camera
from metrabs_ros.cli.pose_files import Floats, PosesWriter, read_boxes
from metrabs_ros.conventions import CONVENTIONS, ENGINE
from metrabs_ros.engine import AUTO
from metrabs_ros.errors import InputError
from metrabs_ros.frames import Frame, FrameSource, Image, ImageFrames, WebcamFrames, open_frames
from metrabs_ros.pipeline import DEFAULT_ENGINE, PosePipeline
from metrabs_ros.pose import Detections, TrackedPose
from metrabs_ros.rerun_log import RerunLog
from metrabs_ros.video_writer import PICTURE_SUFFIXES, VideoWriter, check_writable, write_picture

app = cli.new_app(__doc__)


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def pose(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A video, an image or a folder of images.")],
    camera: Annotated[Path | None, typer.Option(help="Calibration file of ROS camera_calibration.")] = None,
    fov: Annotated[
        float | None, typer.Option(help="Instead of a calibration: field of view of the longer image side, degrees.")
    ] = None,
    engine: Annotated[str, typer.Option(help="Engine by name or spec file; `metrabs-engine list`.")] = DEFAULT_ENGINE,
    backend: Annotated[str, typer.Option(help="Runtime of the engine: auto, openvino, onnxruntime, ...")] = AUTO,
    num_aug: Annotated[int, typer.Option(help="Test-time augmentation: looks at each person that are averaged.")] = 1,
    person_height: Annotated[
        float, typer.Option(help="Height of everybody in view in metres, which decides how far they are; 0: unknown.")
    ] = 0.0,
    convention: Annotated[
        str, typer.Option(help=f"Joints of the poses: {', '.join(CONVENTIONS)}.", metavar="NAME")
    ] = ENGINE,
    up: Annotated[str, typer.Option(metavar="X,Y,Z", help="World up in the camera's optical frame.")] = "0,-1,0",
    camera_height: Annotated[
        float, typer.Option(help="Metres of the camera above the floor that people stand on, along up; 0: unknown.")
    ] = 0.0,
    boxes: Annotated[Path | None, typer.Option(help="boxes.jsonl that replaces the person detector.")] = None,
    output: Annotated[Path | None, typer.Option(help="poses.jsonl to write.")] = None,
    video: Annotated[Path | None, typer.Option(help="Annotated video to write; for one image a .png or .jpg.")] = None,
    rerun: Annotated[Path | None, typer.Option(help="Recording for the Rerun viewer to write, OUT.rrd.")] = None,
) -> None:
    """Find people and their 3D joints in metres, in the optical frame of the camera."""
    up_vector = _parsed_up(up)
    if (camera is None) == (fov is None):
        raise InputError(
            f"Expected either --camera FILE (a ROS calibration) or --fov DEGREES, got {'both' if camera else 'neither'}"
            ": give one of the two, e.g. --fov 55 where the camera is not calibrated."
        )
    if output is None and video is None and rerun is None:
        output = Path(Path(source).resolve().stem + ".poses.jsonl")
    targets = list(filter(None, (output, video, rerun)))
    for path in targets:
        _check_target(path, Path(source))
    with contextlib.ExitStack() as stack:
        frames = stack.enter_context(open_frames(source))
        if isinstance(frames, WebcamFrames):
            raise InputError(
                f"Expected a video, an image or a folder, got the webcam {source}: use video_source and pose_node."
            )
        optics = Camera.from_yaml(camera) if camera else Camera.from_fov(fov or 0.0, frames.size)
        _check_size(optics, frames, camera, source)
        outside_boxes = read_boxes(boxes, frames.count) if boxes else None
        is_picture = isinstance(frames, ImageFrames) and frames.count == 1
        video_sink = stack.enter_context(_open_video(video, frames, is_picture)) if video else None
        recording = stack.enter_context(contextlib.closing(RerunLog(rerun))) if rerun else None
        pipeline = stack.enter_context(
            contextlib.closing(
                PosePipeline.from_engine(
                    engine, backend, num_aug, up_vector, convention=convention, person_height=person_height
                )
            )
        )
        pipeline.camera_height = camera_height
        cli.say_why(pipeline.engine, "metrabs-pose")
        writer = stack.enter_context(PosesWriter(output, pipeline.skeleton)) if output else None
        look = _Look(pipeline, optics, outside_boxes, is_tracking=not is_picture)
        counted = _Count()
        with _kept_in_part(writer.part if writer else rerun), _progress(frames) as advance:
            for frame in frames:
                began = time.perf_counter()
                poses = look(frame)
                took = {"poses_ms": 1e3 * (time.perf_counter() - began)}
                if writer:
                    writer.write(frame, poses)
                if video_sink:
                    video_sink(annotate.drawn(frame.image_rgb, poses, pipeline.skeleton))
                if recording:
                    recording.log(frame.image_rgb, optics, pipeline.skeleton, poses, frame.stamp_s, figures=took)
                counted.add(poses)
                advance(counted)
    print(counted.summary(targets))


@dataclass(frozen=True)
class _Look:
    """A frame to its people: tracked from frame to frame, or of one image, numbered from 1."""

    pipeline: PosePipeline
    camera: Camera
    boxes: dict[int, Floats] | None
    is_tracking: bool

    def __call__(self, frame: Frame) -> list[TrackedPose]:
        boxes = None if self.boxes is None else self.boxes.get(frame.index, np.zeros((0, 4)))
        if self.is_tracking:
            detections = None if boxes is None else Detections.from_boxes(boxes)
            return self.pipeline.process(frame.image_rgb, self.camera, frame.stamp_s, detections)
        poses = self.pipeline.estimate(frame.image_rgb, self.camera, boxes)
        return [TrackedPose(**vars(pose), track_id=i) for i, pose in enumerate(poses, start=1)]


@dataclass
class _Count:
    start: float = field(default_factory=time.monotonic)
    frames: int = 0
    frames_with_people: int = 0
    ids: set[int] = field(default_factory=set)
    people_now: int = 0
    most_people: int = 0

    def add(self, poses: Sequence[TrackedPose]) -> None:
        self.frames += 1
        self.frames_with_people += bool(poses)
        self.ids |= {pose.track_id for pose in poses}
        self.people_now = len(poses)
        self.most_people = max(self.most_people, len(poses))

    @property
    def rate(self) -> float:
        return self.frames / max(time.monotonic() - self.start, 1e-9)

    def summary(self, written: Sequence[Path]) -> str:
        frames = f"{self.frames} frame{'s' if self.frames != 1 else ''}"
        ids = f"{len(self.ids)} track id{'s' if len(self.ids) != 1 else ''}"
        return (
            f"{frames}, {self.frames_with_people} with people (at most {self.most_people} at a time, {ids}), "
            f"{self.rate:.1f} frames/s -> {', '.join(map(str, written))}"
        )


def _parsed_up(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3 or not np.isfinite(values).all() or not np.linalg.norm(values) > 0:
        raise InputError(f"--up must be three numbers that are not all zero, got {text!r}: a level camera has 0,-1,0.")
    return values


def _check_target(path: Path, source: Path) -> None:
    check_writable(path)
    if path.exists() and source.exists() and path.samefile(source):
        raise InputError(f"{path} is the input itself: give another name to write to.")


def _check_size(camera: Camera, frames: FrameSource, file: Path | None, source: str) -> None:
    if camera.size != frames.size:
        (expected_w, expected_h), (width, height) = camera.size, frames.size
        raise InputError(
            f"{file} calibrates images of {expected_w}x{expected_h}, but {source} has {width}x{height}: give the "
            "calibration of this resolution."
        )


@contextlib.contextmanager
def _open_video(path: Path, frames: FrameSource, is_picture: bool) -> Iterator[Callable[[Image], None]]:
    if is_picture and path.suffix.lower() in PICTURE_SUFFIXES:
        yield lambda image: write_picture(path, image)
        return
    with VideoWriter(path, frames.size, frames.rate) as writer:
        yield writer.write


@contextlib.contextmanager
def _kept_in_part(path: Path | None) -> Iterator[None]:
    """Where the work ends early, says where the finished frames are."""
    try:
        yield
    except (KeyboardInterrupt, InputError) as error:
        kept = f"the frames before are in {path}" if path else "nothing is kept"
        if isinstance(error, KeyboardInterrupt):
            Console(stderr=True, highlight=False, soft_wrap=True).print(f"metrabs-pose: interrupted; {kept}.")
            raise typer.Exit(130) from None
        raise InputError(f"{error} ({kept[0].upper()}{kept[1:]}.)") from error


@contextlib.contextmanager
def _progress(frames: FrameSource) -> Iterator[Callable[[_Count], None]]:
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} frames/s, {task.fields[people]} people"),
    )
    console = Console(stderr=True)
    # Into a log file a bar that is gone at the end would still leave an empty line.
    silent = not console.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=silent) as progress:
        task = progress.add_task("", total=frames.count, rate=0.0, people=0)
        yield lambda count: progress.update(task, completed=count.frames, rate=count.rate, people=count.people_now)


def main() -> None:
    cli.run(app, "metrabs-pose")


if __name__ == "__main__":
    main()
