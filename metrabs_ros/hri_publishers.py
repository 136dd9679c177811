"""REP-155 (ROS4HRI): /humans/bodies, the bodies' descriptions, and their frames on /tf."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Sequence
from itertools import compress
from typing import ClassVar

import numpy as np
from hri_msgs.msg import IdsList
from numpy.typing import NDArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos_overriding_options import QoSOverridingOptions
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header

from metrabs_ros.body_frame import body_frame
from metrabs_ros.body_kinematics import joint_angles
from metrabs_ros.body_model import LINK_NAMES, forward_kinematics, tree
from metrabs_ros.frame_messages import FramePublisher, Frames
from metrabs_ros.frame_result import FrameResult
from metrabs_ros.hri_body import NAMESPACE, HriBody
from metrabs_ros.hri_messages import skeletons2d
from metrabs_ros.messages import stamp_s
from metrabs_ros.params import NodeParams
from metrabs_ros.segment_lengths import SegmentLengths, segment_samples

Floats = NDArray[np.float64]

# Topics of somebody who is lost for less than this are kept: announcing them anew costs every node on the network.
_KEPT_S = 2.0


class HriPublishers:
    """REP-155 for the people of one camera; all cameras of a node share one list of the tracked bodies.

    Bodies are called <prefix><track id>, of a named camera <prefix><track id>_<camera>.
    """

    def __init__(self, node: Node, camera: str, tf: FramePublisher) -> None:
        self._node = node
        self._camera = re.sub(r"[^A-Za-z0-9]+", "_", camera).strip("_")
        self._tf = tf
        self._tracked = TrackedBodies.of(node)
        self._bodies: dict[int, HriBody] = {}
        self._stamp_s = -np.inf
        self._header = Header()
        self._lock = threading.Lock()

    @property
    def wants_image(self) -> bool:
        with self._lock:
            return any(body.wants_pixels for body in self._bodies.values())

    def publish(self, result: FrameResult, params: NodeParams) -> None:
        with self._lock:
            now_s = stamp_s(result.image_header)
            self._header = result.image_header
            self._let_go(now_s)
            present = [self._body(pose.track_id, params.hri_id_prefix, now_s) for pose in result.poses]
            self._tracked.say(self._camera, [body.body_id for body in present], result.image_header)
            if not present:
                return
            for body, pose in zip(present, result.poses, strict=True):
                body.publish_image(pose, result.image_rgb, result.image_header)
            if any(body.wants_skeleton2d for body in present):
                for body, points in zip(present, skeletons2d(result), strict=True):
                    body.publish_skeleton2d(points, result.image_header)
            self._publish_bodies(result, present, params)

    def delete_all(self) -> None:
        """Everybody is gone: the list says so, topics and descriptions end."""
        with self._lock:
            self._drop(list(self._bodies))
            self._tracked.say(self._camera, [], self._header)

    def destroy(self) -> None:
        with self._lock:
            self._drop(list(self._bodies))
        self._tracked.leave(self._camera)

    def _let_go(self, now_s: float) -> None:
        # Ids start anew where time goes back.
        lost = [
            track_id
            for track_id, body in self._bodies.items()
            if now_s - body.seen_s > _KEPT_S or now_s < self._stamp_s
        ]
        self._drop(lost)
        self._stamp_s = now_s

    def _drop(self, track_ids: Sequence[int]) -> None:
        for track_id in track_ids:
            body = self._bodies.pop(track_id)
            self._tracked.descriptions.drop(body.body_id)
            body.destroy()

    def _body(self, track_id: int, prefix: str, now_s: float) -> HriBody:
        if track_id not in self._bodies:
            name = f"{prefix}{track_id}_{self._camera}" if self._camera else f"{prefix}{track_id}"
            self._bodies[track_id] = HriBody(self._node, name)
        self._bodies[track_id].seen_s = now_s
        return self._bodies[track_id]

    def _publish_bodies(self, result: FrameResult, present: list[HriBody], params: NodeParams) -> None:
        """joint_states, the URDF, and frames of the bodies that can be placed."""
        names = result.skeleton.joint_names
        joints = np.stack([pose.joints3d for pose in result.poses])
        self._measure(present, joints, result)
        lengths = [body.lengths for body in present]
        for body in present:
            if body.describe(params.hri_reference_joints):
                self._tracked.descriptions.say(body.body_id, body.description)
        if not params.publish_hri_links and not any(body.wants_joint_states for body in present):
            frames = body_frame(joints, names)
            self._publish_frames(result.image_header, present, frames.T_cam_body[:, None], params)
            return
        previous = np.stack([body.positions for body in present])
        states = joint_angles(joints, names, lengths, previous, params.hri_reference_joints)
        for body, positions, is_valid in zip(present, states.positions, states.body_valid, strict=True):
            if is_valid:
                body.positions = positions
                if body.wants_joint_states:
                    body.publish_joint_states(result.image_header, params.hri_reference_joints)
        poses = states.T_cam_body[:, None]
        if params.publish_hri_links:
            poses = np.concatenate([poses, _links(states.positions, lengths)], 1)
        self._publish_frames(result.image_header, present, poses, params)

    def _measure(self, present: list[HriBody], joints: Floats, result: FrameResult) -> None:
        """The segments of those whose turn it is."""
        due = [i for i, body in enumerate(present) if body.is_to_be_measured(self._stamp_s)]
        if due:
            samples = segment_samples(joints[due], result.skeleton.joint_names)
            for i, sample in zip(due, samples, strict=True):
                present[i].measure(sample, float(result.poses[i].score), self._stamp_s)

    def _publish_frames(self, header: Header, present: list[HriBody], transforms: Floats, params: NodeParams) -> None:
        """transforms [N,1+links,4,4]: a body's pose in the camera's frame, NaN where unknown; its links' in its own."""
        valid = np.isfinite(transforms[:, 0]).all((1, 2))
        if not valid.any():
            return
        kept = [0, *_links_of(params.hri_reference_joints)][: transforms.shape[1]]
        count = len(kept)
        transforms = transforms[valid][:, kept].reshape(-1, 4, 4)
        placed = [_named(body.body_id, params.hri_reference_joints)[:count] for body in compress(present, valid)]
        parents = [parent for names in placed for parent in (header.frame_id, *[names[0]] * (count - 1))]
        children = [name for names in placed for name in names]
        quaternions = Rotation.from_matrix(transforms[:, :3, :3]).as_quat()
        self._tf.publish(header.stamp, Frames(parents, children, transforms[:, :3, 3], quaternions))


@functools.lru_cache(maxsize=256)
def _named(body_id: str, reference_joints: bool) -> tuple[str, ...]:
    """The frames of a body: its own and, under that, those of its links."""
    return (f"body_{body_id}", *(f"{joint.child}_{body_id}" for joint in tree(reference_joints)))


@functools.cache
def _links_of(reference_joints: bool) -> list[int]:
    """Where the tree's links are in body_model.LINK_NAMES."""
    return [LINK_NAMES.index(joint.child) for joint in tree(reference_joints)]


class TrackedBodies:
    """/humans/bodies/tracked of a node, one list for all its cameras, and the bodies' descriptions."""

    _of: ClassVar[dict[Node, TrackedBodies]] = {}

    def __init__(self, node: Node) -> None:
        self.descriptions = Descriptions(node)
        self._node = node
        overrides = QoSOverridingOptions.with_default_policies()
        self._publisher = node.create_publisher(IdsList, f"{NAMESPACE}/tracked", 1, qos_overriding_options=overrides)
        self._ids: dict[str, list[str]] = {}
        self._lock = threading.Lock()
        self._users = 0

    @classmethod
    def of(cls, node: Node) -> TrackedBodies:
        """The node's one; each call needs its own leave()."""
        if node not in cls._of:
            cls._of[node] = cls(node)
        cls._of[node]._users += 1
        return cls._of[node]

    def say(self, camera: str, ids: list[str], header: Header) -> None:
        """The bodies that a camera sees now; all cameras' are published."""
        with self._lock:
            self._ids[camera] = ids
            everybody = [body_id for ids in self._ids.values() for body_id in ids]
            self._publisher.publish(IdsList(header=header, ids=everybody))

    def leave(self, camera: str) -> None:
        """The camera's bodies are gone, and with the last camera the topic."""
        with self._lock:
            self._ids.pop(camera, None)
            self._users -= 1
            if not self._users:
                del self._of[self._node]
                self._node.destroy_publisher(self._publisher)
                self.descriptions.destroy()


class Descriptions:
    """The URDFs as parameters human_description_<id> of the node, where REP-155's consumers look for them.

    rclpy's parameters belong to the executor's thread (it iterates over them to list them): changes wait for it here.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._pending: dict[str, str | None] = {}
        self._lock = threading.Lock()
        self._turn = node.create_guard_condition(self._apply)

    def say(self, body_id: str, description: str) -> None:
        self._put(body_id, description)

    def drop(self, body_id: str) -> None:
        self._put(body_id, None)

    def destroy(self) -> None:
        """Only in the executor's thread, or when that has ended."""
        if self._node.context.ok():
            self._apply()
        self._node.destroy_guard_condition(self._turn)

    def _put(self, body_id: str, description: str | None) -> None:
        with self._lock:
            self._pending[f"human_description_{body_id}"] = description
        if self._node.context.ok():
            self._turn.trigger()

    def _apply(self) -> None:
        with self._lock:
            changes, self._pending = self._pending, {}
        for name, description in changes.items():
            is_declared = self._node.has_parameter(name)
            if description is None and is_declared:
                self._node.undeclare_parameter(name)
            elif description is not None and is_declared:
                self._node.set_parameters([Parameter(name, value=description)])
            elif description is not None:
                meaning = ParameterDescriptor(description="URDF of a body that is tracked now (REP-155).")
                self._node.declare_parameter(name, description, meaning, ignore_override=True)


def _links(positions: Floats, lengths: list[SegmentLengths]) -> Floats:
    """[N,links,4,4]: poses of all links but the body's own, in the body's frame."""
    origin = np.tile(np.eye(4), (len(positions), 1, 1))
    each = np.stack([one.as_array() for one in lengths])
    return forward_kinematics(origin, positions, each)[:, 1:]
