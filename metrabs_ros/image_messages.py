"""Pictures out: JPEG as sensor_msgs/CompressedImage, and cut-outs of images."""

from __future__ import annotations

import array

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

Bytes = NDArray[np.uint8]


def jpeg_to_msg(image_rgb: Bytes, header: Header, quality: int = 80) -> CompressedImage:
    """[H,W,3] uint8 RGB as JPEG of a quality 1..100, as image_transport's compressed plugin writes it."""
    bgr = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    data = array.array("B")
    data.frombytes(encoded.data)
    return CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=data)


def clipped_box(box: ArrayLike, size: tuple[int, int]) -> NDArray[np.float64]:
    """xywh px -> the part inside an image of (width, height): left, top, right, bottom in 0..1 of its edges.

    Pixels' centres are integers, so the image's left edge is at -0.5 px.
    """
    x, y, width, height = np.asarray(box, np.float64)
    corners = np.array([x, y, x + width, y + height]) + 0.5
    return np.clip(corners / np.tile(size, 2), 0.0, 1.0)


def cut_out(image_rgb: Bytes, edges: ArrayLike) -> Bytes:
    """The pixels [h,w,3] that touch a part of the image given by clipped_box; h or w may be 0."""
    height, width = image_rgb.shape[:2]
    left, top, right, bottom = np.asarray(edges) * (width, height, width, height)
    return image_rgb[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))]
