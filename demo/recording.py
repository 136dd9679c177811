"""What the listener took down: images, the people published for them, and when they came."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from metrabs_ros.camera import Camera
from metrabs_ros.frames import Image

Floats = NDArray[np.float64]

# Enough for a screen, and a quarter of the bytes of 1080p.
_WIDTH = 1280
_JPEG_QUALITY = 92
# A webcam may run for hours; this many pictures are kept for the video.
_PICTURES = 1800
# An image that got no answer is shown without people only where nothing else is to be shown for so long.
_SILENCE_NS = 500_000_000
# An answer that takes longer than so many images finds its image no more.
_WAITING_IMAGES = 30


@dataclass(frozen=True)
class Figures:
    """frames: answered with people or none; frames_per_s of these; latencies from image stamp to marker arrival."""

    images: int
    frames: int
    frames_with_people: int
    most_people: int
    track_ids: int
    frames_per_s: float | None
    latency_median_ms: float | None
    latency_p99_ms: float | None
    tf_frames: int


@dataclass
class Recording:
    """Filled from the listener's threads, read when they have ended. Stamps are nanoseconds of the image's header."""

    camera: Camera | None = None
    pictures: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    people: dict[int, dict[int, Floats]] = field(default_factory=dict)
    latencies_s: list[float] = field(default_factory=list)
    tf_frames: set[str] = field(default_factory=set)
    images: int = 0
    arrivals_s: list[float] = field(default_factory=list)
    answered: threading.Condition = field(default_factory=threading.Condition)

    def add_picture(self, stamp_ns: int, image_rgb: Image) -> None:
        """Keeps an image [H,W,3], made smaller and compressed."""
        if len(self.pictures) < _PICTURES:
            scale = min(1.0, _WIDTH / image_rgb.shape[1])
            # Above a half, interpolation shows no aliasing to speak of and takes an eighth of the time.
            how = cv2.INTER_LINEAR if scale > 0.5 else cv2.INTER_AREA
            small = cv2.resize(image_rgb, None, fx=scale, fy=scale, interpolation=how)
            small = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
            _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
            self.pictures[stamp_ns] = data

    def add_answer(self, stamp_ns: int | None, people: dict[int, Floats], now_s: float) -> None:
        """Track id -> joints3d [J,3] m, as they came at ``now_s``; stamp_ns None: nobody, of an image unknown."""
        with self.answered:
            self.arrivals_s.append(now_s)
            if stamp_ns is not None:
                self.people[stamp_ns] = people
                self.latencies_s.append(now_s - stamp_ns * 1e-9)
            self.answered.notify_all()

    def wait_for_silence(self, seconds: float) -> None:
        """Returns when no answer came for ``seconds``."""
        with self.answered:
            while self.answered.wait(seconds):
                pass

    def shown(self) -> list[int]:
        """The stamps of the pictures, in order."""
        return sorted(self.pictures)

    def figures(self) -> Figures:
        """The sum of it all; None where too little came for a figure."""
        intervals = len(self.arrivals_s) - 1
        median, p99 = (np.percentile(self.latencies_s, [50, 99]) * 1e3).tolist() if self.latencies_s else (None, None)
        return Figures(
            images=self.images,
            frames=len(self.arrivals_s),
            frames_with_people=sum(1 for people in self.people.values() if people),
            most_people=max((len(people) for people in self.people.values()), default=0),
            track_ids=len({track_id for people in self.people.values() for track_id in people}),
            frames_per_s=intervals / (self.arrivals_s[-1] - self.arrivals_s[0]) if intervals > 0 else None,
            latency_median_ms=median,
            latency_p99_ms=p99,
            tf_frames=len(self.tf_frames),
        )


class Selection:
    """Which images become pictures: those with people, and some of the others in long pauses.

    Compressing every image would take the node's processor time.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, Any] = {}
        self._chosen_ns = -_SILENCE_NS - 1

    def with_image(self, stamp_ns: int, image: Any) -> list[tuple[int, Any]]:
        """Takes an image; returns what is chosen now."""
        self._waiting[stamp_ns] = image
        oldest = next(iter(self._waiting))
        return self._decided(oldest, None) if len(self._waiting) > _WAITING_IMAGES else []

    def with_answer(self, stamp_ns: int) -> list[tuple[int, Any]]:
        """Takes the stamp of an image with people: it is chosen, and it is decided about those before it."""
        return self._decided(stamp_ns, stamp_ns)

    def rest(self) -> list[tuple[int, Any]]:
        """Decides about all that still wait."""
        return self._decided(max(self._waiting, default=0), None)

    def _decided(self, up_to_ns: int, answered_ns: int | None) -> list[tuple[int, Any]]:
        chosen = []
        for stamp_ns in sorted(stamp for stamp in self._waiting if stamp <= up_to_ns):
            image = self._waiting.pop(stamp_ns)
            is_alone = answered_ns is None or answered_ns - stamp_ns > _SILENCE_NS
            if stamp_ns == answered_ns or (is_alone and stamp_ns - self._chosen_ns > _SILENCE_NS):
                chosen.append((stamp_ns, image))
                self._chosen_ns = stamp_ns
        return chosen


def people_in(markers: list[Any], add_action: int) -> tuple[int | None, dict[int, Floats]]:
    """The image's stamp, ns, and track id -> joints3d [J,3] m, out of a MarkerArray's markers."""
    if not markers:
        return None, {}
    stamp = markers[0].header.stamp
    people = {
        marker.id: np.array([(point.x, point.y, point.z) for point in marker.points])
        for marker in markers
        if marker.ns == "joints" and marker.action == add_action
    }
    return stamp.sec * 1_000_000_000 + stamp.nanosec, people
