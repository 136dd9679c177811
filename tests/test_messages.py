"""Arrays and ROS messages, there and back."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, TransformStamped
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import Marker, MarkerArray

from metrabs_ros import messages
from metrabs_ros.camera import Camera, CameraError
from metrabs_ros.errors import InputError
from metrabs_ros.frame_messages import FrameBytes, Frames
from metrabs_ros.marker_messages import Look, MarkerBytes, deletion_of_all, people_to_markers
from metrabs_ros.messages import (
    camera_from_msg,
    camera_to_msg,
    image_from_msg,
    image_to_msg,
    stamp_s,
)
from metrabs_ros.skeleton import Skeleton

pytestmark = pytest.mark.ros

WIDTH, HEIGHT = 6, 4
HEADER = Header(frame_id="camera_optical_frame")
SKELETON = Skeleton.from_names(
    ("pelvis", "head", "left_wrist", "right_wrist"),
    (("pelvis", "head"), ("pelvis", "left_wrist"), ("head", "right_wrist")),
)


def message(rows: np.ndarray, encoding: str, padding: int = 0, big_endian: bool = False, width: int = WIDTH) -> Image:
    """A message of rows [H, bytes] with ``padding`` bytes of rubbish after each."""
    padded = np.pad(rows.astype(np.uint8), ((0, 0), (0, padding)), constant_values=171)
    return Image(
        height=len(rows),
        width=width,
        encoding=encoding,
        is_bigendian=big_endian,
        step=padded.shape[1],
        data=array.array("B", padded.tobytes()),
    )


def color_image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [0, 1, 3, 6])
@pytest.mark.parametrize(
    ("encoding", "order"), [("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0]), ("rgba8", [0, 1, 2, 0]), ("bgra8", [2, 1, 0, 0])]
)
def test_color_channels_come_out_as_rgb_whatever_their_order_and_padding(
    encoding: str, order: list[int], padding: int
) -> None:
    rgb = color_image()
    rows = rgb[..., order].reshape(HEIGHT, -1)
    np.testing.assert_array_equal(image_from_msg(message(rows, encoding, padding)), rgb)


@pytest.mark.parametrize("padding", [0, 5])
def test_mono8_is_grey(padding: int) -> None:
    grey = color_image()[..., 0]
    np.testing.assert_array_equal(image_from_msg(message(grey, "mono8", padding)), np.repeat(grey[..., None], 3, -1))


@pytest.mark.parametrize("padding", [0, 2, 3])
@pytest.mark.parametrize("big_endian", [False, True])
def test_mono16_is_scaled_in_both_byte_orders(big_endian: bool, padding: int) -> None:
    grey16 = np.array([[0, 1, 257, 256 * 100, 65534, 65535]] * HEIGHT)
    rows = grey16.astype(">u2" if big_endian else "<u2").view(np.uint8).reshape(HEIGHT, -1)
    image = image_from_msg(message(rows, "mono16", padding, big_endian))
    np.testing.assert_allclose(image[..., 1], grey16 / 257, atol=0.51)


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize(
    ("encoding", "order"), [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")]
)
def test_yuv422_shows_the_colours_that_went_in(encoding: str, order: str, padding: int) -> None:
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.float64)
    # ITU-R BT.601, studio range.
    matrix = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
    luma, blue, red = (colors @ matrix.T + [16, 128, 128]).T
    pair = {"uyvy": [blue, luma, red, luma], "yuyv": [luma, blue, luma, red]}[order]
    row = np.stack(pair, -1).round().ravel()
    image = image_from_msg(message(np.tile(row, (HEIGHT, 1)), encoding, padding))
    np.testing.assert_allclose(image[0], np.repeat(colors, 2, axis=0), atol=3)


@pytest.mark.parametrize("padding", [0, 7])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_are_named_by_their_first_two_rows(pattern: str, padding: int) -> None:
    color = {"r": 200, "g": 120, "b": 40}
    tile = np.array([[color[pattern[0]], color[pattern[1]]], [color[pattern[2]], color[pattern[3]]]])
    image = image_from_msg(message(np.tile(tile, (4, 4)), f"bayer_{pattern}8", padding, width=8))
    np.testing.assert_array_equal(image[2:-2, 2:-2], np.broadcast_to([200, 120, 40], (4, 4, 3)))


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_an_image_comes_back_as_it_was_sent(seed: int, width: int, height: int) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    sent = image_to_msg(rgb, HEADER)
    assert sent.step == 3 * width
    assert sent.header == HEADER
    np.testing.assert_array_equal(image_from_msg(sent), rgb)
    # A view that is not contiguous must not be sent as it lies in memory.
    np.testing.assert_array_equal(image_from_msg(image_to_msg(rgb[::-1, :, ::-1], HEADER)), rgb[::-1, :, ::-1])


def test_the_last_row_need_not_be_padded() -> None:
    rgb = color_image()
    sent = message(rgb.reshape(HEIGHT, -1), "rgb8", 5)
    sent.data = sent.data[:-5]
    np.testing.assert_array_equal(image_from_msg(sent), rgb)


def test_data_that_do_not_fit_are_refused_in_a_sentence() -> None:
    rows = color_image().reshape(HEIGHT, -1)
    with pytest.raises(InputError, match=r"'h264' is not known: publish one of .*bgr8"):
        image_from_msg(message(rows, "h264"))
    with pytest.raises(InputError, match="0x4 rgb8 image has no pixels"):
        image_from_msg(message(rows, "rgb8", width=0))
    with pytest.raises(InputError, match="step of at least 21 bytes, got 18"):
        image_from_msg(message(rows, "rgb8", width=7))
    short = message(rows, "rgb8")
    short.data = short.data[:-1]
    with pytest.raises(InputError, match="needs 72 bytes of data, got 71"):
        image_from_msg(short)
    with pytest.raises(InputError, match="even width"):
        image_from_msg(message(rows[:, :10], "yuv422", width=5))


def test_cv_bridge_and_our_own_conversion_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    if messages._cv_bridge() is None:
        pytest.skip("cv_bridge is not installed: ROS 2 from PyPI lacks it.")
    generator = np.random.default_rng(1)
    rows = {
        name: generator.integers(0, 256, (HEIGHT, WIDTH * d[0]), np.uint8) for name, d in messages._DECODERS.items()
    }
    theirs = {name: image_from_msg(message(data, name)) for name, data in rows.items()}
    monkeypatch.setattr(messages, "_cv_bridge", lambda: None)
    for name, data in rows.items():
        np.testing.assert_allclose(theirs[name].astype(int), image_from_msg(message(data, name)), atol=1, err_msg=name)


# --- cameras ----------------------------------------------------------------------------------------------------------

K = np.array([[500.0, 0, 319.5], [0, 510.0, 239.5], [0, 0, 1]])
D = np.array([-0.2, 0.05, 1e-3, -2e-3, 0.0])


def info(**changes: object) -> CameraInfo:
    made = camera_to_msg(Camera(K, D, "plumb_bob", (640, 480)), HEADER)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [("plumb_bob", D), ("rational_polynomial", np.arange(8) / 100), ("equidistant", np.arange(4) / 100)],
)
def test_a_camera_comes_back_as_it_was_sent(model: str, coefficients: np.ndarray) -> None:
    camera = Camera(K, coefficients, model, (640, 480))
    again = camera_from_msg(camera_to_msg(camera, HEADER))
    np.testing.assert_array_equal(again.K, K)
    np.testing.assert_array_equal(again.D, coefficients)
    assert (again.distortion_model, again.size) == (model, (640, 480))


@given(
    st.integers(0, 300),
    st.integers(0, 200),
    st.integers(20, 340),
    st.integers(20, 280),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_region_and_binning_move_pixels_to_super_pixels(
    x: int, y: int, width: int, height: int, bx: int, by: int
) -> None:
    roi = RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height)
    camera = camera_from_msg(info(roi=roi, binning_x=bx, binning_y=by))
    bx, by = max(1, bx), max(1, by)
    assert camera.size == (width // bx, height // by)
    point = np.array([0.1, -0.2, 2.0])
    (u, v), _ = camera_from_msg(info()).project(point)
    expected = ((u - x + 0.5) / bx - 0.5, (v - y + 0.5) / by - 0.5)
    np.testing.assert_allclose(camera.project(point)[0], expected, atol=1e-9)


def test_an_empty_region_and_binning_of_zero_mean_the_whole_sensor() -> None:
    camera = camera_from_msg(info(roi=RegionOfInterest(), binning_x=0, binning_y=0))
    assert camera.size == (640, 480)
    np.testing.assert_array_equal(camera.K, K)


def test_a_rectified_image_has_the_left_of_p_and_no_distortion() -> None:
    P = np.array([[450.0, 0, 300, -20], [0, 450, 200, 0], [0, 0, 1, 0]])
    camera = camera_from_msg(info(p=P.ravel()), rectified=True)
    np.testing.assert_array_equal(camera.K, P[:, :3])
    assert not camera.is_distorted
    assert camera_from_msg(info(p=P.ravel())).is_distorted


def test_cameras_that_cannot_be_are_refused_in_a_sentence() -> None:
    with pytest.raises(CameraError, match="K is all zeros"):
        camera_from_msg(info(k=np.zeros(9)))
    with pytest.raises(CameraError, match="finite"):
        camera_from_msg(info(k=np.full(9, np.nan)))
    with pytest.raises(CameraError, match="K is all zeros"):
        camera_from_msg(info(p=np.zeros(12)), rectified=True)
    with pytest.raises(CameraError, match="'spherical' is not known"):
        camera_from_msg(info(distortion_model="spherical"))
    with pytest.raises(CameraError, match="takes 0, 4, 5, 8, 12 or 14 coefficients, got 3"):
        camera_from_msg(info(d=[0.1, 0.2, 0.3]))
    with pytest.raises(CameraError, match=r"600x400 at \(100, 0\), must lie in the sensor's 640x480"):
        camera_from_msg(info(roi=RegionOfInterest(x_offset=100, width=600, height=400)))


# --- poses ------------------------------------------------------------------------------------------------------------


def person(track_id: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + track_id).normal([0, 0, 3], 0.5, (4, 3))


def markers_of(track_id: int, joints: np.ndarray | None = None, **how: Any) -> list[Marker]:
    joints = person(track_id) if joints is None else joints
    up = how.pop("up", (0.0, -1.0, 0.0))
    return list(people_to_markers(joints[None], [track_id], Look(SKELETON, **how), HEADER, up=up).markers)


def xyz(point: Point) -> tuple[float, float, float]:
    return point.x, point.y, point.z


def test_markers_hold_joints_bones_and_the_id_above_the_head() -> None:
    at = person(7)
    made = markers_of(7, lifetime_s=1.25, scale=2.0)
    joints, bones, text = made
    assert [(m.ns, m.id, m.type, m.action) for m in made] == [
        ("joints", 7, Marker.SPHERE_LIST, Marker.ADD),
        ("bones", 7, Marker.LINE_LIST, Marker.ADD),
        ("ids", 7, Marker.TEXT_VIEW_FACING, Marker.ADD),
    ]
    assert all(m.header == HEADER and m.pose.orientation.w == 1.0 for m in made)
    assert all((m.lifetime.sec, m.lifetime.nanosec) == (1, 250_000_000) for m in made)
    np.testing.assert_array_equal([xyz(p) for p in joints.points], at)
    np.testing.assert_array_equal([xyz(p) for p in bones.points], at[[0, 1, 0, 2, 1, 3]])
    assert len(joints.colors) == 4
    assert len(bones.colors) == 6
    assert text.text == "7"
    # y points down: the text stands higher than the highest joint.
    highest = at[at[:, 1].argmin()]
    np.testing.assert_allclose(xyz(text.pose.position), highest - [0, 0.5, 0])


def test_the_text_stands_above_the_head_of_a_rolled_camera() -> None:
    at = person(1)
    text = markers_of(1, up=(2.0, 0.0, 0.0))[2]
    np.testing.assert_allclose(xyz(text.pose.position), at[at[:, 0].argmax()] + [0.25, 0, 0])


def test_joints_that_are_not_known_are_not_shown_nor_their_bones() -> None:
    at = person(1)
    at[1] = np.nan
    joints, bones, text = markers_of(1, at)
    np.testing.assert_array_equal([xyz(p) for p in joints.points], at[[0, 2, 3]])
    np.testing.assert_array_equal([xyz(p) for p in bones.points], at[[0, 2]])
    assert (len(joints.colors), len(bones.colors)) == (3, 2)
    assert joints.colors[1] == markers_of(1)[0].colors[2], "colours stay with their joints"
    assert np.isfinite(xyz(text.pose.position)).all()
    assert markers_of(1, np.full((4, 3), np.nan)) == []


def test_who_is_gone_is_deleted_from_all_three_namespaces() -> None:
    nobody = np.zeros((0, 4, 3))
    made = people_to_markers(nobody, [], Look(SKELETON), HEADER, [3, 5]).markers
    assert {(m.ns, m.id) for m in made} == {(ns, i) for ns in ("joints", "bones", "ids") for i in (3, 5)}
    assert {m.action for m in made} == {Marker.DELETE}
    assert [m.action for m in deletion_of_all(HEADER).markers] == [Marker.DELETEALL]
    assert people_to_markers(nobody, [], Look(SKELETON), HEADER).markers == []


def test_colours_tell_people_and_sides_apart_and_stay() -> None:
    def colors(track_id: int, seed: int = 0) -> list[tuple[float, float, float]]:
        return [(c.r, c.g, c.b) for c in markers_of(track_id, person(track_id, seed))[0].colors]

    assert colors(3) == colors(3, seed=9)
    _, head, left, right = colors(3)
    assert len({head, left, right}) == 3
    heads = np.array([colors(track_id)[1] for track_id in range(1, 9)])
    distances = np.linalg.norm(heads[:, None] - heads[None], axis=-1)[~np.eye(8, dtype=bool)]
    assert distances.min() > 0.15


def frames_in(message: bytes | None) -> list[TransformStamped]:
    assert message is not None
    return list(deserialize_message(message, TFMessage).transforms)


def test_frames_keep_their_names_and_move() -> None:
    frames = FrameBytes()
    places = person(1)[:3]
    turns = np.array([[1.0, 0, 0, 0], [0, 0, 0, 1], [0.5, 0.5, 0.5, 0.5]])
    for sec, parents, at in (
        (3, ("map", "map", "a"), places),
        (-4, ("map", "map", "a"), places + 1),
        (5, "xyz", places),
    ):
        stamp = Time(sec=sec, nanosec=999_999_999)
        made = frames_in(frames.of(stamp, Frames(parents, ("a", "b", "longer"), at, turns)))
        assert [t.child_frame_id for t in made] == ["a", "b", "longer"]
        assert [t.header.frame_id for t in made] == list(parents)
        assert all(t.header.stamp == stamp for t in made)
        np.testing.assert_array_equal([xyz(t.transform.translation) for t in made], at)
        rotations = [t.transform.rotation for t in made]
        np.testing.assert_array_equal([(r.x, r.y, r.z, r.w) for r in rotations], turns)
    (made,) = frames_in(frames.of(Time(), Frames(["map"], ["a"], places[:1])))
    assert (made.transform.rotation.z, made.transform.rotation.w) == (0.0, 1.0)


def test_a_frame_that_is_not_known_is_left_out_and_comes_back() -> None:
    frames = FrameBytes()
    places = np.array([[np.nan] * 3, [1.0, 2, 3]])
    for at, known in ((places, ["b"]), (np.zeros((2, 3)), ["a", "b"]), (places + 1, ["b"])):
        made = frames_in(frames.of(Time(), Frames(["map"] * 2, ["a", "b"], at)))
        assert [t.child_frame_id for t in made] == known
        np.testing.assert_array_equal([xyz(t.transform.translation) for t in made], at[np.isfinite(at).all(1)])
    assert frames.of(Time(), Frames(["map"], ["a"], places[:1])) is None
    assert frames.of(Time(), Frames([], [], np.zeros((0, 3)))) is None


def test_frames_of_people_who_come_and_go() -> None:
    frames = FrameBytes()
    for k in [*range(12), 0, 11]:
        (made,) = frames_in(frames.of(Time(sec=k), Frames(["map"], [f"person_{k}"], np.full((1, 3), float(k)))))
        assert (made.header.stamp.sec, made.child_frame_id, made.transform.translation.y) == (k, f"person_{k}", k)


@pytest.mark.parametrize("edges", [SKELETON.edges, ()])
def test_markers_as_bytes_are_the_same_markers(edges: tuple[tuple[int, int], ...]) -> None:
    drawn = MarkerBytes()
    skeleton = Skeleton(SKELETON.joint_names, edges)
    for step, (ids, look) in enumerate(
        [([7], Look(skeleton)), ([7], Look(skeleton)), ([7, 12], Look(skeleton, 0.5, 2.0)), ([12], Look(skeleton))]
    ):
        joints = np.stack([person(i, seed=step) for i in ids])
        header = Header(frame_id="map", stamp=Time(sec=step, nanosec=step))
        up = (0.1, -1.0, 0.1 * step)
        made = drawn.of(joints, ids, look, header, up=up)
        assert isinstance(made, bytes)
        expected = serialize_message(people_to_markers(joints, ids, look, header, up=up))
        # Their gaps between numbers may hold anything.
        assert deserialize_message(made, MarkerArray) == deserialize_message(expected, MarkerArray)


def test_markers_of_joints_that_are_not_known_as_bytes() -> None:
    drawn, look = MarkerBytes(), Look(SKELETON)
    everything = np.stack([person(i) for i in (1, 2, 3)])
    unknown = everything.copy()
    unknown[0, 1] = unknown[1] = np.nan
    for joints in (everything, unknown, unknown + 1, everything):
        made = drawn.of(joints, [1, 2, 3], look, HEADER)
        assert isinstance(made, bytes)
        expected = serialize_message(people_to_markers(joints, [1, 2, 3], look, HEADER))
        assert deserialize_message(made, MarkerArray) == deserialize_message(expected, MarkerArray)


def test_markers_are_a_message_where_somebody_is_gone_or_nobody_there() -> None:
    drawn, look = MarkerBytes(), Look(SKELETON)
    joints = person(1)[None]
    assert drawn.of(joints, [1], look, HEADER, [2]) == people_to_markers(joints, [1], look, HEADER, [2])
    for nobody in (joints[:0], joints * np.nan):
        assert drawn.of(nobody, [1] * len(nobody), look, HEADER) == MarkerArray()


def test_stamps_are_seconds() -> None:
    header = Header()
    header.stamp.sec, header.stamp.nanosec = 12, 345_000_000
    assert stamp_s(header) == pytest.approx(12.345)
