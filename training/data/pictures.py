"""Where a picture lies: in a file, as a frame of a video, as the bytes of a shard, or in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.missing import DataError

Image = NDArray[np.uint8]

_OPEN_VIDEOS = 8
# Frames further ahead than this are sought, nearer ones read through.
_LONGEST_READ = 60


class Picture(Protocol):
    """Anything with pixels."""

    def load(self) -> Image:
        """[H,W,3] uint8 RGB. Raises DataError where it is missing or damaged."""


@dataclass(frozen=True)
class PictureFile:
    """An image file."""

    path: Path

    def load(self) -> Image:
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"The picture {self.path} cannot be read ({error.strerror}): restore it.") from error
        return decoded(data, str(self.path))


@dataclass(frozen=True)
class VideoFrame:
    """Frame ``number`` of a video, from 0. Reading frames in their order is fast, jumping is not."""

    path: Path
    number: int

    def load(self) -> Image:
        return _VIDEOS.frame(self.path, self.number)


@dataclass(frozen=True)
class PictureBytes:
    """An encoded picture; name: for messages."""

    data: bytes
    name: str

    def load(self) -> Image:
        return decoded(self.data, self.name)


@dataclass(frozen=True, eq=False)
class PictureArray:
    """A picture in memory, [H,W,3] uint8 RGB."""

    image: Image

    def load(self) -> Image:
        return self.image


def decoded(data: bytes, name: str) -> Image:
    bgr = (
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if data else None
    )
    if bgr is None:
        raise DataError(f"{name} is not a picture, or is damaged: restore it.")
    return np.ascontiguousarray(bgr[:, :, ::-1])


def encoded(image: Image, kind: str) -> bytes:
    """kind: .jpg (hardly any loss) or .png (none)."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, 95] if kind == ".jpg" else []
    bgr = image[:, :, ::-1] if image.ndim == 3 else image
    return cv2.imencode(kind, np.ascontiguousarray(bgr), settings)[1].tobytes()


def _opened_at(path: Path, number: int) -> tuple[cv2.VideoCapture, int]:
    """A video and the frame that it will read next: ``number``, or 0 where its format cannot seek."""
    for wanted in (number, 0):
        capture = cv2.VideoCapture(str(path))
        if not capture.isOpened():
            raise DataError(f"The video {path} is missing or cannot be opened: restore it.")
        if wanted == 0 or (
            capture.set(cv2.CAP_PROP_POS_FRAMES, wanted) and round(capture.get(cv2.CAP_PROP_POS_FRAMES)) == wanted
        ):
            break
    return capture, wanted


class _Videos:
    """A few open videos, each remembering where it stands."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, tuple[cv2.VideoCapture, int]] = OrderedDict()
        self._lock = threading.Lock()

    def frame(self, path: Path, number: int) -> Image:
        with self._lock:
            capture, position = self._open.pop(path, (None, 0))
            if capture is None or not 0 <= number - position <= _LONGEST_READ:
                capture, position = _opened_at(path, number)
            while position < number and capture.grab():
                position += 1
            ok, bgr = capture.read()
            if not ok or position != number:
                raise DataError(f"The video {path} ends before frame {number}: it is incomplete, get it again.")
            self._open[path] = (capture, number + 1)
            if len(self._open) > _OPEN_VIDEOS:
                self._open.popitem(last=False)[1][0].release()
            return np.ascontiguousarray(bgr[:, :, ::-1])


_VIDEOS = _Videos()
