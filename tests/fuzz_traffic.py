"""Good and malformed input for pose_node: each frame an image, its camera_info and its detections, of one stamp."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from ros_support import header_at
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
)

from metrabs_ros.camera import Camera
from metrabs_ros.messages import camera_to_msg, image_to_msg

NAN, INF = math.nan, math.inf
Box = tuple[float, float, float, float]
Spoil = Callable[[random.Random, Image, CameraInfo], None]


@dataclass(frozen=True)
class FuzzFrame:
    """``people``: how many of its boxes are of use; None where nothing may be published of it."""

    kind: str
    stamp_s: float
    image: Image
    info: CameraInfo
    detections: Detection2DArray
    people: int | None

    def without_messages(self) -> FuzzFrame:
        """What is worth keeping of thousands."""
        return replace(self, image=Image(), info=CameraInfo(), detections=Detection2DArray())


def _step(rng: random.Random, image: Image, info: CameraInfo) -> None:
    image.step = rng.choice([0, 1, image.step - 1, image.step + 64, 2**32 - 1])


def _size(rng: random.Random, image: Image, info: CameraInfo) -> None:
    image.height = rng.choice([image.height + 1, 2 * image.height, 2**31])


def _zero_size(rng: random.Random, image: Image, info: CameraInfo) -> None:
    image.width, image.height = rng.choice([(0, 0), (0, image.height), (image.width, 0)])
    if rng.random() < 0.5:
        image.step, image.data = 0, b""


def _encoding(rng: random.Random, image: Image, info: CameraInfo) -> None:
    image.encoding = rng.choice(["", "jpeg", "32FC1", "16UC3", "rgb", "bayer_", "\N{SNOWMAN}", "x" * 5000])


def _data(rng: random.Random, image: Image, info: CameraInfo) -> None:
    image.data = image.data[: rng.choice([0, 1, 1000, len(image.data) - 1])]


def _not_finite_info(rng: random.Random, image: Image, info: CameraInfo) -> None:
    k = np.array(info.k)
    k[rng.choice([0, 2, 4, 5, slice(None)])] = rng.choice([NAN, INF, -INF])
    info.k = k


def _not_finite_lens(rng: random.Random, image: Image, info: CameraInfo) -> None:
    info.d = [rng.choice([NAN, INF])] * rng.choice([4, 5, 8, 14])


def _no_lens(rng: random.Random, image: Image, info: CameraInfo) -> None:
    info.distortion_model = rng.choice(["anamorphic", "\N{SNOWMAN}", "equidistant_"])
    info.d = [0.1] * rng.choice([1, 3, 100])


def _no_calibration(rng: random.Random, image: Image, info: CameraInfo) -> None:
    info.k = np.zeros(9)


def _other_size(rng: random.Random, image: Image, info: CameraInfo) -> None:
    info.width, info.height = rng.choice([(0, 0), (image.width + 1, image.height), (1, 1), (2**31, 2**31)])


SPOILED: dict[str, Spoil] = {
    "wrong step": _step,
    "wrong size": _size,
    "zero size": _zero_size,
    "wrong encoding": _encoding,
    "data cut off": _data,
    "camera_info not finite": _not_finite_info,
    "lens not finite": _not_finite_lens,
    "unknown lens": _no_lens,
    "no calibration": _no_calibration,
    "camera_info of another size": _other_size,
}
# None of these is anybody in the image.
USELESS: tuple[Box, ...] = (
    (NAN, 10, 10, 10), (10, 10, INF, 10), (10, 10, NAN, NAN), (10, 10, 0, 10), (10, 10, -5, 10),
    (-1e6, 10, 10, 10), (10, 1e6, 10, 10), (1e30, 1e30, 1e30, 1e30), (-50, -50, 20, 20),
)  # fmt: skip
GOOD = (
    "nobody",
    "one",
    "three",
    "sixty",
    "useless boxes",
    "leaving the image",
    "time goes back a little",
    "time goes back",
)


class FuzzTraffic:
    """Frames of random kinds, a third of them good; the same for the same seed. Stamps never repeat."""

    def __init__(self, start_s: float, rate_hz: float, pixels: np.ndarray, seed: int = 0) -> None:
        """pixels [H,W,3] uint8 of the good images."""
        self._rng = random.Random(seed)
        self._start_s, self._period_s = start_s, 1 / rate_hz
        self._pixels = pixels
        self._camera = Camera.from_fov(60, (pixels.shape[1], pixels.shape[0]))
        self._count = 0

    def next(self, kind: str = "") -> FuzzFrame:
        """The next frame, of a random kind unless one is given."""
        rng = self._rng
        kind = kind or self._kind()
        self._start_s -= {"time goes back a little": 0.2, "time goes back": 1000.0}.get(kind, 0.0)
        # The last microseconds keep the stamps apart that go back.
        stamp_s = self._start_s + self._count * self._period_s + 1e-6 * (self._count % 1000)
        self._count += 1
        header = header_at(stamp_s)
        image, info = image_to_msg(self._pixels, header), camera_to_msg(self._camera, header)
        boxes, people = self._boxes(kind)
        if kind in SPOILED:
            SPOILED[kind](rng, image, info)
        detections = [self._detection(box) for box in boxes]
        return FuzzFrame(
            kind,
            header.stamp.sec + 1e-9 * header.stamp.nanosec,
            image,
            info,
            Detection2DArray(header=header, detections=detections),
            None if kind in SPOILED else people,
        )

    def _kind(self) -> str:
        if self._rng.random() < 2 / 3:
            return self._rng.choice(list(SPOILED))
        # Sixty people and leaps of time are rarer than what is usual.
        return self._rng.choices(GOOD, weights=[3, 6, 6, 1, 3, 3, 1, 1])[0]

    def _boxes(self, kind: str) -> tuple[list[Box], int]:
        """The boxes of a frame, and how many of them are of use."""
        width, height = self._camera.size
        middle = (width / 2, height / 2, width / 3, 0.9 * height)
        if kind == "nobody":
            return [], 0
        if kind in ("three", "sixty"):
            count = 3 if kind == "three" else 60
            return [(x, height / 2, width / 8, height / 2) for x in np.linspace(0.1, 0.9, count) * width], count
        if kind == "useless boxes":
            useless = self._rng.sample(USELESS, self._rng.randint(1, len(USELESS)))
            return [useless[0], middle, *useless[1:]], 1
        if kind == "leaving the image":
            return [(0.0, 0.0, float(width), float(height)), (width - 1.0, height / 2, 30.0, 2.0 * height)], 2
        return [middle], 1

    def _detection(self, box: Box) -> Detection2D:
        """Some have an id and a hypothesis, some have neither."""
        x, y, w, h = map(float, box)
        made = Detection2D(bbox=BoundingBox2D(center=Pose2D(position=Point2D(x=x, y=y)), size_x=w, size_y=h))
        if self._rng.random() < 0.5:
            made.id = self._rng.choice(["7", "someone", "\N{SNOWMAN}"])
            hypothesis = ObjectHypothesis(class_id="person", score=self._rng.choice([0.3, 0.9, 1.0]))
            made.results = [ObjectHypothesisWithPose(hypothesis=hypothesis)]
        return made
