"""Images, cameras and detections as ROS messages and as arrays."""

from __future__ import annotations

import array
import contextlib
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray

from metrabs_ros.camera import Camera, CameraError
from metrabs_ros.errors import InputError
from metrabs_ros.pose import Detections

Bytes = NDArray[np.uint8]


def _converted(code: int) -> Callable[[Bytes], Bytes]:
    return lambda pixels: cv2.cvtColor(pixels, code)


# Encoding -> (bytes per pixel, conversion to RGB). OpenCV names a Bayer pattern by its second row's second and third
# pixel, ROS by the first row's first two: rggb is OpenCV's BG.
_DECODERS: dict[str, tuple[int, Callable[[Bytes], Bytes]]] = {
    "rgb8": (3, lambda pixels: pixels),
    "bgr8": (3, _converted(cv2.COLOR_BGR2RGB)),
    "rgba8": (4, _converted(cv2.COLOR_RGBA2RGB)),
    "bgra8": (4, _converted(cv2.COLOR_BGRA2RGB)),
    "mono8": (1, _converted(cv2.COLOR_GRAY2RGB)),
    "mono16": (2, _converted(cv2.COLOR_GRAY2RGB)),
    "yuv422": (2, _converted(cv2.COLOR_YUV2RGB_UYVY)),
    "uyvy": (2, _converted(cv2.COLOR_YUV2RGB_UYVY)),
    "yuv422_yuy2": (2, _converted(cv2.COLOR_YUV2RGB_YUY2)),
    "yuyv": (2, _converted(cv2.COLOR_YUV2RGB_YUY2)),
    "bayer_rggb8": (1, _converted(cv2.COLOR_BayerBG2RGB)),
    "bayer_bggr8": (1, _converted(cv2.COLOR_BayerRG2RGB)),
    "bayer_gbrg8": (1, _converted(cv2.COLOR_BayerGR2RGB)),
    "bayer_grbg8": (1, _converted(cv2.COLOR_BayerGB2RGB)),
}

_CHROMA_SHARING = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv")

# Turning a picture by its EXIF tag would turn it away from its camera_info.
_DECODE_BGR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
# OpenCV before 4.10 decodes to BGR only.
_DECODE_RGB = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION if hasattr(cv2, "IMREAD_COLOR_RGB") else None
_DECODE_GREY = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
# A box whose side is so many times the image's longer side is no detection in it.
_LARGEST_BOX = 10


def image_from_msg(msg: Image) -> Bytes:
    """[H,W,3] uint8 RGB; for rgb8 a view of the message's own data.

    Padded rows are understood; mono16 is scaled to 8 bits. The real cv_bridge converts where it can be imported, but
    for padded rows, mono16 and what is newer than it: there it fails or misreads. Raises InputError for an unknown
    encoding and for data that do not fill the image that the message announces.
    """
    rows = _rows(msg)
    bytes_per_pixel, to_rgb = _DECODERS[msg.encoding]
    if msg.encoding == "mono16":
        wide = rows.view(">u2" if msg.is_bigendian else "<u2").astype(np.uint16)
        return to_rgb(cv2.convertScaleAbs(wide, alpha=1 / 257))
    if (bridge := _cv_bridge()) is not None and rows.strides[0] == rows.shape[1]:
        # CvBridgeError is a TypeError.
        with contextlib.suppress(TypeError):
            return bridge.imgmsg_to_cv2(msg, "rgb8")
    shape = (msg.height, msg.width) if bytes_per_pixel == 1 else (msg.height, msg.width, bytes_per_pixel)
    return to_rgb(np.ascontiguousarray(rows).reshape(shape))


def check_image_msg(msg: Image) -> None:
    """Raises InputError where image_from_msg would; takes no time to speak of."""
    _rows(msg)


def image_from_compressed_msg(msg: CompressedImage) -> Bytes:
    """[H,W,3] uint8 RGB of a JPEG or PNG, as image_transport's compressed plugin writes and reads them.

    16 bits are scaled to 8, a Bayer pattern named in the format is converted. Raises InputError for what is no image,
    or only the beginning of one.
    """
    data = np.frombuffer(msg.data, np.uint8)
    what = f"The compressed image ({len(data)} bytes, format {msg.format!r})"
    if bytes(data[:2]) == _JPEG_START and bytes(data).rfind(_JPEG_END) < 0:
        raise InputError(f"{what} is a JPEG without its end: it was cut off on its way; check the transport.")
    pattern = msg.format.split(";")[0].strip()
    is_bayer = pattern.startswith("bayer_") and pattern in _DECODERS
    # The plugin writes its pixels' first channel as blue, unless it says that they are RGB.
    keeps_order = "compressed rgb" in msg.format
    as_color = _DECODE_BGR if keeps_order or _DECODE_RGB is None else _DECODE_RGB
    try:
        pixels = cv2.imdecode(data, _DECODE_GREY if is_bayer else as_color)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise InputError(
            f"{what} must be a JPEG or PNG: subscribe to the topic of image_transport's compressed plugin, or set "
            "image_transport to raw and subscribe to the image itself."
        )
    if is_bayer:
        return _DECODERS[pattern][1](pixels)
    return pixels if keeps_order or as_color == _DECODE_RGB else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _rows(msg: Image) -> Bytes:
    """[H, W * bytes per pixel] of the message's data without the padding; InputError where they do not fit."""
    if msg.encoding not in _DECODERS:
        raise InputError(
            f"The image encoding {msg.encoding!r} is not known: publish one of {', '.join(sorted(_DECODERS))}, or "
            "convert the image, e.g. with image_proc."
        )
    bytes_per_pixel, _ = _DECODERS[msg.encoding]
    what = f"The {msg.width}x{msg.height} {msg.encoding} image"
    if not msg.width or not msg.height:
        raise InputError(f"{what} has no pixels: check the camera driver.")
    if msg.encoding in _CHROMA_SHARING and msg.width % 2:
        raise InputError(f"{what} must have an even width, as two pixels share their colour: check the camera driver.")
    row_bytes = msg.width * bytes_per_pixel
    if msg.step < row_bytes:
        raise InputError(f"{what} needs a step of at least {row_bytes} bytes, got {msg.step}: check the camera driver.")
    # The last row need not be padded.
    needed = msg.step * (msg.height - 1) + row_bytes
    if len(msg.data) < needed:
        raise InputError(
            f"{what} needs {msg.step * msg.height} bytes of data, got {len(msg.data)}: it was cut off on its way; "
            "check the camera driver and the transport."
        )
    data = np.frombuffer(msg.data, np.uint8)
    return np.lib.stride_tricks.as_strided(data, (msg.height, row_bytes), (msg.step, 1))


@lru_cache(maxsize=1)
def _cv_bridge() -> Any | None:
    """The real cv_bridge where it works; the package of that name on PyPI lacks the compiled half."""
    try:
        from cv_bridge import CvBridge
        from cv_bridge.boost import cv_bridge_boost  # noqa: F401
    except (ImportError, AttributeError):
        return None
    return CvBridge()


def image_to_msg(image_rgb: Bytes, header: Header) -> Image:
    """An rgb8 message of [H,W,3] uint8 RGB."""
    height, width = image_rgb.shape[:2]
    # The setter takes an array.array as it is and checks any other type byte by byte: 0.4 ms against 360 at 1080p.
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(image_rgb).data.cast("B"))
    return Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=data)


def camera_from_msg(info: CameraInfo, rectified: bool = False) -> Camera:
    """The camera of the image that comes with ``info``: its region of interest and binning are applied.

    ``rectified``: the image is rectified, so P holds for it and no lens distortion is left. The camera's frame is then
    the rectified one. Raises CameraError for an uncalibrated camera or a region outside the sensor.
    """
    sensor = (info.width, info.height)
    if rectified:
        camera = Camera(np.reshape(info.p, (3, 4))[:, :3], np.zeros(0), "plumb_bob", sensor)
    else:
        camera = Camera(np.reshape(info.k, (3, 3)), np.array(info.d), info.distortion_model, sensor)
    roi = info.roi
    width, height = roi.width or info.width, roi.height or info.height
    if roi.x_offset + width > info.width or roi.y_offset + height > info.height:
        raise CameraError(
            f"The camera_info's region of interest, {width}x{height} at ({roi.x_offset}, {roi.y_offset}), must lie in "
            f"the sensor's {info.width}x{info.height}: check the camera driver."
        )
    binning_x, binning_y = max(1, info.binning_x), max(1, info.binning_y)
    if (width, height) == sensor and binning_x == binning_y == 1:
        return camera
    # Pixels that do not fill a super-pixel at the right and lower border are not read out.
    whole = (width - width % binning_x, height - height % binning_y)
    return camera.cropped(roi.x_offset, roi.y_offset, whole).zoomed(1 / binning_x, 1 / binning_y)


def detections_from_msg(
    msg: Detection2DArray, size: tuple[int, int], class_ids: Collection[str] = (), min_score: float = 0.0
) -> tuple[Detections, int]:
    """The people among the detections in an image of (width, height), and how many boxes were of no use.

    A detection's score is the highest of its hypotheses that are in ``class_ids`` (empty: of all; without any
    hypothesis: 1); those below ``min_score`` and those of other classes only are left out. A rotated box becomes the
    upright one around it. Of no use: what is not finite, empty, outside the image, or ten times as large as it.
    """
    scored = [(detection, _person_score(detection, class_ids)) for detection in msg.detections]
    people = [(detection.bbox, score) for detection, score in scored if score is not None and not score < min_score]
    rows = [(b.center.position.x, b.center.position.y, b.center.theta, b.size_x, b.size_y) for b, _ in people]
    x, y, theta, width, height = np.array(rows, np.float64).reshape(-1, 5).T
    scores = np.array([score for _, score in people], np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        cosine, sine = np.abs(np.cos(theta)), np.abs(np.sin(theta))
        sides = np.stack([cosine * width + sine * height, sine * width + cosine * height], -1)
        low = np.stack([x, y], -1) - sides / 2
        inside = ((low < np.array(size) - 0.5) & (low + sides > -0.5)).all(-1)
        good = inside & (width > 0) & (height > 0) & (sides < _LARGEST_BOX * max(size)).all(-1) & np.isfinite(scores)
    boxes = np.concatenate([low, sides], -1)
    return Detections.from_boxes(boxes[good], np.clip(scores[good], 0.0, 1.0)), int(np.count_nonzero(~good))


def _person_score(detection: Detection2D, class_ids: Collection[str]) -> float | None:
    """None where no hypothesis is of the classes."""
    hypotheses = [result.hypothesis for result in detection.results]
    if not hypotheses:
        return None if class_ids else 1.0
    return max((one.score for one in hypotheses if not class_ids or one.class_id in class_ids), default=None)


def camera_to_msg(camera: Camera, header: Header) -> CameraInfo:
    """The camera as CameraInfo, full resolution, unbinned, with R the identity and P = [K | 0]."""
    width, height = camera.size
    return CameraInfo(
        header=header,
        width=width,
        height=height,
        distortion_model=camera.distortion_model,
        d=camera.D.tolist() or [0.0] * 5,
        k=camera.K.ravel(),
        r=np.eye(3).ravel(),
        p=np.column_stack([camera.K, np.zeros(3)]).ravel(),
    )


def stamp_s(header: Header) -> float:
    """The header's stamp in seconds."""
    return header.stamp.sec + 1e-9 * header.stamp.nanosec
