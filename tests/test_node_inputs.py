"""What pose_node takes in: compressed images, calibrations, detections, TF. Over real DDS."""

from __future__ import annotations

import array
import re
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from lifecycle_msgs.msg import Transition
from pose_node_for_tests import CAMERA, SIZE, actions, fake_node, frame, set_parameter, shown
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_fake_node import SlowFakePipeline
from ros_support import PATIENCE_S, RESEND_S, PosePeer, flat_image, header_at, header_now
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, CompressedImage
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, Point2D, Pose2D

pytestmark = pytest.mark.ros

LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def send_until(peer: PosePeer, send: Any, condition: Any, what: str) -> None:
    """Calls ``send`` until ``condition`` holds: best effort loses what comes before the connection stands."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"Sent for {PATIENCE_S:g} s in vain for {what}."
        send()
        try:
            peer.wait_until(condition, what, RESEND_S)
        except AssertionError:
            continue


def joints_of(array: Any, track_id: int) -> np.ndarray:
    marker = next(m for m in array.markers if m.ns == "joints" and m.id == track_id)
    return np.array([(p.x, p.y, p.z) for p in marker.points])


# --- compressed images ------------------------------------------------------------------------------------------------


def compressed(people: int, suffix: str = ".png") -> CompressedImage:
    _, data = cv2.imencode(suffix, flat_image(people))
    return CompressedImage(header=header_now(), format=suffix[1:], data=array.array("B", data.tobytes()))


def test_compressed_images_come_from_the_topic_beside_the_one_that_image_is_remapped_to(domain: int) -> None:
    arguments = ("-p", "image_transport:=compressed", "-p", "fov_deg:=60.0", "-r", "image:=/cam/image_raw")
    with fake_node(domain, *arguments) as node, PosePeer(domain) as peer:
        node.wait_for("Waiting for images on /cam/image_raw/compressed with a field of view of 60 degrees")
        images = peer.node.create_publisher(CompressedImage, "/cam/image_raw/compressed", 5)
        good = compressed(2)
        send_until(peer, lambda: images.publish(good), lambda: peer.marker_arrays_of(good.header.stamp), "markers")
        assert actions(peer.marker_arrays_of(good.header.stamp)[0]) == shown(1, 2)

        rubbish = CompressedImage(header=header_now(), format="jpeg", data=array.array("B", b"rubbish"))
        send_until(peer, lambda: images.publish(rubbish), lambda: node.count("must be a JPEG or PNG"), "the warning")
        after = compressed(1)
        send_until(peer, lambda: images.publish(after), lambda: peer.marker_arrays_of(after.header.stamp), "markers")


def test_the_compressed_topic_itself_can_be_remapped(domain: int) -> None:
    with fake_node(domain, "-p", "image_transport:=compressed", "-r", "image/compressed:=/my/jpegs") as node:
        node.wait_for("Waiting for images on /my/jpegs with /camera_info")


# --- encodings --------------------------------------------------------------------------------------------------------

# Two people, for the fake pipeline: a grey of 2, and how many bytes of it make a pixel. Luma 16 is black, and 18 is 2.
GREY_2 = {
    "rgb8": b"\2\2\2", "bgr8": b"\2\2\2", "rgba8": b"\2\2\2\xff", "bgra8": b"\2\2\2\xff", "mono8": b"\2",
    "mono16": b"\2\2", "yuv422": b"\x80\x12", "uyvy": b"\x80\x12", "yuv422_yuy2": b"\x12\x80", "yuyv": b"\x12\x80",
    "bayer_rggb8": b"\2", "bayer_bggr8": b"\2", "bayer_gbrg8": b"\2", "bayer_grbg8": b"\2",
}  # fmt: skip


def test_every_encoding_arrives_as_the_same_picture(domain: int) -> None:
    with fake_node(domain) as node, PosePeer(domain) as peer:
        peer.wait_for_subscribers()
        for index, (encoding, pixel) in enumerate(GREY_2.items()):
            image, info = frame(0, header_at(1000.0 + index))
            image.encoding, image.step = encoding, SIZE[0] * len(pixel) + 8
            image.data = array.array("B", (pixel * SIZE[0] + bytes(8)) * SIZE[1])
            assert shown(1, 2) <= actions(peer.answer(image, info)), f"{encoding}:\n{node.output}"


# --- calibrations -----------------------------------------------------------------------------------------------------


def calibration_file(folder: Path) -> Path:
    path = folder / "camera.yaml"
    k = ", ".join(map(str, CAMERA.K.ravel()))
    path.write_text(
        f"image_width: {SIZE[0]}\nimage_height: {SIZE[1]}\ncamera_matrix: {{rows: 3, cols: 3, data: [{k}]}}\n"
        "distortion_model: plumb_bob\ndistortion_coefficients: {rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}\n"
    )
    return path


def test_a_calibration_file_replaces_camera_info(tmp_path: Path, domain: int) -> None:
    url = calibration_file(tmp_path).as_uri()
    with fake_node(domain, "-p", f"camera_info_url:={url}") as node, PosePeer(domain) as peer:
        node.wait_for(f"Waiting for images on /image with the calibration {url}")
        peer.wait_for_subscribers(with_info=False)
        assert actions(peer.answer(frame(1)[0], CameraInfo())) == shown(1)
        assert peer.infos.get_subscription_count() == 0
        peer.send_until(lambda: node.count("calibrated for images of 64x48"), *frame(1, size=(80, 60)), "the warning")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"camera_info_url": "file:///nowhere/camera.yaml"}, "Cannot read the calibration file /nowhere/camera.yaml"),
        ({"camera_info_url": "package://no_such_package/a.yaml"}, "The package no_such_package .* is not installed"),
        ({"camera_info_url": "http://host/a.yaml"}, "camera_info_url must be file:///DIR/FILE.yaml or package://"),
        ({"camera_info_url": "file:///a.yaml", "fov_deg": "60.0"}, "give one of them"),
    ],
)
def test_a_calibration_that_cannot_be_used_stops_configuration(
    domain: int, given: dict[str, str], sentence: str
) -> None:
    arguments = [part for name, value in given.items() for part in ("-p", f"{name}:={value}")]
    with fake_node(domain, *arguments) as node, PosePeer(domain) as peer:
        node.wait_for(f"Cannot configure: .*{sentence}")
        assert peer.state() == "unconfigured"
        for name in given:
            assert set_parameter(peer, name, "" if name == "camera_info_url" else 60.0).successful
        assert peer.change_state(Transition.TRANSITION_CONFIGURE)


# --- detections from a topic ------------------------------------------------------------------------------------------


class DetectionPeer(PosePeer):
    """Publishes `detections`, too."""

    def __init__(self, domain: int) -> None:
        super().__init__(domain)
        self.detections = self.node.create_publisher(Detection2DArray, "detections", 50)

    def wait_for_all(self) -> None:
        self.wait_until(self.detections.get_subscription_count, "the subscription of detections")
        self.wait_for_subscribers()

    def send_all(self, image: Any, info: Any, boxes: Detection2DArray) -> None:
        self.send(image, info)
        self.detections.publish(boxes)


def boxes_at(header: Any, *boxes: tuple[float, float, float, float]) -> Detection2DArray:
    made = [
        Detection2D(bbox=BoundingBox2D(center=Pose2D(position=Point2D(x=x, y=y)), size_x=w, size_y=h))
        for x, y, w, h in boxes
    ]
    return Detection2DArray(header=header, detections=made)


@pytest.mark.parametrize("count", [0, 1, 60])
def test_detections_of_the_same_stamp_say_who_is_there(domain: int, count: int) -> None:
    with fake_node(domain, "-p", "detector:=topic") as node, DetectionPeer(domain) as peer:
        node.wait_for("Waiting for images on /image with /camera_info and /detections")
        peer.wait_for_all()
        header = header_now()
        image, info = frame(5, header)
        boxes = boxes_at(header, *[(32.0, 24.0, 10.0, 20.0)] * count)
        people = peer.listen(TFMessage, "/tf")
        done = peer.listen(DiagnosticArray, "/diagnostics")

        def is_done() -> bool:
            last = next((s for s in done[-1][1].status if "camera" in s.name), None) if done else None
            return last is not None and any(pair.key == "frames" and pair.value != "0" for pair in last.values)

        send_until(peer, lambda: peer.send_all(image, info, boxes), is_done, "a frame")
        ids = {t.child_frame_id.split("/")[0] for _, message in people for t in message.transforms}
        assert {name for name in ids if name.startswith("person_")} == {f"person_{i + 1}" for i in range(count)}


def test_boxes_of_no_use_are_warned_of_and_the_others_are_looked_at(domain: int) -> None:
    with fake_node(domain, "-p", "detector:=topic") as node, DetectionPeer(domain) as peer:
        peer.wait_for_all()
        header = header_now()
        good, nan, outside = (32.0, 24.0, 10.0, 20.0), (float("nan"), 1.0, 1.0, 1.0), (900.0, 24.0, 10.0, 20.0)
        boxes = boxes_at(header, nan, good, outside)
        image, info = frame(1, header)
        condition = lambda: peer.marker_arrays_of(header.stamp)  # noqa: E731
        send_until(peer, lambda: peer.send_all(image, info, boxes), condition, "markers")
        assert actions(condition()[0]) == shown(1)
        node.wait_for("2 of 3 detections are of no use in an image of 64x48")


def test_images_whose_detections_never_come_are_warned_of_and_do_not_wait_for_ever(domain: int) -> None:
    with fake_node(domain, "-p", "detector:=topic") as node, DetectionPeer(domain) as peer:
        peer.wait_for_all()
        stop = threading.Event()

        def publish() -> None:
            while not stop.wait(0.05):
                peer.send(*frame(1))

        publisher = threading.Thread(target=publish)
        publisher.start()
        try:
            node.wait_for("Images arrive on /image, but no detections at all: .*set detector to engine")
            peer.detections.publish(boxes_at(header_at(1.0)))
            node.wait_for("no detections with their stamps: the detector must keep its image's stamp")
        finally:
            stop.set()
            publisher.join()
        assert not peer.markers
        header = header_now()
        image, info = frame(1, header)
        boxes = boxes_at(header, (32.0, 24.0, 10.0, 20.0))
        condition = lambda: peer.marker_arrays_of(header.stamp)  # noqa: E731
        send_until(peer, lambda: peer.send_all(image, info, boxes), condition, "markers")


# --- TF ---------------------------------------------------------------------------------------------------------------


def transform(
    parent: str, child: str, stamp_s: float, place: list[float], rotation: Rotation | None = None
) -> TransformStamped:
    made = TransformStamped(header=header_at(stamp_s, parent), child_frame_id=child)
    to = made.transform
    to.translation.x, to.translation.y, to.translation.z = place
    turn = (rotation or Rotation.identity()).as_quat().tolist()
    to.rotation.x, to.rotation.y, to.rotation.z, to.rotation.w = turn
    return made


# From x right, y down, z forward to x forward, y left, z up.
OPTICAL = Rotation.from_matrix([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def test_people_are_published_in_the_target_frame_at_the_stamp_of_their_image(domain: int) -> None:
    arguments = ("-p", "target_frame:=map", "-p", "gravity_frame:=map", "-p", "fov_deg:=60.0")
    with fake_node(domain, *arguments) as node, PosePeer(domain) as peer:
        moving = peer.node.create_publisher(TFMessage, "/tf", 50)
        static = peer.node.create_publisher(TFMessage, "/tf_static", LATCHED)
        static.publish(TFMessage(transforms=[transform("base", "camera_optical_frame", 0.0, [0.1, 0.0, 1.5], OPTICAL)]))
        peer.wait_for_subscribers(with_info=False)
        # The camera of a robot that drives 1 m/s along x, and looks 0.25 s after the first and before the second.
        start = 1000.0
        tilt = Rotation.from_euler("y", 20, degrees=True)
        poses = [transform("map", "base", start + t, [t, 0.0, 0.0], tilt) for t in (0.0, 0.5)]
        image, info = frame(1, header_at(start + 0.25))

        def send() -> None:
            moving.publish(TFMessage(transforms=poses))
            peer.send(image, info)

        def in_map() -> list[Any]:
            return [m for m in peer.marker_arrays_of(image.header.stamp) if m.markers[0].header.frame_id == "map"]

        up_in_camera = (tilt * OPTICAL).inv().apply([0, 0, 1])

        def is_known() -> bool:
            # The transforms may come between the node's two questions, and what it writes is read by another thread.
            told = re.findall(r"up \[(.*)\]", node.output)
            up = [float(part) for part in told[-1].split(",")] if told else [np.nan] * 3
            return bool(in_map()) and np.allclose(up, up_in_camera, atol=2e-3)

        send_until(peer, send, is_known, f"markers in the map, and {up_in_camera} as up")
        before = len(in_map())
        send_until(peer, send, lambda: len(in_map()) > before, "markers with that up")
        markers = in_map()[-1]
        expected = tilt.apply(OPTICAL.apply(SlowFakePipeline.joints) + [0.1, 0.0, 1.5]) + [0.25, 0.0, 0.0]
        np.testing.assert_allclose(joints_of(markers, 1), expected, atol=1e-6)
        assert {marker.header.stamp.sec for marker in markers.markers} == {1000}
        # Up in the camera's frame is the map's z, and the other way round.
        text = next(marker for marker in markers.markers if marker.ns == "ids").pose.position
        highest = expected[expected[:, 2].argmax()]
        np.testing.assert_allclose([text.x, text.y], highest[:2], atol=1e-6)
        assert text.z > highest[2]


def test_the_floor_says_what_is_up_and_how_high_the_camera_is(domain: int) -> None:
    arguments = ("-p", "floor_frame:=base_footprint", "-p", "gravity_frame:=nowhere", "-p", "fov_deg:=60.0")
    with fake_node(domain, *arguments) as node, PosePeer(domain) as peer:
        static = peer.node.create_publisher(TFMessage, "/tf_static", LATCHED)
        tilt = Rotation.from_euler("y", 20, degrees=True) * OPTICAL
        static.publish(
            TFMessage(
                transforms=[
                    transform("base_footprint", "camera_optical_frame", 0.0, [0.1, 0.0, 1.25], tilt),
                    transform("base_footprint", "ceiling", 0.0, [0.0, 0.0, 2.5]),
                ]
            )
        )
        peer.wait_for_subscribers(with_info=False)
        told = r"up \[([^]]*)\], camera_height 1\.25"
        send_until(peer, lambda: peer.send(*frame(1)), lambda: bool(re.search(told, node.output)), told)
        up = [float(part) for part in re.findall(told, node.output)[-1].split(",")]
        np.testing.assert_allclose(up, tilt.inv().apply([0, 0, 1]), atol=2e-3)

        assert set_parameter(peer, "camera_height", 0.8).successful
        assert set_parameter(peer, "floor_frame", "ceiling").successful
        peer.answer(*frame(1))
        node.wait_for(r"The camera is 1\.25 m below the plane z = 0 of ceiling: up and camera_height hold instead")
        node.wait_for(r"camera_height 0\.8")
        assert not set_parameter(peer, "camera_height", -1.0).successful


def test_without_the_transform_people_stay_in_the_cameras_frame_with_a_warning(domain: int) -> None:
    arguments = (
        "-p",
        "target_frame:=map",
        "-p",
        "gravity_frame:=odom",
        "-p",
        "fov_deg:=60.0",
        "-p",
        "up:=[1.0, 0.0, 0.0]",
    )
    with fake_node(domain, *arguments) as node, PosePeer(domain) as peer:
        peer.wait_for_subscribers(with_info=False)
        markers = peer.answer(*frame(1))
        assert {marker.header.frame_id for marker in markers.markers} == {"camera_optical_frame"}
        np.testing.assert_allclose(joints_of(markers, 1), SlowFakePipeline.joints)
        node.wait_for("no transform from camera_optical_frame to map .*there is no frame map.*in the camera's frame")
        node.wait_for("no transform from odom to camera_optical_frame .*the parameter up is taken as up")
        node.wait_for(r"up \[1\.0, 0\.0, 0\.0\]")
        for _ in range(3):
            peer.answer(*frame(1))
        assert node.count("no transform from odom") == 1, "not a warning for every frame"

        assert set_parameter(peer, "target_frame", "").successful
        assert set_parameter(peer, "gravity_frame", "").successful
        peer.answer(*frame(1))
