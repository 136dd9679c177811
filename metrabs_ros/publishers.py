"""Poses out of the node: ~/markers and /tf."""

from __future__ import annotations

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from metrabs_ros.messages import deletion_of_all, poses_to_markers, poses_to_transforms
from metrabs_ros.params import NodeParams
from metrabs_ros.pose import TrackedPose
from metrabs_ros.skeleton import Skeleton

try:
    from tf2_ros import TransformBroadcaster
except ImportError:
    # ROS 2 from PyPI has no tf2_ros; its broadcaster is this publisher.
    from tf2_msgs.msg import TFMessage

    class TransformBroadcaster:  # type: ignore[no-redef]
        def __init__(self, node: Node) -> None:
            self._publisher = node.create_publisher(TFMessage, "/tf", QoSProfile(depth=100))

        def sendTransform(self, transforms: list[TransformStamped]) -> None:
            self._publisher.publish(TFMessage(transforms=transforms))


_DEPTH = 10


class PosePublishers:
    """Publishes poses under their image's header and remembers who is shown, so that who leaves can be deleted."""

    def __init__(self, node: Node) -> None:
        self._markers = node.create_publisher(MarkerArray, "~/markers", _DEPTH)
        self._tf = TransformBroadcaster(node)
        self._shown: set[int] = set()
        self._header = Header()

    def publish(self, header: Header, poses: list[TrackedPose], skeleton: Skeleton, params: NodeParams) -> None:
        """One frame's poses; a frame without people still gives an (empty) MarkerArray."""
        self._header = header
        if params.publish_markers:
            present = {pose.track_id for pose in poses}
            markers = poses_to_markers(
                poses,
                skeleton,
                header,
                sorted(self._shown - present),
                lifetime_s=params.marker_lifetime_s,
                scale=params.marker_scale,
                up=params.up,
            )
            self._shown = present
            self._markers.publish(markers)
        elif self._shown:
            self.delete_all()
        if params.publish_tf and poses:
            self._tf.sendTransform(poses_to_transforms(poses, skeleton, header, params.tf_prefix))

    def delete_all(self) -> None:
        """Takes all markers out of the view."""
        self._markers.publish(deletion_of_all(self._header))
        self._shown = set()
