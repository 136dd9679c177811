"""What one body of REP-155 has of its own: its topics, its frames, its lengths and the last state of its joints."""

from __future__ import annotations

import numpy as np
from hri_msgs.msg import NormalizedRegionOfInterest2D, Skeleton2D
from numpy.typing import NDArray
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header, String

from metrabs_ros.body_model import JOINT_NAMES
from metrabs_ros.body_urdf import urdf
from metrabs_ros.hri_messages import joint_state_to_msg, roi_to_msg, skeleton2d_to_msg
from metrabs_ros.image_messages import clipped_box, cut_out
from metrabs_ros.messages import image_to_msg
from metrabs_ros.pose import TrackedPose
from metrabs_ros.segment_lengths import LengthEstimator, SegmentLengths

Floats = NDArray[np.float64]

NAMESPACE = "/humans/bodies"
_QOS = QoSProfile(depth=1)
_LATCHED_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# Lengths hardly change after these frames: from then on a frame in this time, s, is enough to measure.
_FIRST_FRAMES, _LENGTHS_PERIOD_S = 10, 0.2


class HriBody:
    """The body ``body_id``. Not for use by two threads at once."""

    def __init__(self, node: Node, body_id: str) -> None:
        self.body_id = body_id
        self.seen_s = 0.0
        self.positions: Floats = np.full(len(JOINT_NAMES), np.nan)
        self.description = ""
        self._node = node
        self._roi = self._publisher(NormalizedRegionOfInterest2D, "roi")
        self._cropped = self._publisher(Image, "cropped")
        self._skeleton2d = self._publisher(Skeleton2D, "skeleton2d")
        self._joint_states = self._publisher(JointState, "joint_states")
        self._urdf = self._publisher(String, "urdf", _LATCHED_QOS)
        self._lengths = LengthEstimator()
        self._measured_s = -np.inf
        self._frames_measured = 0
        self._described: tuple[SegmentLengths, bool] | None = None

    @property
    def wants_pixels(self) -> bool:
        return bool(self._cropped.get_subscription_count())

    @property
    def wants_skeleton2d(self) -> bool:
        return bool(self._skeleton2d.get_subscription_count())

    @property
    def wants_joint_states(self) -> bool:
        return bool(self._joint_states.get_subscription_count())

    @property
    def lengths(self) -> SegmentLengths:
        return self._lengths.lengths

    def is_to_be_measured(self, stamp_s: float) -> bool:
        """Whether it is time to measure the person's segments again."""
        return self._frames_measured < _FIRST_FRAMES or not 0 <= stamp_s - self._measured_s < _LENGTHS_PERIOD_S

    def measure(self, sample: Floats, score: float, stamp_s: float) -> None:
        """A row of segment_samples [len(SEGMENTS)] m, of a pose with that score."""
        self._lengths.update(sample, max(score, 0.0))
        self._measured_s = stamp_s
        self._frames_measured += 1

    def describe(self, reference_joints: bool) -> bool:
        """Publishes the URDF where it has changed, and says whether it has."""
        if self._described == (self.lengths, reference_joints):
            return False
        self._described = (self.lengths, reference_joints)
        self.description = urdf(self.body_id, self.lengths, reference_joints)
        self._urdf.publish(String(data=self.description))
        return True

    def publish_image(self, pose: TrackedPose, image_rgb: NDArray[np.uint8], header: Header) -> None:
        """roi and cropped."""
        height, width = image_rgb.shape[:2]
        edges = clipped_box(pose.box, (width, height))
        if self._roi.get_subscription_count():
            self._roi.publish(roi_to_msg(edges, pose.score, header))
        if self.wants_pixels and (pixels := cut_out(image_rgb, edges)).size:
            self._cropped.publish(image_to_msg(pixels, header))

    def publish_skeleton2d(self, points: Floats, header: Header) -> None:
        self._skeleton2d.publish(skeleton2d_to_msg(points, header))

    def publish_joint_states(self, header: Header, reference_joints: bool) -> None:
        self._joint_states.publish(joint_state_to_msg(self.positions, self.body_id, header, reference_joints))

    def destroy(self) -> None:
        for publisher in (self._roi, self._cropped, self._skeleton2d, self._joint_states, self._urdf):
            self._node.destroy_publisher(publisher)

    def _publisher(self, kind: type, name: str, qos: QoSProfile = _QOS) -> Publisher:
        # Events would be waited for in the executor's thread, which knows nothing of publishers that come and go here.
        quiet = PublisherEventCallbacks(use_default_callbacks=False)
        return self._node.create_publisher(kind, f"{NAMESPACE}/{self.body_id}/{name}", qos, event_callbacks=quiet)
