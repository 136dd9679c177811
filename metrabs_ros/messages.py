"""ROS messages to arrays and back: the only place that knows both."""

from __future__ import annotations

import array
import colorsys
import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, TransformStamped
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from metrabs_ros.camera import Camera, CameraError
from metrabs_ros.errors import InputError
from metrabs_ros.pose import TrackedPose
from metrabs_ros.skeleton import Skeleton

Bytes = NDArray[np.uint8]

NAMESPACES = ("joints", "bones", "ids")
_GOLDEN_RATIO = 0.618034


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


def image_from_msg(msg: Image) -> Bytes:
    """[H,W,3] uint8 RGB; for rgb8 a view of the message's own data.

    Padded rows are understood; mono16 is scaled to 8 bits. The real cv_bridge converts where it can be imported, but
    for padded rows, mono16 and what is newer than it: there it fails or misreads. Raises InputError for an unknown
    encoding and for data that do not fill the image that the message announces.
    """
    if msg.encoding not in _DECODERS:
        raise InputError(
            f"The image encoding {msg.encoding!r} is not known: publish one of {', '.join(sorted(_DECODERS))}, or "
            "convert the image, e.g. with image_proc."
        )
    bytes_per_pixel, to_rgb = _DECODERS[msg.encoding]
    rows = _rows(msg, bytes_per_pixel)
    if msg.encoding == "mono16":
        wide = rows.view(">u2" if msg.is_bigendian else "<u2").astype(np.uint16)
        return to_rgb(cv2.convertScaleAbs(wide, alpha=1 / 257))
    if (bridge := _cv_bridge()) is not None and rows.strides[0] == rows.shape[1]:
        # CvBridgeError is a TypeError.
        with contextlib.suppress(TypeError):
            return bridge.imgmsg_to_cv2(msg, "rgb8")
    shape = (msg.height, msg.width) if bytes_per_pixel == 1 else (msg.height, msg.width, bytes_per_pixel)
    return to_rgb(np.ascontiguousarray(rows).reshape(shape))


def _rows(msg: Image, bytes_per_pixel: int) -> Bytes:
    """[H, W * bytes_per_pixel] of the message's data without the padding; InputError where they do not fit."""
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


def poses_to_markers(
    poses: Sequence[TrackedPose],
    skeleton: Skeleton,
    header: Header,
    gone_ids: Iterable[int] = (),
    *,
    lifetime_s: float = 0.0,
    scale: float = 1.0,
    up: Sequence[float] = (0.0, -1.0, 0.0),
) -> MarkerArray:
    """Per person the markers ns "joints" (spheres, in the skeleton's order), "bones" (lines) and "ids" (text above the
    head), all with the track id as marker id; ``gone_ids`` are deleted.

    ``lifetime_s`` 0 is for ever; ``scale`` multiplies the sizes; ``up`` is the world's up in the header's frame.
    """
    up_vector = np.asarray(up, np.float64) / np.linalg.norm(up)
    lifetime = _duration(lifetime_s)
    edges = np.array(skeleton.edges, np.intp).reshape(-1)
    markers = []
    for pose in poses:
        joint_colors, bone_colors, text_color = _colors(pose.track_id, skeleton)
        points = [Point(x=x, y=y, z=z) for x, y, z in pose.joints3d.tolist()]
        top = pose.joints3d[np.argmax(pose.joints3d @ up_vector)] + 0.25 * scale * up_vector
        joints = _marker("joints", pose.track_id, header, Marker.SPHERE_LIST, lifetime)
        joints.points, joints.colors = points, joint_colors
        joints.scale.x = joints.scale.y = joints.scale.z = 0.05 * scale
        bones = _marker("bones", pose.track_id, header, Marker.LINE_LIST, lifetime)
        bones.points, bones.colors = [points[end] for end in edges], bone_colors
        bones.scale.x = 0.02 * scale
        text = _marker("ids", pose.track_id, header, Marker.TEXT_VIEW_FACING, lifetime)
        text.text, text.color = str(pose.track_id), text_color
        text.pose.position.x, text.pose.position.y, text.pose.position.z = top.tolist()
        text.scale.z = 0.2 * scale
        markers += [joints, bones, text]
    markers += [
        Marker(header=header, ns=namespace, id=track_id, action=Marker.DELETE)
        for track_id in gone_ids
        for namespace in NAMESPACES
    ]
    return MarkerArray(markers=markers)


def deletion_of_all(header: Header) -> MarkerArray:
    """What takes every marker of this topic out of the view."""
    return MarkerArray(markers=[Marker(header=header, action=Marker.DELETEALL)])


def poses_to_transforms(
    poses: Iterable[TrackedPose], skeleton: Skeleton, header: Header, prefix: str = ""
) -> list[TransformStamped]:
    """A frame ``<prefix>person_<id>/<joint_name>`` per person and joint under the header's frame, not rotated."""
    transforms = []
    for pose in poses:
        parent = f"{prefix}person_{pose.track_id}/"
        for name, (x, y, z) in zip(skeleton.joint_names, pose.joints3d.tolist(), strict=True):
            transform = TransformStamped(header=header, child_frame_id=parent + name)
            translation = transform.transform.translation
            translation.x, translation.y, translation.z = x, y, z
            transforms.append(transform)
    return transforms


def stamp_s(header: Header) -> float:
    """The header's stamp in seconds."""
    return header.stamp.sec + 1e-9 * header.stamp.nanosec


def _marker(namespace: str, track_id: int, header: Header, kind: int, lifetime: Duration) -> Marker:
    marker = Marker(header=header, ns=namespace, id=track_id, type=kind, action=Marker.ADD, lifetime=lifetime)
    marker.pose.orientation.w = 1.0
    return marker


def _duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(sec=whole, nanosec=round((seconds - whole) * 1e9))


@lru_cache(maxsize=64)
def _colors(track_id: int, skeleton: Skeleton) -> tuple[list[ColorRGBA], list[ColorRGBA], ColorRGBA]:
    """Colours of joints [J], of the bones' ends [2 E] and of the text: a person is a hue, left pale, right dark."""
    hue = (track_id * _GOLDEN_RATIO) % 1.0
    by_side = {
        "left": _color(hue, 0.45, 1.0),
        "right": _color(hue, 1.0, 0.6),
        "": _color(hue, 0.8, 0.85),
    }
    sides = [_side(name) for name in skeleton.joint_names]
    bone_sides = [next(filter(None, (sides[a], sides[b])), "") for a, b in skeleton.edges]
    joint_colors = [by_side[side] for side in sides]
    bone_colors = [by_side[side] for side in bone_sides for _ in range(2)]
    return joint_colors, bone_colors, by_side[""]


def _color(hue: float, saturation: float, value: float) -> ColorRGBA:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)


def _side(joint_name: str) -> str:
    side = joint_name.partition("_")[0]
    return side if side in ("left", "right") else ""
