"""The demo: a video or webcam goes through pose_node over ROS 2; what it publishes is drawn, counted and timed.

Three processes in a ROS domain of their own: video_source, pose_node, and demo.listener, which knows nothing but the
topics. It writes demo.mp4, demo.png and demo.json.
"""

from __future__ import annotations

import contextlib
import json
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from demo.clip import FOV_DEG, clip_path
from demo.processes import ChildError, Children, ros_environment
from metrabs_ros import cli, weights
from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from metrabs_ros.frames import WebcamFrames, open_frames
from metrabs_ros.model_spec import find_spec, load_spec
from metrabs_ros.pipeline import DEFAULT_ENGINE

# Three processes that pass colour images of several megabytes around leave two processor cores little else at 30 Hz.
MAX_RATE = 15.0
_POLL_S = 0.1
_RENDERING_S = 600.0

app = cli.new_app(__doc__)
console = Console(highlight=False, soft_wrap=True)


@app.command(no_args_is_help=False)
def demo(
    source: Annotated[
        str | None, typer.Option(help="A video, image folder or webcam (0) instead of the demo's clip.")
    ] = None,
    fov: Annotated[float, typer.Option(help="Field of view of the longer image side, degrees.")] = FOV_DEG,
    engine: Annotated[str, typer.Option(help="Engine by name or spec file.")] = DEFAULT_ENGINE,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out"),
    max_rate: Annotated[
        float, typer.Option(help="Frames are left out to stay below this rate, at unchanged speed; 0 plays all.")
    ] = MAX_RATE,
    seconds: Annotated[float | None, typer.Option(help="End after so many seconds of video.")] = None,
) -> None:
    """Run the node on a video or webcam and film what it publishes."""
    source = str(clip_path()) if source is None else source
    is_live = _checked(source, fov, engine)
    if not 0 <= max_rate <= 1000:
        raise InputError(
            f"--max-rate must lie between 0 and 1000 Hz, got {max_rate:g}: give e.g. 15, or 0 for all frames."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot make the folder {out}: {error.strerror or error}; choose another (--out).") from error
    with tempfile.TemporaryDirectory(prefix="metrabs_ros-demo-") as logs, _terminated_as_interrupted():
        try:
            parameters = _source_parameters(source, fov, max_rate)
            playing = f"{'Watching' if is_live else 'Playing'} {source}" + (", Ctrl-C ends it" if is_live else "")
            figures = _filmed(parameters, engine, out.resolve(), seconds, playing, Path(logs))
        except ChildError as error:
            console.print(f"demo: {error}", style="red", markup=False)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            console.print("demo: interrupted before there was anything to show.")
            raise typer.Exit(130) from None
    console.print(_summary(figures, out), markup=False)


def _filmed(
    source_parameters: list[str], engine: str, out: Path, seconds: float | None, playing: str, logs: Path
) -> dict[str, Any]:
    with Children(ros_environment(logs), logs) as children:
        children.start("listener", ["demo.listener", "--engine", engine, "--out", str(out)])
        children.start("pose_node", ["metrabs_ros.node", "--ros-args", "-p", f"engine:={engine}"])
        children.start("video_source", ["metrabs_ros.video_source", "--ros-args", *source_parameters])
        with console.status(f"{playing} ..."):
            is_interrupted = _play(children, seconds)
        with console.status("Rendering what was published ..."):
            children.ask_to_end("listener")
            if not children.wait("listener", _RENDERING_S):
                raise children.failure("listener", "did not end")
        try:
            children.is_running("listener")
        except ChildError:
            if is_interrupted:
                raise KeyboardInterrupt from None
            raise
        return json.loads((out / "demo.json").read_text(encoding="utf-8"))


def _source_parameters(source: str, fov: float, max_rate: float) -> list[str]:
    # Both pose_node and the listener want the first frame. JSON quotes a name as YAML reads it: webcam "0" stays text.
    values = {
        "source": json.dumps(_absolute(source)),
        "fov_deg": float(fov),
        "max_rate": max_rate,
        "wait_for_subscribers": 2,
    }
    return [part for name, value in values.items() for part in ("-p", f"{name}:={value}")]


def _play(children: Children, seconds: float | None) -> bool:
    """Returns at the end of the video, after ``seconds`` or on Ctrl-C; whether it was that. Raises ChildError."""
    end = None if seconds is None else time.monotonic() + seconds
    is_interrupted = False
    try:
        while children.is_running("video_source") and (end is None or time.monotonic() < end):
            for name in ("pose_node", "listener"):
                if not children.is_running(name):
                    raise children.failure(name, "ended too early")
            children.wait("video_source", _POLL_S)
    except KeyboardInterrupt:
        is_interrupted = True
    children.end("video_source")
    return is_interrupted


def _checked(source: str, fov: float, engine: str) -> bool:
    """Whether the source is live. Raises InputError for what the processes could not use, before they are started."""
    with open_frames(source) as frames:
        Camera.from_fov(fov, frames.size)
        is_live = isinstance(frames, WebcamFrames)
    spec = load_spec(find_spec(engine))
    weights.find_weights(spec.weights, spec.path)
    return is_live


def _absolute(source: str) -> str:
    return str(Path(source).resolve()) if Path(source).exists() else source


def _summary(figures: dict[str, Any], out: Path) -> str:
    rate = f"{figures['frames_per_s']:.1f} frames/s, " if figures["frames_per_s"] else ""
    latency = "nobody seen, so no latency"
    if figures["latency_median_ms"]:
        latency = (
            f"latency from image stamp to marker: median {figures['latency_median_ms']:.0f} ms, 99th percentile "
            f"{figures['latency_p99_ms']:.0f} ms"
        )
    people = f"{figures['frames_with_people']} with people, at most {figures['most_people']} at a time"
    names = f"{figures['track_ids']} track ids, {figures['tf_frames']} TF frames"
    return (
        f"{figures['frames']} of {figures['images']} published frames done, {people} ({names})\n"
        f"{rate}{latency}\n"
        f"see {out / 'demo.mp4'} and {out / 'demo.png'}"
    )


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does, so that no process stays behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> None:
    cli.run(app, "demo")


if __name__ == "__main__":
    main()
