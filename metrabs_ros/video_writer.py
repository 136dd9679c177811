"""Pictures, and videos that browsers play: H.264 by PyAV where it is installed, else whatever this OpenCV can write."""

from __future__ import annotations

import importlib
import logging
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import cv2
import numpy as np

from metrabs_ros.errors import InputError
from metrabs_ros.frames import Image, quiet_opencv

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv")
# OpenCV from distributions has H.264, the one from PyPI only MPEG-4 part 2, which few browsers play.
_OPENCV_CODECS = ("avc1", "mp4v")
_REMEDY = "make room or choose another place"

log = logging.getLogger(__name__)


class _Encoder(Protocol):
    def write(self, image_rgb: Image) -> None: ...

    def close(self) -> None: ...


class VideoWriter:
    """Writes RGB images [H,W,3] uint8 of one size at a constant rate; the file appears whole, when it is closed.

    An odd row or column at the right or lower border is left out, as codecs want even sizes. As a context manager it
    throws the file away where the block ends with an error; without a frame there is none. Raises InputError where the
    file cannot be written.
    """

    def __init__(self, path: str | Path, size: tuple[int, int], rate: float) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in VIDEO_SUFFIXES:
            raise InputError(
                f"Expected a video name ending in {', '.join(VIDEO_SUFFIXES)}, got {self.path}: rename it."
            )
        self._part = self.path.with_name(f".{self.path.stem}.{os.getpid()}.part{self.path.suffix}")
        self._width, self._height = (side // 2 * 2 for side in size)
        check_writable(self.path)
        self._is_empty = True
        self._encoder = _open_encoder(self._part, (self._width, self._height), rate)

    def write(self, image_rgb: Image) -> None:
        """Append one frame."""
        image = image_rgb[: self._height, : self._width]
        if image.shape != (self._height, self._width, 3):
            raise InputError(
                f"{self.path} is a video of {self._width}x{self._height}, got a frame of shape "
                f"{list(image_rgb.shape)}: give images of one size."
            )
        try:
            self._encoder.write(np.ascontiguousarray(image))
            self._is_empty = False
        except OSError as error:
            raise InputError(f"Cannot write {self.path}: {error.strerror or error}; {_REMEDY}.") from error

    def close(self) -> None:
        """Finish the file and put it in its place."""
        try:
            self._encoder.close()
            if self._is_empty:
                self._part.unlink(missing_ok=True)
            else:
                self._part.replace(self.path)
        except OSError as error:
            self._part.unlink(missing_ok=True)
            raise InputError(f"Cannot write {self.path}: {error.strerror or error}; {_REMEDY}.") from error

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        try:
            self._encoder.close()
        finally:
            self._part.unlink(missing_ok=True)


def write_picture(path: Path, image_rgb: Image) -> None:
    """Write an image [H,W,3] uint8 RGB as the path's suffix says, in one step. Raises InputError where that fails."""
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data.tobytes())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"Cannot write {path}: {error.strerror or error}; {_REMEDY}.") from error


def check_writable(path: Path) -> None:
    """Raises InputError unless a file can be made in the path's folder."""
    folder = path.absolute().parent
    if path.is_dir():
        raise InputError(f"Cannot write {path}: it is a folder; give the name of a file.")
    if not folder.is_dir():
        raise InputError(f"Cannot write {path}: there is no folder {folder}; make it first.")
    if not os.access(folder, os.W_OK):
        raise InputError(f"Cannot write {path}: no right to write in {folder}; choose another place.")


class _AvEncoder:
    def __init__(self, av: Any, path: Path, size: tuple[int, int], rate: float) -> None:
        self._av = av
        options = {"movflags": "+faststart"} if path.suffix.lower() in (".mp4", ".mov") else {}
        self._container = av.open(str(path), "w", options=options)
        self._stream = self._container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"preset": "veryfast", "crf": "21"}

    def write(self, image_rgb: Image) -> None:
        self._container.mux(self._stream.encode(self._av.VideoFrame.from_ndarray(image_rgb, format="rgb24")))

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()


class _OpenCvEncoder:
    def __init__(self, writer: cv2.VideoWriter) -> None:
        self._writer = writer

    def write(self, image_rgb: Image) -> None:
        self._writer.write(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()


def _open_encoder(path: Path, size: tuple[int, int], rate: float) -> _Encoder:
    try:
        return _AvEncoder(importlib.import_module("av"), path, size, rate)
    except ImportError:
        pass
    with quiet_opencv():
        for codec in _OPENCV_CODECS:
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, size)
            if writer.isOpened():
                break
    if not writer.isOpened():
        raise InputError(f"This OpenCV cannot write videos: install PyAV (`pip install av`) to write {path.name}.")
    if codec != "avc1":
        log.warning("The video is MPEG-4 part 2, which browsers do not play: `pip install av` for H.264.")
    return _OpenCvEncoder(writer)
