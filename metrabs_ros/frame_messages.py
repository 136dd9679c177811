"""TF frames of people: geometry_msgs/TransformStamped, and what publishes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

Floats = NDArray[np.float64]

# tf2_ros's own.
_TF_DEPTH = 100


class FrameMessages:
    """The messages of frames whose names stay: making one costs several times what setting it anew does.

    ``moved`` gives the same objects each time: publish them before the next call.
    """

    def __init__(self, child_frame_ids: Sequence[str]) -> None:
        self._messages = [TransformStamped(child_frame_id=name) for name in child_frame_ids]

    def moved(self, header: Header, translations: Floats, quaternions: Floats | None = None) -> list[TransformStamped]:
        """Under the header's frame, translations [K,3] m, quaternions [K,4] xyzw (None: not rotated).

        Frames whose place is not a number are left out: TF has no way to say that one is not known.
        """
        known = np.isfinite(translations).all(-1)
        if quaternions is not None:
            known &= np.isfinite(quaternions).all(-1)
            for message, (x, y, z, w) in zip(self._messages, quaternions.tolist(), strict=True):
                rotation = message.transform.rotation
                rotation.x, rotation.y, rotation.z, rotation.w = x, y, z, w
        for message, (x, y, z) in zip(self._messages, translations.tolist(), strict=True):
            message.header = header
            translation = message.transform.translation
            translation.x, translation.y, translation.z = x, y, z
        if known.all():
            return self._messages
        return [message for message, is_known in zip(self._messages, known, strict=True) if is_known]


class FramePublisher:
    """Publishes frames on /tf: tf2_ros's TransformBroadcaster, which ROS 2 from PyPI lacks, with an end."""

    def __init__(self, node: Node) -> None:
        self._node = node
        overrides = QoSOverridingOptions.with_default_policies()
        self._publisher = node.create_publisher(
            TFMessage, "/tf", QoSProfile(depth=_TF_DEPTH), qos_overriding_options=overrides
        )

    def publish(self, transforms: list[TransformStamped]) -> None:
        if transforms:
            self._publisher.publish(TFMessage(transforms=transforms))

    def destroy(self) -> None:
        self._node.destroy_publisher(self._publisher)
