"""The Foxglove layout shows topics that the node publishes, and fields that their messages have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pose_node_for_tests import fake_node, frame
from ros_support import PosePeer, free_domain
from vision_msgs.msg import Detection3DArray

pytestmark = pytest.mark.ros

LAYOUT = json.loads((Path(__file__).parents[1] / "config/foxglove_layout.json").read_text())
# What each kind of panel can show of ROS 2.
SHOWN_BY = {
    "3D": {"visualization_msgs/msg/MarkerArray", "vision_msgs/msg/Detection3DArray", "sensor_msgs/msg/PointCloud2"},
    "Image": {"sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image"},
    "DiagnosticSummary": {"diagnostic_msgs/msg/DiagnosticArray"},
    "Plot": {"vision_msgs/msg/Detection3DArray"},
}


def topics_of(panel: dict[str, Any]) -> set[str]:
    """Every topic that a panel's settings name."""
    named = set(panel.get("topics", {})) | {path["value"].split(".")[0] for path in panel.get("paths", [])}
    named |= {panel.get("topicToRender", ""), panel.get("imageMode", {}).get("imageTopic", "")}
    return named - {""}


def panels_in(layout: Any) -> list[str]:
    return [layout] if isinstance(layout, str) else panels_in(layout["first"]) + panels_in(layout["second"])


@pytest.fixture(scope="module")
def domain() -> Iterator[int]:
    with free_domain() as free:
        yield free


def test_every_panel_has_its_place_and_shows_what_the_node_publishes(domain: int) -> None:
    assert sorted(panels_in(LAYOUT["layout"])) == sorted(LAYOUT["configById"])
    with fake_node(domain), PosePeer(domain) as peer:
        people = peer.listen(Detection3DArray, "/pose_node/people")
        peer.wait_for_subscribers()
        for name, panel in LAYOUT["configById"].items():
            assert topics_of(panel), name
            for topic in topics_of(panel):
                peer.wait_until(lambda topic=topic: peer.node.get_publishers_info_by_topic(topic), topic)
                (published,) = {info.topic_type for info in peer.node.get_publishers_info_by_topic(topic)}
                assert published in SHOWN_BY[name.split("!")[0]], (name, topic)

        peer.send_until(lambda: any(message.detections for _, message in people), *frame(2), "people")
        message = next(message for _, message in people if message.detections)
        for path in LAYOUT["configById"]["Plot!distance"]["paths"]:
            assert (
                values_of(message, path["value"].removeprefix("/pose_node/people."))
                == [pytest.approx(3.0, abs=0.2)] * 2
            )


def values_of(message: Any, path: str) -> list[float]:
    """What a Foxglove message path with [:] for all elements means."""
    values = [message]
    for name, every in re.findall(r"(\w+)(\[:\])?", path):
        values = [getattr(value, name) for value in values]
        values = [element for value in values for element in value] if every else values
    return values
