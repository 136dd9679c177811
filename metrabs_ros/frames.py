"""Frames from a video file, an image, a folder of images or a webcam, by OpenCV, all as RGB uint8.

Rotation that a file asks for (EXIF, a video's display matrix) is carried out; grey, 16-bit and alpha images become RGB.
A video that stops before the end it announces gives the frames it has and then logs a warning; one without a single
frame that can be decoded raises InputError.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

# FFmpeg's own words about a damaged file go to stderr; ours say it in a sentence. It reads this at the first video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np
from numpy.typing import NDArray

from metrabs_ros.errors import InputError

Image = NDArray[np.uint8]

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
DEFAULT_RATE = 30.0
EXPECTED = "a video, an image, a folder of images, or a webcam (0 or /dev/video0)"

# Containers announce a frame or two more than they hold without being damaged.
_MISSING_FRAMES_ALLOWED = 2

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Frame:
    """index counts from 0; stamp_s: seconds, growing strictly, 0 at a file's start; image_rgb [H,W,3] uint8; name: of
    the file, for messages."""

    index: int
    stamp_s: float
    image_rgb: Image
    name: str


class FrameSource(ABC):
    """Frames of one size (width, height), at ``rate`` Hz, ``count`` of them where that is known.

    Files can be iterated again from their start. Iterating raises InputError at a frame that cannot be used.
    """

    size: tuple[int, int]
    rate: float
    count: int | None

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    def thinned(self, every: int) -> Iterator[Frame]:
        """Every ``every``-th frame, beginning with the first."""
        return itertools.islice(self, 0, None, every)

    def close(self) -> None:  # noqa: B027, files have nothing to give back
        """Give back the device, if there is one."""

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_frames(source: str | Path, rate: float = DEFAULT_RATE) -> FrameSource:
    """The frames of a video, an image, a folder of images (natural order of names) or a webcam ("0", "/dev/video0").

    ``rate`` Hz spaces the stamps of images; videos and webcams have their own. Raises InputError.
    """
    path = Path(source)
    if not path.is_file() and not path.is_dir():
        device = re.fullmatch(r"(?:/dev/video)?(\d+)", str(source))
        if device:
            return WebcamFrames(int(device[1]))
        raise InputError(f"There is no file or folder {str(source)!r}: give {EXPECTED}.")
    if path.is_dir():
        return ImageFrames(_images_in(path), rate)
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): expected {EXPECTED}.")
    is_image = path.suffix.lower() in IMAGE_SUFFIXES
    return ImageFrames([path], rate) if is_image else VideoFrames(path)


class ImageFrames(FrameSource):
    """Image files of one size, the first of them read at once."""

    def __init__(self, paths: list[Path], rate: float) -> None:
        if not rate > 0:
            raise InputError(f"The rate of images must be positive, got {rate:g} Hz: give e.g. 30.")
        self.paths = paths
        self.rate = rate
        self.count = len(paths)
        self.size = _size(read_image(paths[0]))

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self.paths):
            image = read_image(path)
            if _size(image) != self.size:
                raise InputError(
                    f"{path} is {_shown(_size(image))}, but {self.paths[0].name} before it is {_shown(self.size)}: "
                    "the images of a folder must come from one camera; put the others elsewhere."
                )
            yield Frame(index, index / self.rate, image, path.name)


class VideoFrames(FrameSource):
    """A video file, its first frame decoded once to know that it can be and what size it has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        capture = _opened(path)
        try:
            image = _next_image(capture)
            if image is None:
                raise InputError(f"{path} holds no frame that can be decoded: it is empty or damaged; {_CONVERT}.")
            self.size = _size(image)
            rate = capture.get(cv2.CAP_PROP_FPS)
            self.rate = rate if 0 < rate < 1000 else DEFAULT_RATE
            announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
            self.count = int(announced) if announced >= 1 else None
        finally:
            capture.release()

    def __iter__(self) -> Iterator[Frame]:
        return self.thinned(1)

    def thinned(self, every: int) -> Iterator[Frame]:
        """Every ``every``-th frame; the others are decoded, as these build on them, but not converted to RGB."""
        capture = _opened(self.path)
        index, stamp_s = 0, 0.0
        try:
            while capture.grab():
                if index:
                    own_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                    stamp_s = own_s if own_s > stamp_s else stamp_s + 1 / self.rate
                if index % every == 0:
                    image = _rgb(*capture.retrieve())
                    if image is None:
                        break
                    yield Frame(index, stamp_s, image, self.path.name)
                index += 1
        finally:
            capture.release()
        if self.count is not None and index < self.count - _MISSING_FRAMES_ALLOWED:
            log.warning(
                "%s announces %d frames but gave %d: it is cut off or damaged, the rest is missing.",
                self.path,
                self.count,
                index,
            )


class WebcamFrames(FrameSource):
    """A webcam until it is unplugged or closed; stamps count from its first frame by the monotonic clock."""

    def __init__(self, device: int) -> None:
        self.count = None
        self._name = f"/dev/video{device}"
        with quiet_opencv():
            self._capture = cv2.VideoCapture(device)
        image = _next_image(self._capture) if self._capture.isOpened() else None
        if image is None:
            self._capture.release()
            raise InputError(
                f"The webcam {self._name} gives no image: expected a camera that is plugged in, readable by this user "
                "and not in use by another program; `ls /dev/video*` shows what there is."
            )
        self.size = _size(image)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else DEFAULT_RATE

    def __iter__(self) -> Iterator[Frame]:
        index, start = 0, time.monotonic()
        while (image := _next_image(self._capture)) is not None:
            yield Frame(index, time.monotonic() - start, image, self._name)
            index += 1

    def close(self) -> None:
        self._capture.release()


def read_image(path: Path) -> Image:
    """[H,W,3] uint8 RGB. Raises InputError for a file that is missing, empty, cut off or no image."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read the image {path}: {error.strerror or error}.") from error
    if not data:
        raise InputError(f"{path} is empty (0 bytes): expected an image.")
    if _is_cut_off(data):
        raise InputError(f"{path} is cut off, its end is missing: copy or download it again.")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise InputError(f"{path} cannot be decoded as an image: {' '.join(str(error.err).split())}.") from error
    if image is None:
        raise InputError(f"{path} cannot be decoded as an image: it is damaged or no image; expected {EXPECTED}.")
    return np.ascontiguousarray(image[..., ::-1])


_CONVERT = "if it plays elsewhere, convert it with `ffmpeg -i IN OUT.mp4`"


def _opened(path: Path) -> cv2.VideoCapture:
    # Other backends would take a damaged clip_01.mp4 for the pattern of an image sequence; some builds only have those.
    has_ffmpeg = cv2.CAP_FFMPEG in cv2.videoio_registry.getStreamBackends()
    with quiet_opencv():
        capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG if has_ffmpeg else cv2.CAP_ANY)
    if not capture.isOpened():
        raise InputError(
            f"{path} cannot be opened as a video: it is cut off, damaged or of an unknown format; expected {EXPECTED}; "
            f"{_CONVERT}."
        )
    # Not every OpenCV does so of itself.
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    return capture


@contextlib.contextmanager
def quiet_opencv() -> Iterator[None]:
    """Without OpenCV's own lines on stderr, where ours will say what happened."""
    level = cv2.getLogLevel()
    cv2.setLogLevel(0)
    try:
        yield
    finally:
        cv2.setLogLevel(level)


def _next_image(capture: cv2.VideoCapture) -> Image | None:
    return _rgb(*capture.read())


def _rgb(is_there: bool, image_bgr: Image) -> Image | None:
    return cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB) if is_there else None


def _images_in(folder: Path) -> list[Path]:
    paths = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not paths:
        raise InputError(f"The folder {folder} holds no images: expected files ending in {', '.join(IMAGE_SUFFIXES)}.")
    return sorted(paths, key=lambda path: _natural_key(path.name))


def _natural_key(name: str) -> list[tuple[int, int, str]]:
    """frame_2 before frame_10."""
    parts = re.split(r"(\d+)", name.lower())
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def _is_cut_off(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end; OpenCV decodes such files, grey from where the data stop.

    A JPEG's entropy-coded data cannot contain a marker, and a thumbnail's end stands before the image's own scan.
    """
    if data.startswith(b"\xff\xd8"):
        return data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    return data.startswith(b"\x89PNG") and b"IEND" not in data


def _size(image: Image) -> tuple[int, int]:
    return image.shape[1], image.shape[0]


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
