"""A rosbag2 is replayed with /clock: the same poses each time, in the bag's time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from pose_node_for_tests import real_node
from rclpy.serialization import deserialize_message, serialize_message
from ros_support import Peer, header_at
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from visualization_msgs.msg import MarkerArray

from metrabs_ros.camera import Camera
from metrabs_ros.messages import camera_to_msg, image_to_msg

pytestmark = [pytest.mark.ros, pytest.mark.slow]

# Long past, so that wall time anywhere would show.
START_S, RATE_HZ, FRAMES = 1_000_000_000.0, 10.0, 12
TYPES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CameraInfo": CameraInfo}
# Nothing may be lost on the way to the node.
RELIABLE = [
    part
    for topic in ("image", "camera_info")
    for part in ("-p", f"qos_overrides./{topic}.subscription.reliability:=reliable")
]


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Somebody who drifts through the image, 12 frames at 10 Hz."""
    from rosbags.rosbag2 import Writer
    from rosbags.typesys import Stores, get_typestore
    from skimage import data

    path, picture = tmp_path / "bag", data.astronaut()
    camera = camera_to_msg(Camera.from_fov(50, (picture.shape[1], picture.shape[0])), header_at(0.0))
    with Writer(path, version=9) as writer:
        store = get_typestore(Stores.ROS2_JAZZY)
        topics = {name: writer.add_connection(f"/{name}", kind, typestore=store) for name, kind in bag_topics().items()}
        for index in range(FRAMES):
            header = header_at(START_S + index / RATE_HZ)
            camera.header = header
            at_ns = header.stamp.sec * 10**9 + header.stamp.nanosec
            image = image_to_msg(np.roll(picture, 6 * index, axis=1), header)
            writer.write(topics["camera_info"], at_ns, serialize_message(camera))
            writer.write(topics["image"], at_ns, serialize_message(image))
    return path


def bag_topics() -> dict[str, str]:
    return dict(zip(("image", "camera_info"), TYPES, strict=True))


class Player(Peer):
    """Replays a bag with /clock, each frame once the one before it is answered; hears the markers."""

    def __init__(self, domain: int) -> None:
        super().__init__(domain)
        self.clock = self.node.create_publisher(Clock, "/clock", 10)
        self.topics = {
            f"/{name}": self.node.create_publisher(TYPES[kind], name, 10) for name, kind in bag_topics().items()
        }
        self.markers: list[tuple[float, MarkerArray]] = self.listen(MarkerArray, "/pose_node/markers")

    def wait_for_node(self) -> None:
        self.wait_until(
            lambda: (
                all(publisher.get_subscription_count() for publisher in self.topics.values())
                and self.node.count_publishers("/pose_node/markers")
                and self.clock.get_subscription_count()
            ),
            "pose_node's subscriptions",
        )

    def replay(self, bag: Path) -> list[np.ndarray]:
        """[N,J,3] m of each frame, people in the order of their ids."""
        from rosbags.rosbag2 import Reader

        self.markers.clear()
        done = 0
        with Reader(bag) as reader:
            for connection, at_ns, raw in reader.messages():
                clock = Clock()
                clock.clock.sec, clock.clock.nanosec = divmod(at_ns, 10**9)
                self.clock.publish(clock)
                self.topics[connection.topic].publish(deserialize_message(bytes(raw), TYPES[connection.msgtype]))
                if connection.topic == "/image":
                    done += 1
                    self.wait_until(lambda count=done: len(self.markers) >= count, f"frame {done}")
        return [joints_of(array) for _, array in self.markers]


def joints_of(array: Any) -> np.ndarray:
    people = sorted((m for m in array.markers if m.ns == "joints" and m.action == 0), key=lambda marker: marker.id)
    return np.array([[(p.x, p.y, p.z) for p in marker.points] for marker in people])


def test_a_bag_gives_the_same_poses_twice(domain: int, bag: Path) -> None:
    with real_node(domain, "-p", "use_sim_time:=true", *RELIABLE) as node, Player(domain) as player:
        heard = player.listen(DiagnosticArray, "/diagnostics")
        player.wait_for_node()
        first = player.replay(bag)
        stamps = [array.markers[0].header.stamp.sec for _, array in player.markers if array.markers]
        assert set(stamps) == {int(START_S), int(START_S) + 1}
        player.wait_until(lambda: values(heard).get("frames") == str(FRAMES), "all frames in /diagnostics")
        assert float(values(heard)["latency (ms)"]) < 1000, "measured by the clock of the bag"
        assert abs(heard[-1][1].header.stamp.sec - START_S) < 10

        second = player.replay(bag)
        node.wait_for(r"stamps went back by 1\.\d+ s .*all track ids start anew")
        assert [len(joints) for joints in first] == [1] * FRAMES
        for before, again in zip(first, second, strict=True):
            np.testing.assert_allclose(again, before, atol=1e-6)
        # It is not one and the same frame over and over.
        assert np.linalg.norm(first[-1] - first[0], axis=-1).mean() > 0.05


def values(heard: list[tuple[float, DiagnosticArray]]) -> dict[str, str]:
    cameras = [status for _, array in heard[-1:] for status in array.status if ": camera" in status.name]
    return {pair.key: pair.value for status in cameras for pair in status.values}
