"""The soak: the node on a video over and over, for minutes; its memory, handles and latency, and whether they drift.

`python -m demo.soak --seconds 600` prints a row every ten seconds and ends with 1 where something grew.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import rclpy
import typer
from rclpy.node import Node
from rich.console import Console
from sensor_msgs.msg import CompressedImage, JointState, PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from demo.clip import FOV_DEG, clip_path
from demo.processes import ChildError, Children, ros_environment
from demo.spinning import spinning
from metrabs_ros import cli
from metrabs_ros.frames import open_frames
from metrabs_ros.pipeline import DEFAULT_ENGINE

# What is read before this is how caches and the engine fill up.
SETTLED = 0.25
# An engine keeps some 20 MB for each number of people that it sees at once for the first time, however late that is.
MOST_GROWTH_MB, MOST_NEW_HANDLES = 60.0, 4
_START_S = 60.0

app = cli.new_app(__doc__)
console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Reading:
    """After time_s: the node's own memory, MB, its open handles and threads, and the latencies since the last, s."""

    time_s: float
    memory_mb: float
    handles: int
    threads: int
    latencies_s: tuple[float, ...]

    def row(self) -> str:
        latency = "nothing came"
        if self.latencies_s:
            median, p99 = (1e3 * np.percentile(self.latencies_s, part) for part in (50, 99))
            latency = f"{len(self.latencies_s):5d} frames, latency median {median:5.0f} ms, p99 {p99:5.0f} ms"
        memory = f"{self.memory_mb:7.1f} MB, {self.handles:3d} handles, {self.threads:3d} threads"
        return f"{self.time_s:6.0f} s {memory}, {latency}"


@dataclass(frozen=True)
class Drift:
    """From the first settled quarter of the readings to the last: memory, MB, handles, and the median latency, ms."""

    memory_mb: float
    handles: int
    latency_ms: float

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> Drift:
        settled = readings[int(SETTLED * len(readings)) :]
        part = max(1, len(settled) // 3)
        first, last = settled[:part], settled[-part:]

        def change(value: Callable[[Reading], Sequence[float]]) -> float:
            before, after = ([each for reading in group for each in value(reading)] for group in (first, last))
            return float(np.median(after) - np.median(before)) if before and after else float("nan")

        return cls(
            change(lambda reading: [reading.memory_mb]),
            round(change(lambda reading: [reading.handles])),
            1e3 * change(lambda reading: reading.latencies_s),
        )

    @property
    def grew(self) -> bool:
        return self.memory_mb > MOST_GROWTH_MB or self.handles > MOST_NEW_HANDLES


@dataclass
class Latencies:
    """From image stamp to the arrival of ~/people, s, between two readings."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _values: list[float] = field(default_factory=list)

    def add(self, header: Header) -> None:
        with self._lock:
            self._values.append(time.time() - header.stamp.sec - 1e-9 * header.stamp.nanosec)

    def taken(self) -> tuple[float, ...]:
        with self._lock:
            values, self._values = self._values, []
        return tuple(values)


@app.command(no_args_is_help=False)
def soak(
    seconds: Annotated[float, typer.Option(help="How long.", min=1)] = 600.0,
    period: Annotated[float, typer.Option(help="Seconds from one reading to the next.", min=0.1)] = 10.0,
    source: Annotated[str | None, typer.Option(help="A video or image folder instead of the demo's clip.")] = None,
    fov: Annotated[float, typer.Option(help="Field of view of the longer image side, degrees.")] = FOV_DEG,
    engine: Annotated[str, typer.Option(help="Engine by name or spec file.")] = DEFAULT_ENGINE,
    max_rate: Annotated[float, typer.Option(help="Frames per second at most; 0 plays all.")] = 15.0,
) -> None:
    """Run the node for minutes with everything subscribed to, and print what drifts."""
    source = str(clip_path()) if source is None else str(Path(source).resolve())
    open_frames(source).close()
    with tempfile.TemporaryDirectory(prefix="metrabs_ros-soak-") as logs:
        environment = ros_environment(Path(logs))
        # For this process, too, before it makes a participant.
        os.environ.update(environment)
        try:
            with Children(environment, Path(logs)) as children:
                children.start("pose_node", ["metrabs_ros.node", "--ros-args", "-p", f"engine:={engine}"])
                given = {"source": f'"{source}"', "fov_deg": fov, "max_rate": max_rate, "loop": "true"}
                parameters = [part for name, value in given.items() for part in ("-p", f"{name}:={value}")]
                children.start("video_source", ["metrabs_ros.video_source", "--ros-args", *parameters])
                readings = _read(children, seconds, period)
        except ChildError as error:
            console.print(f"soak: {error}", style="red", markup=False)
            raise typer.Exit(1) from None
    drift = Drift.of(readings)
    console.print(
        f"drift over {seconds:g} s, the first quarter left out: memory {drift.memory_mb:+.1f} MB, handles "
        f"{drift.handles:+d}, median latency {drift.latency_ms:+.0f} ms"
    )
    if drift.grew:
        console.print(
            f"soak: something grew by more than {MOST_GROWTH_MB:g} MB or {MOST_NEW_HANDLES} handles: see the rows."
        )
        raise typer.Exit(1)


def _read(children: Children, seconds: float, period: float) -> list[Reading]:
    """Readings of the node while it works, printed as they come; time counts from its first answer."""
    latencies = Latencies()
    rclpy.init()
    with spinning(_listener(latencies)):
        deadline = time.monotonic() + _START_S
        while not latencies.taken():
            _check(children)
            if time.monotonic() > deadline:
                raise children.failure("pose_node", f"published nothing for {_START_S:g} s")
            time.sleep(0.1)
        start = time.monotonic()
        readings: list[Reading] = []
        while time.monotonic() - start < seconds:
            next_s = min((len(readings) + 1) * period, seconds)
            time.sleep(max(0.0, start + next_s - time.monotonic()))
            _check(children)
            readings.append(_reading(children.pid("pose_node"), time.monotonic() - start, latencies.taken()))
            console.print(readings[-1].row())
        return readings


def _listener(latencies: Latencies) -> Node:
    """Subscribes whatever the node can publish of a frame, so that all of it is made."""
    node = rclpy.create_node("soak")
    node.create_subscription(Detection3DArray, "/pose_node/people", lambda message: latencies.add(message.header), 10)
    for kind, topic in (
        (MarkerArray, "/pose_node/markers"),
        (PointCloud2, "/pose_node/joints"),
        (CompressedImage, "/pose_node/image_annotated/compressed"),
        (JointState, "/humans/bodies/p1/joint_states"),
    ):
        node.create_subscription(kind, topic, lambda message: None, 1)
    return node


def _check(children: Children) -> None:
    for name in ("pose_node", "video_source"):
        if not children.is_running(name):
            raise children.failure(name, "ended too early")


def _reading(pid: int, time_s: float, latencies_s: tuple[float, ...]) -> Reading:
    status = Path(f"/proc/{pid}/status").read_text()
    # Without what is shared: images in DDS's shared memory come and go.
    memory_kb, threads = (int(re.findall(rf"{name}:\s+(\d+)", status)[0]) for name in ("RssAnon", "Threads"))
    handles = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Reading(time_s, memory_kb / 1024, handles, threads, latencies_s)


def main() -> None:
    cli.run(app, "soak")


if __name__ == "__main__":
    main()
