"""Which way is up for a camera, and where its points are in another frame: TF at the image's stamp."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any, Protocol

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from metrabs_ros.frame_messages import OwnFrames
from metrabs_ros.reports import Reports
from metrabs_ros.transform_buffer import NoTransformError, TransformBuffer

Floats = NDArray[np.float64]

_POLL_S = 0.002


class Lookup(Protocol):
    """Where transforms come from."""

    def put(self, transform: TransformStamped, is_static: bool) -> None: ...

    def lookup(self, target: str, source: str, stamp: Time) -> tuple[Floats, Floats]:
        """R [3,3] and t [3] m from source to target, now or never. Raises NoTransformError."""

    def close(self) -> None: ...


class OwnLookup:
    """A buffer of this package, where there is no tf2_ros."""

    def __init__(self, node: Node) -> None:
        self._buffer = TransformBuffer()
        back = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)
        self._jumps = node.get_clock().create_jump_callback(back, post_callback=lambda jump: self._buffer.clear())

    def put(self, transform: TransformStamped, is_static: bool) -> None:
        stamp = transform.header.stamp
        place, turn = transform.transform.translation, transform.transform.rotation
        pose = ((place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w))
        stamp_ns = stamp.sec * 10**9 + stamp.nanosec
        self._buffer.put(transform.header.frame_id, transform.child_frame_id, stamp_ns, pose, is_static)

    def lookup(self, target: str, source: str, stamp: Time) -> tuple[Floats, Floats]:
        return self._buffer.lookup(target, source, stamp.sec * 10**9 + stamp.nanosec)

    def close(self) -> None:
        self._jumps.unregister()


class Tf2Lookup:
    """tf2_ros's own buffer; its listener would read this node's own frames, too."""

    def __init__(self, node: Node) -> None:
        import tf2_ros

        self._tf2: Any = tf2_ros
        self._buffer = tf2_ros.Buffer(node=node)

    def put(self, transform: TransformStamped, is_static: bool) -> None:
        put = self._buffer.set_transform_static if is_static else self._buffer.set_transform
        # The authority that tf2_ros's listener gives.
        put(transform, "default_authority")

    def lookup(self, target: str, source: str, stamp: Time) -> tuple[Floats, Floats]:
        from rclpy.time import Time as ClockTime

        try:
            found = self._buffer.lookup_transform(target, source, ClockTime.from_msg(stamp)).transform
        except self._tf2.TransformException as error:
            may_come = isinstance(error, self._tf2.ExtrapolationException)
            raise NoTransformError(str(error), may_come) from error
        place, turn = found.translation, found.rotation
        matrix = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).as_matrix()
        return matrix, np.array([place.x, place.y, place.z])

    def close(self) -> None:
        """The buffer ends with the node."""


def open_lookup(node: Node) -> Lookup:
    """tf2_ros where it can be imported, ROS 2 from PyPI lacks it."""
    try:
        return Tf2Lookup(node)
    except ImportError:
        return OwnLookup(node)


class FrameTransforms:
    """Transforms at an image's stamp, for any thread; where there is none, a warning and None.

    What ``own_frames`` knows, as this node has published it, is left out: nothing that is asked for depends on it.
    """

    def __init__(self, node: Node, reports: Reports) -> None:
        self._node = node
        self._reports = reports
        self.own_frames = OwnFrames()
        self._lookup: Lookup | None = None
        self._subscriptions: list[Subscription] = []
        self._closed = threading.Event()
        self._failing: set[tuple[str, str]] = set()

    def open(self) -> None:
        """Begins to listen, unless it does; in the executor's thread. Listening costs, so only once it is needed."""
        if self._lookup is None:
            self._closed.clear()
            self._lookup = open_lookup(self._node)
            latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            self._subscriptions = [
                self._node.create_subscription(
                    TFMessage,
                    topic,
                    partial(self._take, self._lookup, is_static),
                    qos,
                    qos_overriding_options=QoSOverridingOptions.with_default_policies(),
                    raw=True,
                )
                for topic, qos, is_static in (("/tf", QoSProfile(depth=100), False), ("/tf_static", latched, True))
            ]

    def to(self, target: str, header: Header, wait_s: float) -> tuple[Floats, Floats] | None:
        """R [3,3] and t [3] m that take points of the image's frame to ``target``."""
        if target.strip("/") == header.frame_id.strip("/"):
            return np.eye(3), np.zeros(3)
        return self._found(target, header.frame_id, header.stamp, wait_s, "people are published in the camera's frame")

    def up(self, gravity_frame: str, header: Header, wait_s: float) -> Floats | None:
        """[3]: where the z axis of ``gravity_frame`` points to in the image's frame."""
        found = self._found(header.frame_id, gravity_frame, header.stamp, wait_s, "the parameter up is taken as up")
        return None if found is None else found[0][:, 2]

    def on(self, floor_frame: str, header: Header, wait_s: float) -> tuple[Floats, float] | None:
        """[3]: where the z axis of ``floor_frame`` points to in the image's frame, and the z of that frame in it, m."""
        instead = "the parameters up and camera_height hold"
        found = self._found(floor_frame, header.frame_id, header.stamp, wait_s, instead)
        return None if found is None else (found[0][2], float(found[1][2]))

    def close(self) -> None:
        """Ends all waiting and listening; in the executor's thread."""
        self._closed.set()
        lookup, self._lookup = self._lookup, None
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        if lookup is not None:
            lookup.close()

    def _take(self, lookup: Lookup, is_static: bool, message: bytes) -> None:
        if self.own_frames.has(message):
            return
        try:
            transforms = deserialize_message(message, TFMessage).transforms
        except RuntimeError as error:
            self._reports.warning(
                "unreadable transforms",
                "A message on /tf or /tf_static cannot be read and is ignored; see that all who publish there have the "
                f"tf2_msgs of this ROS 2 ({error}).",
            )
            return
        for transform in transforms:
            lookup.put(transform, is_static)

    def _found(
        self, target: str, source: str, stamp: Time, wait_s: float, instead: str
    ) -> tuple[Floats, Floats] | None:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                if self._lookup is None:
                    raise NoTransformError("nobody listens to TF yet")
                found = self._lookup.lookup(target, source, stamp)
            except NoTransformError as error:
                # Waiting again for what never came would only slow every frame down.
                is_worth_it = error.may_come or (target, source) not in self._failing
                if is_worth_it and time.monotonic() < deadline and not self._closed.wait(_POLL_S):
                    continue
                self._failing.add((target, source))
                self._reports.warning(
                    f"no transform {target} {source}",
                    f"There is no transform from {source} to {target} at the image's stamp ({error}): {instead}.",
                )
                return None
            self._failing.discard((target, source))
            return found
