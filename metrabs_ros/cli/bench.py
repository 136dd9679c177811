"""metrabs-bench: what the pipeline costs beside the bare networks in it, measured turn by turn in one run."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from metrabs_ros import benchmark
from metrabs_ros.benchmark import PAPER_FRAMES_PER_S
from metrabs_ros.camera import Camera
from metrabs_ros.cli import new_app, run, say_why
from metrabs_ros.cli.bench_report import shown, write
from metrabs_ros.engine import AUTO
from metrabs_ros.errors import InputError
from metrabs_ros.frames import Image, open_frames
from metrabs_ros.model_spec import ModelSpec
from metrabs_ros.pipeline import DEFAULT_ENGINE, PosePipeline

app = new_app("Measure the pipeline against its bare networks on a video, an image or a folder.")


@app.command()
def bench(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="Video, image or folder with people in it.")],
    engine: Annotated[str, typer.Option(help="Engine by name or spec file.")] = DEFAULT_ENGINE,
    backend: Annotated[str, typer.Option(help="auto, openvino, onnxruntime, ...")] = AUTO,
    size: Annotated[str, typer.Option(help="Frames are scaled and cut to this size, WIDTHxHEIGHT.")] = "640x480",
    frames: Annotated[int, typer.Option(min=1, help="How many frames are read from the start of INPUT.")] = 36,
    rounds: Annotated[
        int, typer.Option(min=10, help="How many frames are measured; they are gone through to and fro.")
    ] = 300,
    fov: Annotated[float, typer.Option(help="Field of view of the longer side, degrees.")] = 55.0,
    crowd_size: Annotated[str, typer.Option(help="Size of the pictures with 1 to 16 people.")] = "1920x1080",
    crowd_rounds: Annotated[int, typer.Option(min=3, help="How many frames are measured of each of those.")] = 20,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of the figures (.png, .svg); needs matplotlib.")] = None,
) -> None:
    """Whole frames beside the bare networks, crops per second by batch, and frames per second by people.

    Times on a shared machine wander; ratios are of medians taken in the same run.
    """
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise InputError("--plot needs matplotlib: pip install matplotlib, or use --json.")
    (width, height), large = _parsed_size(size), _parsed_size(crowd_size)
    with open_frames(source) as opened:
        pictures = [frame.image_rgb for frame in islice(opened, frames)]
    images = [_cover(picture, width, height) for picture in pictures]
    camera = Camera.from_fov(fov, (width, height))
    start = time.perf_counter()
    pipeline = PosePipeline.from_engine(Path(engine) if engine.endswith(".yaml") else engine, backend)
    pipeline.warm_up()
    start_up = time.perf_counter() - start
    title = f"{pipeline.spec.name} on {pipeline.engine.backend_name} ({pipeline.engine.device})"
    console = Console()
    say_why(pipeline.engine, "metrabs-bench")

    times, people = _turn_by_turn(pipeline, images, camera, rounds)
    ratio = _report(console, times, people, f"{title}, {size}")
    stills = pictures[:: max(1, len(pictures) // 4)]
    still_camera = Camera.from_fov(fov, (stills[0].shape[1], stills[0].shape[0]))
    cutouts = benchmark.people_in(stills, pipeline, still_camera)
    pipeline.reset()
    crowd_camera = Camera.from_fov(fov, large)
    costs = [
        (benchmark.frame_cost(pipeline, benchmark.crowd(cutouts, count, large), crowd_camera, crowd_rounds, detects))
        for detects in (False, True)
        for count in PAPER_FRAMES_PER_S
    ]
    given, found = costs[: len(PAPER_FRAMES_PER_S)], costs[len(PAPER_FRAMES_PER_S) :]
    figures: dict[str, Any] = {
        "engine": pipeline.spec.name,
        "backend": pipeline.engine.backend_name,
        "device": pipeline.engine.device,
        "size": size,
        "crowd_size": crowd_size,
        "start_up_s": start_up,
        "median_s": {name: float(np.median(seconds)) for name, seconds in times.items()},
        "ratio_frame_to_networks": ratio,
        "crops_per_s": benchmark.crops_per_s(pipeline, max(3, crowd_rounds // 2)),
        "boxes_given": [asdict(cost) for cost in given],
        "people_found": [asdict(cost) for cost in found],
        "cost_16_to_1": given[-1].seconds / given[0].seconds,
        "paper_frames_per_s": PAPER_FRAMES_PER_S,
        "peak_memory_mb": benchmark.peak_memory_mb(),
        # Buffers have grown to the largest batch by now, and stay so.
        "gpu_memory_mb": benchmark.gpu_memory_mb(),
    }
    shown(console, figures)
    write(figures, json_file, plot)


def _turn_by_turn(
    pipeline: PosePipeline, images: list[Image], camera: Camera, rounds: int
) -> tuple[dict[str, list[float]], list[int]]:
    """Seconds of whole frames and of one call of each network in turn, and how many people each frame had."""
    networks = {name: _repeatable(run_once, spec) for name, run_once, spec in pipeline.networks()}
    times: dict[str, list[float]] = {name: [] for name in ("frame", *networks)}
    people: list[int] = []
    to_and_fro = cycle([*images, *images[-2:0:-1]])
    for i, image in enumerate(islice(to_and_fro, rounds + 10)):
        start = time.perf_counter()
        found = len(pipeline.process(image, camera, i / 30))
        marks = [time.perf_counter()]
        for call in networks.values():
            call()
            marks.append(time.perf_counter())
        if i >= 10:  # the first frames find the people and fill caches
            people.append(found)
            for name, seconds in zip(times, np.diff([start, *marks]), strict=True):
                times[name].append(float(seconds))
    return times, people


def _report(console: Console, times: dict[str, list[float]], people: list[int], title: str) -> float:
    table = Table("", "median ms", "90 % below", title=title, title_justify="left")
    for name, seconds in times.items():
        table.add_row(name, f"{np.median(seconds) * 1e3:.2f}", f"{np.percentile(seconds, 90) * 1e3:.2f}")
    raw = sum(float(np.median(seconds)) for name, seconds in times.items() if name != "frame")
    whole = float(np.median(times["frame"]))
    console.print(table)
    console.print(f"people per frame: mean {np.mean(people):.2f}, {len(people)} frames, {1 / whole:.1f} frames/s")
    console.print(f"ratio frame : one raw call of each network = {whole / raw:.2f}")
    return whole / raw


def _repeatable(run_once: Callable[[np.ndarray], object], spec: ModelSpec) -> Callable[[], object]:
    side = spec.input.size
    shape = (1, side, side, 3) if spec.input.layout == "NHWC" else (1, 3, side, side)
    batch = np.random.default_rng(0).random(shape, np.float32)
    return lambda: run_once(batch)


def _cover(image: Image, width: int, height: int) -> Image:
    scale = max(width / image.shape[1], height / image.shape[0])
    scaled_size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    scaled = cv2.resize(image, scaled_size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    x, y = (scaled_size[0] - width) // 2, (scaled_size[1] - height) // 2
    return np.ascontiguousarray(scaled[y : y + height, x : x + width], np.uint8)


def _parsed_size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and 32 <= int(part) <= 8192 for part in parts):
        raise InputError(f"--size must be WIDTHxHEIGHT in pixels, 32 to 8192, got {text!r}: give e.g. 640x480.")
    return int(parts[0]), int(parts[1])


def main() -> None:
    run(app, "metrabs-bench")
