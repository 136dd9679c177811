"""What a node reads of /tf: everything but what it has published itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from ros_support import Peer, free_domain, header_at
from tf2_msgs.msg import TFMessage

from metrabs_ros.frame_messages import FrameBytes, FramePublisher, Frames, OwnFrames
from metrabs_ros.frame_transforms import FrameTransforms
from metrabs_ros.reports import Reports

pytestmark = pytest.mark.ros
PLACE = np.array([[1.0, 2.0, 3.0]])


@dataclass
class Side:
    """A node that listens to /tf and publishes frames there."""

    peer: Peer
    transforms: FrameTransforms
    frames: FramePublisher

    def knows(self, frame: str, stamp_s: float) -> bool:
        return self.transforms.to("map", header_at(stamp_s, frame), 0.0) is not None


@pytest.fixture
def sides() -> Iterator[tuple[Side, Side]]:
    with free_domain() as domain, Peer(domain) as one, Peer(domain) as other:
        made = []
        for peer in (one, other):
            transforms = FrameTransforms(peer.node, Reports(peer.node.get_logger()))
            transforms.open()
            made.append(Side(peer, transforms, FramePublisher(peer.node, transforms.own_frames)))
        for side in made:
            side.peer.wait_until(lambda node=side.peer.node: node.count_subscribers("/tf") == 2, "both nodes")
        yield made[0], made[1]
        for side in made:
            side.transforms.close()


class Clock:
    """A second later each time; what was published some times ago should have arrived."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def tick(self) -> Time:
        self.now_s += 1.0
        return header_at(self.now_s).stamp

    @property
    def lately_s(self) -> float:
        return self.now_s - 5.0


def test_a_node_reads_the_frames_of_others_and_not_its_own(sides: tuple[Side, Side]) -> None:
    one, other = sides
    clock = Clock()

    def is_heard() -> bool:
        stamp = clock.tick()
        one.frames.publish(stamp, Frames(["map"], ["person_1/head"], PLACE))
        other.frames.publish(stamp, Frames(["map"], ["base"], PLACE + clock.now_s))
        return one.knows("base", clock.lately_s) and other.knows("person_1/head", clock.lately_s)

    one.peer.wait_until(is_heard, "each other's frames")
    assert not one.knows("person_1/head", clock.lately_s)
    assert not other.knows("base", clock.lately_s)
    found = one.transforms.to("map", header_at(clock.lately_s, "base"), 0.0)
    assert found is not None
    np.testing.assert_allclose(found[1], PLACE[0] + clock.lately_s)


def test_a_message_that_cannot_be_read_is_ignored(sides: tuple[Side, Side]) -> None:
    one, other = sides
    publisher = other.peer.node.create_publisher(TFMessage, "/tf", 10)
    clock = Clock()

    def is_heard() -> bool:
        publisher.publish(b"\x00\x01\x00\x00\xff\xff\xff\x7f")
        other.frames.publish(clock.tick(), Frames(["map"], ["base"], PLACE))
        return one.knows("base", clock.lately_s)

    one.peer.wait_until(is_heard, "the frames after it")


def test_own_frames_are_the_last_ones_that_were_published() -> None:
    own, frames = OwnFrames(), FrameBytes()
    messages = [frames.of(header_at(float(k)).stamp, Frames(["map"], ["a"], PLACE)) for k in range(100)]
    for message in messages:
        assert message is not None
        own.remember(message)
    assert own.has(bytes(bytearray(messages[-1])))
    assert not own.has(messages[0])
    assert not own.has(b"")
