"""What one camera's people are published as: everything but the inputs and /diagnostics."""

from __future__ import annotations

import copy
import functools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import Header, String
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from metrabs_ros import annotate
from metrabs_ros.frame_messages import FramePublisher, Frames, OwnFrames
from metrabs_ros.frame_result import FrameResult
from metrabs_ros.image_messages import jpeg_to_msg
from metrabs_ros.joint_cloud import joints_to_cloud
from metrabs_ros.marker_messages import Look, MarkerBytes, deletion_of_all
from metrabs_ros.messages import image_to_msg
from metrabs_ros.params import NodeParams
from metrabs_ros.people_messages import people_to_msg
from metrabs_ros.skeleton import Skeleton

if TYPE_CHECKING:
    from metrabs_ros.hri_publishers import HriPublishers

Floats = NDArray[np.float64]

_QOS = QoSProfile(depth=10)
# A viewer that is late wants the newest picture.
_IMAGE_QOS = QoSProfile(depth=1)
_LATCHED_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class PosePublishers:
    """The topics of one camera under ``prefix``, "~/" or "~/<camera>/", its frames on /tf and, where ``hri``, REP-155.

    Nothing is computed for a topic that nobody subscribes to; /tf, of which nobody can know who needs it, is what the
    parameters say. ``publish`` may be called in any one thread.
    """

    def __init__(self, node: Node, prefix: str = "~/", hri: bool = True, own_frames: OwnFrames | None = None) -> None:
        """``own_frames`` takes down what goes out on /tf."""
        self._node = node
        self._camera = prefix.removeprefix("~/").strip("/")
        self._markers = self._publisher(MarkerArray, f"{prefix}markers", _QOS)
        self._people = self._publisher(Detection3DArray, f"{prefix}people", _QOS)
        self._joints = self._publisher(PointCloud2, f"{prefix}joints", _QOS)
        self._skeleton = self._publisher(String, f"{prefix}skeleton", _LATCHED_QOS)
        self._image = self._publisher(Image, f"{prefix}image_annotated", _IMAGE_QOS)
        self._jpeg = self._publisher(CompressedImage, f"{prefix}image_annotated/compressed", _IMAGE_QOS)
        self._drawn = MarkerBytes()
        self._tf = FramePublisher(node, own_frames)
        self._hri = _open_hri(node, self._camera, self._tf) if hri else None
        self._shown: set[int] = set()
        self._said_skeleton: Skeleton | None = None
        self._header = Header()

    @property
    def wants_image(self) -> bool:
        """Whether somebody subscribes to what is made of pixels."""
        wants_picture = self._is_on("publish_image_annotated") and _is_heard(self._image, self._jpeg)
        return wants_picture or (self._hri is not None and self._hri.wants_image)

    @property
    def wants_anything(self) -> bool:
        """Whether anybody needs poses now; frames on /tf count as needed while they are switched on."""
        topics = {"publish_markers": self._markers, "publish_people": self._people, "publish_joints": self._joints}
        return (
            self._hri is not None
            or self._is_on("publish_tf")
            or any(_is_heard(publisher) and self._is_on(switch) for switch, publisher in topics.items())
            or self.wants_image
        )

    def publish(self, result: FrameResult, params: NodeParams) -> None:
        """One frame's people; a frame without people still gives (empty) messages."""
        self._header = result.header
        joints = result.joints_out()
        track_ids = [pose.track_id for pose in result.poses]
        self._say_skeleton(result.skeleton)
        if params.publish_tf:
            self._publish_frames(result, joints, params.tf_prefix)
        self._publish_markers(result, joints, track_ids, params)
        if params.publish_people and _is_heard(self._people):
            names = result.skeleton.joint_names
            self._people.publish(people_to_msg(result.poses, joints, names, result.up, result.header))
        if params.publish_joints and _is_heard(self._joints):
            uncertainty = np.reshape([pose.uncertainty for pose in result.poses], joints.shape[:2])
            self._joints.publish(joints_to_cloud(joints, uncertainty, track_ids, result.header))
        # These take longest: nobody else waits for them.
        if self._hri is not None:
            self._hri.publish(result, params)
        if params.publish_image_annotated and _is_heard(self._image, self._jpeg):
            self._publish_image(result, params.annotated_jpeg_quality)

    def delete_all(self) -> None:
        """Takes all markers out of the view, and everybody out of REP-155's list."""
        self._delete_markers()
        if self._hri is not None:
            self._hri.delete_all()

    def destroy(self) -> None:
        if self._hri is not None:
            self._hri.destroy()
        for publisher in (self._markers, self._people, self._joints, self._skeleton, self._image, self._jpeg):
            self._node.destroy_publisher(publisher)
        self._tf.destroy()

    def _publish_markers(self, result: FrameResult, joints: Floats, track_ids: list[int], params: NodeParams) -> None:
        if not params.publish_markers:
            if self._shown:
                self._delete_markers()
        elif _is_heard(self._markers):
            look = Look(result.skeleton, params.marker_lifetime_s, params.marker_scale)
            gone = sorted(self._shown.difference(track_ids))
            self._shown = set(track_ids)
            self._markers.publish(self._drawn.of(joints, track_ids, look, result.header, gone, result.up))

    def _delete_markers(self) -> None:
        self._markers.publish(deletion_of_all(self._header))
        self._shown = set()

    def _publish_frames(self, result: FrameResult, joints: Floats, tf_prefix: str) -> None:
        start = f"{tf_prefix}{self._camera}/" if self._camera else tf_prefix
        names = result.skeleton.joint_names
        children = [name for pose in result.poses for name in _frames_of(f"{start}person_{pose.track_id}/", names)]
        parents = [result.header.frame_id] * len(children)
        self._tf.publish(result.header.stamp, Frames(parents, children, joints.reshape(-1, 3)))

    def _publish_image(self, result: FrameResult, jpeg_quality: int) -> None:
        picture = annotate.drawn(result.image_rgb, result.poses, result.skeleton)
        if _is_heard(self._image):
            self._image.publish(image_to_msg(picture, result.image_header))
        if _is_heard(self._jpeg):
            self._jpeg.publish(jpeg_to_msg(picture, result.image_header, jpeg_quality))

    def _say_skeleton(self, skeleton: Skeleton) -> None:
        if skeleton != self._said_skeleton:
            self._said_skeleton = skeleton
            text = json.dumps({"joint_names": skeleton.joint_names, "edges": skeleton.edges})
            self._skeleton.publish(String(data=text))

    def _publisher(self, kind: Any, topic: str, qos: QoSProfile) -> Publisher:
        overrides = QoSOverridingOptions.with_default_policies()
        # rclpy writes overrides into the profile that it is given.
        return self._node.create_publisher(kind, topic, copy.copy(qos), qos_overriding_options=overrides)

    def _is_on(self, switch: str) -> bool:
        return not self._node.has_parameter(switch) or self._node.get_parameter(switch).value


@functools.lru_cache(maxsize=256)
def _frames_of(start: str, joint_names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{start}{name}" for name in joint_names)


def _open_hri(node: Node, camera: str, tf: FramePublisher) -> HriPublishers | None:
    try:
        from metrabs_ros.hri_publishers import HriPublishers
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("hri_msgs"):
            raise
        node.get_logger().warning(
            "Bodies are not published under /humans (REP-155), because hri_msgs is not installed: install "
            "ros-$ROS_DISTRO-hri-msgs, or set publish_hri to false.",
            once=True,
        )
        return None
    return HriPublishers(node, camera, tf)


def _is_heard(*publishers: Publisher) -> bool:
    return any(publisher.get_subscription_count() for publisher in publishers)
