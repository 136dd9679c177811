"""TF frames of people: geometry_msgs/TransformStamped, and what publishes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from metrabs_ros.serialized import Serialized

Floats = NDArray[np.float64]

# tf2_ros's own.
_TF_DEPTH = 100
# Joints' frames and bodies', and who comes and goes.
_MOST_KEPT = 8
# Of several cameras, and while the executor is busy; what is forgotten is read like anybody else's.
_REMEMBERED = 64
_NOT_ROTATED = np.array([0.0, 0.0, 0.0, 1.0])


@dataclass(frozen=True, eq=False)
class Frames:
    """K frames ``children`` under ``parents``: translations [K,3] m, quaternions [K,4] xyzw (None: not rotated)."""

    parents: Sequence[str]
    children: Sequence[str]
    translations: Floats
    quaternions: Floats | None = None


class FrameBytes:
    """tf2_msgs/TFMessage as bytes; frames of the same names are serialized once, then only moved."""

    def __init__(self) -> None:
        self._kept: dict[tuple[tuple[str, ...], tuple[str, ...]], Serialized] = {}

    def of(self, stamp: Time, frames: Frames) -> bytes | None:
        """Frames whose place is not a number are left out: TF has no way to say that one is not known. None where there
        is no other."""
        turns = frames.quaternions
        if turns is None:
            turns = np.broadcast_to(_NOT_ROTATED, (len(frames.translations), 4))
        numbers = np.concatenate([frames.translations, turns], 1)
        known = np.isfinite(numbers).all(1)
        if not known.any():
            return None
        names = tuple(frames.parents), tuple(frames.children)
        if not known.all():
            numbers = numbers[known]
            names = tuple(compress(frames.parents, known)), tuple(compress(frames.children, known))
        # The one used last is kept longest.
        self._kept[names] = serialized = self._kept.pop(names, None) or _serialized(*names)
        if len(self._kept) > _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        return serialized.at(stamp, numbers)


class OwnFrames:
    """The last messages that a node has published on /tf, so that it need not read them when it hears itself.

    Reading one takes Python 4 ms for two people and 40 for 16 on a slow core. For any thread.
    """

    def __init__(self) -> None:
        self._last: deque[bytes] = deque(maxlen=_REMEMBERED)

    def remember(self, message: bytes) -> None:
        self._last.append(message)

    def has(self, message: bytes) -> bool:
        return message in tuple(self._last)


class FramePublisher:
    """Publishes frames on /tf: tf2_ros's TransformBroadcaster, which ROS 2 from PyPI lacks, with an end."""

    def __init__(self, node: Node, own_frames: OwnFrames | None = None) -> None:
        self._node = node
        self._own_frames = own_frames or OwnFrames()
        overrides = QoSOverridingOptions.with_default_policies()
        self._publisher = node.create_publisher(
            TFMessage, "/tf", QoSProfile(depth=_TF_DEPTH), qos_overriding_options=overrides
        )
        self._frames = FrameBytes()

    def publish(self, stamp: Time, frames: Frames) -> None:
        """Those that are known."""
        message = self._frames.of(stamp, frames)
        if message is not None:
            self._own_frames.remember(message)
            self._publisher.publish(message)

    def destroy(self) -> None:
        self._node.destroy_publisher(self._publisher)


def _serialized(parents: Sequence[str], children: Sequence[str]) -> Serialized:
    def build(stamp: Time) -> tuple[TFMessage, list[object]]:
        headers = {name: Header(stamp=stamp, frame_id=name) for name in parents}
        transforms = [
            TransformStamped(header=headers[parent], child_frame_id=child)
            for parent, child in zip(parents, children, strict=True)
        ]
        vectors = [part for each in transforms for part in (each.transform.translation, each.transform.rotation)]
        return TFMessage(transforms=transforms), vectors

    return Serialized(build)
