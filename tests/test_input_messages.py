"""Compressed images and detections as arrays."""

from __future__ import annotations

import array
import math

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import Pose, PoseWithCovariance
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
)

from metrabs_ros import messages
from metrabs_ros.errors import InputError
from metrabs_ros.messages import detections_from_msg, image_from_compressed_msg

pytestmark = pytest.mark.ros

SIZE = (640, 480)


def compressed(pixels: np.ndarray, suffix: str, text: str) -> CompressedImage:
    """Pixels as OpenCV encodes them: the first channel as blue."""
    _, encoded = cv2.imencode(suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, 98])
    return CompressedImage(format=text, data=array.array("B", encoded.tobytes()))


def stripes() -> np.ndarray:
    """[32,48,3] RGB: red, green and blue stripes of 16 px."""
    return np.repeat(np.repeat(np.diag([255, 255, 255])[None], 32, 0), 16, 1).astype(np.uint8)


# --- compressed images ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".png", "png"),
        (".jpg", "jpeg"),
        (".jpg", "rgb8; jpeg compressed bgr8"),
        (".png", "bgr8; png compressed bgr8"),
        (".jpg", ""),
    ],
)
@pytest.mark.parametrize("is_old", [False, True])
def test_colours_come_out_as_rgb(suffix: str, text: str, is_old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_old:
        monkeypatch.setattr(messages, "_DECODE_RGB", None)
    image = image_from_compressed_msg(compressed(stripes()[..., ::-1], suffix, text))
    assert image.dtype == np.uint8
    # JPEG mixes colours at their border.
    for column in (6, 24, 42):
        np.testing.assert_allclose(image[:, column], stripes()[:, column], atol=3 if suffix == ".jpg" else 0)


def test_pixels_that_were_compressed_as_rgb_are_said_to_be() -> None:
    message = compressed(stripes(), ".png", "rgb8; png compressed rgb8")
    np.testing.assert_array_equal(image_from_compressed_msg(message), stripes())


def test_grey_and_sixteen_bits_become_eight_bit_rgb() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    of_grey = image_from_compressed_msg(compressed(grey, ".png", "mono8; png compressed mono8"))
    np.testing.assert_array_equal(of_grey, np.repeat(grey[..., None], 3, -1))
    deep = image_from_compressed_msg(compressed(grey.astype(np.uint16) * 257, ".png", "mono16; png compressed mono16"))
    np.testing.assert_allclose(deep[..., 0], grey, atol=1)


def test_a_compressed_bayer_pattern_is_converted() -> None:
    tile = np.array([[200, 120], [120, 40]], np.uint8)
    message = compressed(np.tile(tile, (8, 8)), ".png", "bayer_rggb8; png compressed bayer_rggb8")
    image = image_from_compressed_msg(message)
    np.testing.assert_array_equal(image[2:-2, 2:-2], np.broadcast_to([200, 120, 40], (12, 12, 3)))


def test_a_picture_is_not_turned_by_its_exif_tag() -> None:
    plain = compressed(np.zeros((20, 40, 3), np.uint8), ".jpg", "jpeg")
    # APP1 with one IFD entry: orientation (0x0112), SHORT, 1, 6 (turn by 90 degrees).
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    body = b"Exif\x00\x00" + tiff
    tag = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
    data = bytes(plain.data)
    turned = CompressedImage(format="jpeg", data=array.array("B", data[:2] + tag + data[2:]))
    assert cv2.imdecode(np.frombuffer(turned.data, np.uint8), cv2.IMREAD_COLOR).shape[:2] == (40, 20), "the tag works"
    assert image_from_compressed_msg(turned).shape == (20, 40, 3)


@pytest.mark.parametrize("data", [b"", b"\x00", b"no picture at all", b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused_in_a_sentence(data: bytes) -> None:
    message = CompressedImage(format="jpeg", data=array.array("B", data))
    with pytest.raises(InputError, match=rf"\({len(data)} bytes, format 'jpeg'\) must be a JPEG or PNG"):
        image_from_compressed_msg(message)


def test_half_a_jpeg_is_refused() -> None:
    message = compressed(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), ".jpg", "jpeg")
    message.data = message.data[: len(message.data) // 2]
    with pytest.raises(InputError, match="JPEG without its end"):
        image_from_compressed_msg(message)


# --- detections -------------------------------------------------------------------------------------------------------


def detection(
    x: float, y: float, width: float, height: float, scores: dict[str, float] | None = None, theta: float = 0.0
) -> Detection2D:
    results = [
        ObjectHypothesisWithPose(
            hypothesis=ObjectHypothesis(class_id=name, score=score), pose=PoseWithCovariance(pose=Pose())
        )
        for name, score in (scores or {}).items()
    ]
    center = Pose2D(position=Point2D(x=x, y=y), theta=theta)
    return Detection2D(results=results, bbox=BoundingBox2D(center=center, size_x=width, size_y=height))


def read(*detections: Detection2D, **how: object) -> tuple[np.ndarray, np.ndarray, int]:
    found, useless = detections_from_msg(Detection2DArray(detections=list(detections)), SIZE, **how)  # type: ignore[arg-type]
    return found.boxes, found.scores, useless


def test_a_box_is_given_by_its_middle_and_comes_out_by_its_corner() -> None:
    boxes, scores, useless = read(detection(100.0, 200.0, 40.0, 80.0, {"person": 0.7}))
    np.testing.assert_array_equal(boxes, [[80, 160, 40, 80]])
    assert (scores.tolist(), useless) == ([0.7], 0)


def test_no_detection_is_a_normal_frame_and_sixty_are_kept_in_order() -> None:
    boxes, scores, _ = read()
    assert (boxes.shape, scores.shape) == ((0, 4), (0,))
    many = [detection(10.0 * i + 20, 240.0, 30.0, 60.0) for i in range(60)]
    boxes, scores, _ = read(*many)
    np.testing.assert_array_equal(boxes[:, 0], 10.0 * np.arange(60) + 5)
    assert (scores == 1).all()


@pytest.mark.parametrize(
    "bad",
    [
        (math.nan, 0.0, 10.0, 10.0),
        (50.0, 50.0, math.inf, 10.0),
        (50.0, 50.0, 10.0, math.nan),
        (50.0, 50.0, 0.0, 10.0),
        (50.0, 50.0, 10.0, -5.0),
        (-100.0, 50.0, 50.0, 50.0),
        (1e300, 50.0, 1e300, 50.0),
        (320.0, 240.0, 1e9, 1e9),
    ],
)
def test_boxes_of_no_use_are_left_out_and_counted(bad: tuple[float, float, float, float]) -> None:
    boxes, _, useless = read(detection(*bad), detection(300.0, 200.0, 40.0, 80.0))
    assert useless == 1
    np.testing.assert_array_equal(boxes, [[280, 160, 40, 80]])


def test_a_box_that_leaves_the_image_stays_as_it_is() -> None:
    boxes, _, useless = read(detection(0.0, 240.0, 100.0, 600.0))
    np.testing.assert_array_equal(boxes, [[-50, -60, 100, 600]])
    assert useless == 0


def test_classes_and_scores_choose_whom_to_look_at() -> None:
    dog = detection(100.0, 100.0, 20.0, 20.0, {"dog": 0.9, "person": 0.2})
    man = detection(200.0, 100.0, 20.0, 20.0, {"person": 0.6})
    unknown = detection(300.0, 100.0, 20.0, 20.0)
    assert read(dog, man, unknown)[1].tolist() == [0.9, 0.6, 1.0]
    assert read(dog, man, unknown, class_ids=("person",))[1].tolist() == [0.2, 0.6]
    assert read(dog, man, class_ids=("person",), min_score=0.5)[1].tolist() == [0.6]
    assert read(dog, man, class_ids=("cat",))[1].tolist() == []
    boxes, _, useless = read(detection(1.0, 1.0, 5.0, 5.0, {"person": math.nan}))
    assert (len(boxes), useless) == (0, 1)


@given(st.floats(-10, 10), st.floats(1, 200), st.floats(1, 200))
def test_a_turned_box_becomes_the_upright_one_around_it(theta: float, width: float, height: float) -> None:
    boxes, _, _ = read(detection(320.0, 240.0, width, height, theta=theta))
    turn = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    corners = np.array([[a * width / 2, b * height / 2] for a in (-1, 1) for b in (-1, 1)]) @ turn.T + [320, 240]
    low, high = corners.min(0), corners.max(0)
    np.testing.assert_allclose(boxes, [[*low, *(high - low)]], atol=1e-9)
