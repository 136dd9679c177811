"""What the pipeline costs beside its networks, on pictures with a known number of people, measured in one run.

Times on a shared machine wander: every ratio is taken from the same frames, the networks' time inside the frame's own.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from metrabs_ros import crop
from metrabs_ros.camera import Camera
from metrabs_ros.crop_plan import CropPlan
from metrabs_ros.engine import Network, WarpingNetwork
from metrabs_ros.errors import InputError
from metrabs_ros.pipeline import PosePipeline
from metrabs_ros.pose import Detections
from metrabs_ros.warp_choice import MEASURED, WARM_UP

Image = NDArray[np.uint8]

# Frames per second of the paper's system (RTX 2080 Ti, ResNet-50, without detection) by the number of people.
PAPER_FRAMES_PER_S = {1: 128, 2: 118, 4: 98, 8: 67, 16: 41}
BATCHES = (1, 2, 4, 8, 16, 32)
# Frames before the first that is measured: caches are filled, and where a GPU could make the crops, it is found out
# whether it shall.
_FILL_CACHES = 3 + 2 * (WARM_UP + MEASURED)
# Around a person's box, so that the crop still shows what was around them.
_MARGIN = 0.15


class TimedNetwork:
    """A network that counts the seconds spent in it."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.backend_name, self.device = network.backend_name, network.device
        self.input_names, self.input_shape = network.input_names, network.input_shape
        self.seconds = 0.0

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        with self._timed():
            return self._network.run(batch)

    @property
    def can_warp(self) -> bool:
        return isinstance(self._network, WarpingNetwork) and self._network.can_warp

    def run_warped(self, image: Image, plan: CropPlan) -> dict[str, NDArray[np.float32]] | None:
        """Crops that the network makes itself count as its own work."""
        assert isinstance(self._network, WarpingNetwork)
        with self._timed():
            return self._network.run_warped(image, plan)

    def close(self) -> None:
        self._network.close()

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start


@dataclass(frozen=True)
class FrameCost:
    """Medians over frames with ``people``, of whom ``seen`` came out: seconds a frame, in the networks of it, and for
    one crop of each who was seen; ``overhead``: a frame's time beyond its networks over that in them."""

    people: int
    seen: float
    seconds: float
    networks: float
    crops: float
    overhead: float


@dataclass(frozen=True, eq=False)
class Crowd:
    """A picture with as many people as boxes [N,4] xywh px, all upright."""

    image: Image
    boxes: NDArray[np.float64]

    @property
    def detections(self) -> Detections:
        count = len(self.boxes)
        return Detections(self.boxes, np.ones(count), np.tile([0.0, -1.0], (count, 1)))


def crowd(people: Sequence[Image], count: int, size: tuple[int, int]) -> Crowd:
    """``count`` of the pictures of one person each, in turn, side by side in a picture of ``size`` (width, height)."""
    if not people:
        raise InputError("Nobody was found in INPUT: give a video or an image with people who can be seen well.")
    wide, high = _largest_cell(people, count, size)
    columns = size[0] // wide
    image = np.full((size[1], size[0], 3), 128, np.uint8)
    boxes = []
    for i in range(count):
        person = people[i % len(people)]
        scale = min(wide / person.shape[1], high / person.shape[0])
        small = cv2.resize(person, None, fx=scale * 0.99, fy=scale * 0.99, interpolation=cv2.INTER_AREA)
        x, y = i % columns * wide, i // columns * high
        image[y : y + small.shape[0], x : x + small.shape[1]] = small
        inner = np.array([small.shape[1], small.shape[0]]) / (1 + 2 * _MARGIN)
        boxes.append([*(np.array([x, y]) + inner * _MARGIN), *inner])
    return Crowd(image, np.array(boxes))


def _largest_cell(people: Sequence[Image], count: int, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the cells, ``count`` of them in ``size``, in which the smallest person is largest."""
    cells = [(size[0] // columns, size[1] // -(-count // columns)) for columns in range(1, count + 1)]
    return max(cells, key=lambda cell: min(min(cell[0] / p.shape[1], cell[1] / p.shape[0]) for p in people[:count]))


def people_in(images: Sequence[Image], pipeline: PosePipeline, camera: Camera, most: int = 16) -> list[Image]:
    """Cut-outs of the people that the pipeline finds, with a margin around each."""
    found: list[Image] = []
    for image in images:
        for pose in pipeline.estimate(image, camera):
            x, y, w, h = pose.box
            low = np.maximum(np.array([x - _MARGIN * w, y - _MARGIN * h]).astype(int), 0)
            high = np.array([x + (1 + _MARGIN) * w, y + (1 + _MARGIN) * h]).astype(int)
            found.append(image[low[1] : high[1], low[0] : high[0]])
        if len(found) >= most:
            break
    return [person for person in found if min(person.shape[:2]) >= 16]


def frame_cost(pipeline: PosePipeline, scene: Crowd, camera: Camera, rounds: int, detects: bool) -> FrameCost:
    """The cost of frames of a scene whose people's boxes are given, or with ``detects`` only once: from then on the
    detector looks for people and these are followed, whether it would find them or not."""
    timed: list[TimedNetwork] = []

    def around(network: Network) -> Network:
        timed.append(TimedNetwork(network))
        return timed[-1]

    watched = pipeline.shared(around, 1, 1)
    spec = pipeline.spec
    rows = []
    for i in range(rounds + _FILL_CACHES):
        for network in timed:
            network.seconds = 0.0
        start = time.perf_counter()
        poses = watched.process(scene.image, camera, i / 30, None if detects and i else scene.detections)
        whole = time.perf_counter() - start
        inside = sum(network.seconds for network in timed)
        boxes = np.array([pose.box for pose in poses]).reshape(-1, 4)
        start = time.perf_counter()
        virtual, _ = crop.virtual_cameras(camera, boxes, spec.input.size, (0, -1, 0), spec.crop.box_scale)
        crop.warp(scene.image, camera, virtual, spec.crop.gamma, spec.crop.resampling)
        rows.append([len(poses), whole, inside, time.perf_counter() - start, whole / inside - 1])
    return FrameCost(len(scene.boxes), *(float(value) for value in np.median(rows[_FILL_CACHES:], axis=0)))


def crops_per_s(pipeline: PosePipeline, rounds: int) -> dict[int, float]:
    """Crops per second of the bare pose network by batch; one crop at a time where it takes no more."""
    spec = pipeline.spec
    side = spec.input.size
    shape = (side, side, 3) if spec.input.layout == "NHWC" else (3, side, side)
    rng = np.random.default_rng(0)
    batches = [count for count in BATCHES if spec.input.dynamic_batch or count == 1]
    inputs = {count: rng.random((count, *shape), np.float32) for count in batches}
    seconds: dict[int, list[float]] = {count: [] for count in batches}
    # Turn by turn, so that all batches see the same ups and downs of the machine.
    for _ in range(rounds + 1):
        for count, batch in inputs.items():
            start = time.perf_counter()
            pipeline.engine.run_raw(batch)
            seconds[count].append(time.perf_counter() - start)
    return {count: count / float(np.median(times[1:])) for count, times in seconds.items()}


def peak_memory_mb() -> float:
    """The most that this process has held at once on the host."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def gpu_memory_mb() -> float | None:
    """What this process holds on NVIDIA GPUs now, MiB, of whatever runtime; None where nvidia-smi does not tell, as
    where there is none, on a Jetson, whose memory is the host's, and in a container with process ids of its own."""
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    rows = [[field.strip() for field in line.split(",")] for line in told.splitlines()]
    own = [row[1] for row in rows if len(row) == 2 and row[0] == str(os.getpid())]
    return sum(map(float, own)) if own and all(used.isdecimal() for used in own) else None
