"""A test's own corner of ROS: a free domain, nodes in processes of their own, and a peer that publishes and listens."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

ROOT = Path(__file__).resolve().parent.parent
FAKE_NODE = Path(__file__).with_name("ros_fake_node.py")
PATIENCE_S = 30.0
_GRACE_S = 10.0
RESEND_S = 0.4

# Fast DDS reads these when the first participant is made.
_ENVIRONMENT = {
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "FASTRTPS_DEFAULT_PROFILES_FILE": str(ROOT / "config/fastdds.xml"),
    "FASTDDS_DEFAULT_PROFILES_FILE": str(ROOT / "config/fastdds.xml"),
}
os.environ.update(_ENVIRONMENT)


@contextlib.contextmanager
def free_domain() -> Iterator[int]:
    """A ROS_DOMAIN_ID that nobody on this machine uses, kept from other tests while in use."""
    # Domains above 101 reach into the ports that Linux hands out to clients.
    for domain in random.sample(range(1, 102), 101):
        lock = Path(tempfile.gettempdir()) / f"ros_test_domain_{domain}.lock"
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if _is_unused(domain):
                yield domain
                return
    raise RuntimeError("No free ROS_DOMAIN_ID below 102 on this machine.")


def _is_unused(domain: int) -> bool:
    """Whether the ports of a domain's first participants (RTPS 9.6.1.1) can be bound."""
    base = 7400 + 250 * domain
    for port in (base, base + 10, base + 11):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", port))
            except OSError:
                return False
    return True


class NodeProcess:
    """A Python program of the package in its own process; its output can be waited for line by line."""

    def __init__(self, domain: int, *command: str, env: dict[str, str] | None = None) -> None:
        environment = {
            **os.environ,
            **_ENVIRONMENT,
            "ROS_DOMAIN_ID": str(domain),
            "ROS_LOG_DIR": str(Path(tempfile.gettempdir()) / "ros_test_logs"),
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        # Its own children, if it has any, are in its group. A killed node would leave DDS's shared memory behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        with self._changed:
            return "\n".join(self._lines)

    @property
    def rss_mb(self) -> float:
        """Resident memory now, in MB, without what is shared with other processes (images in DDS's shared memory)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) / 1024

    def count(self, pattern: str) -> int:
        return len(re.findall(pattern, self.output))

    def wait_for(self, pattern: str, count: int = 1, timeout_s: float = PATIENCE_S) -> None:
        """Until the output holds ``pattern`` ``count`` times."""

        def is_there() -> bool:
            return len(re.findall(pattern, "\n".join(self._lines))) >= count

        with self._changed:
            self._changed.wait_for(lambda: is_there() or not self._reader.is_alive(), timeout_s)
        assert is_there(), f"No {pattern!r} ({count} times) in:\n{self.output}"

    def ended(self, timeout_s: float = PATIENCE_S) -> int:
        """The exit code, once it ends by itself."""
        code = self._process.wait(timeout_s)
        self._reader.join()
        return code

    def interrupted(self, by: signal.Signals = signal.SIGINT) -> int:
        """The exit code after a signal to it and its children, as a terminal sends it."""
        os.killpg(self._process.pid, by)
        return self.ended()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


class Peer:
    """A node in the test's process that spins in a thread; what it hears is kept in order with its time of arrival."""

    def __init__(self, domain: int) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node("peer", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._clients: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def listen(self, kind: Any, topic: str, qos: QoSProfile | int = 50) -> list[tuple[float, Any]]:
        """A growing list of (time of arrival in s, message)."""
        heard: list[tuple[float, Any]] = []

        def keep(message: Any) -> None:
            with self._changed:
                heard.append((time.time(), message))
                self._changed.notify_all()

        self.node.create_subscription(kind, topic, keep, qos)
        return heard

    def wait_until(self, condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> None:
        """Until ``condition``, looked at after each message and, as for the graph, every 20 ms."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not condition():
                assert time.monotonic() < deadline, f"Waited {timeout_s:g} s in vain for {what}."
                self._changed.wait(0.02)

    def call(self, kind: Any, service: str, request: Any, may_repeat: bool = False) -> Any:
        """The answer of a service, which must come.

        A server that has not discovered the client's side yet loses its answer: so clients are kept, and a question
        that ``may_repeat`` is asked again.
        """
        client = self._client(kind, service)
        assert client.wait_for_service(PATIENCE_S), f"There is no service {service}."
        futures = [client.call_async(request)]
        asked_at = time.monotonic()

        def is_answered() -> bool:
            nonlocal asked_at
            if may_repeat and time.monotonic() > asked_at + RESEND_S:
                futures.append(client.call_async(request))
                asked_at = time.monotonic()
            return any(future.done() for future in futures)

        self.wait_until(is_answered, f"an answer of {service}")
        return next(future for future in futures if future.done()).result()

    def _client(self, kind: Any, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self.node.create_client(kind, service)
        return self._clients[service]

    def change_state(self, transition_id: int) -> bool:
        request = ChangeState.Request()
        request.transition.id = transition_id
        return self.call(ChangeState, "/pose_node/change_state", request).success

    def state(self) -> str:
        return self.call(GetState, "/pose_node/get_state", GetState.Request(), may_repeat=True).current_state.label

    def _spin(self) -> None:
        # Shut down while it waits, the executor may find its wait set gone.
        with contextlib.suppress(ExternalShutdownException, rclpy.executors.ShutdownException):
            self._executor.spin()


class PosePeer(Peer):
    """A peer of pose_node: publishes `image` and `camera_info`, hears `~/markers` and `/tf`."""

    def __init__(self, domain: int) -> None:
        super().__init__(domain)
        from sensor_msgs.msg import CameraInfo, Image

        self.images = self.node.create_publisher(Image, "image", 5)
        self.infos = self.node.create_publisher(CameraInfo, "camera_info", 5)
        self.markers: list[tuple[float, MarkerArray]] = self.listen(MarkerArray, "/pose_node/markers")
        self.transforms: list[tuple[float, TFMessage]] = self.listen(TFMessage, "/tf")
        # Long before the first call, so that the node's side knows them by then.
        self._client(ChangeState, "/pose_node/change_state")
        self._client(GetState, "/pose_node/get_state")

    def wait_for_subscribers(self, with_info: bool = True) -> None:
        publishers = [self.images, self.infos] if with_info else [self.images]
        self.wait_until(
            lambda: (
                all(publisher.get_subscription_count() for publisher in publishers)
                and self.node.count_publishers("/pose_node/markers")
            ),
            "pose_node's subscriptions",
        )

    def send(self, image: Any, info: Any) -> None:
        self.infos.publish(info)
        self.images.publish(image)

    def marker_arrays_of(self, stamp: Time) -> list[MarkerArray]:
        """The arrays that carry this stamp."""
        return [array for _, array in self.markers if array.markers and array.markers[0].header.stamp == stamp]

    def send_until(self, condition: Callable[[], Any], image: Any, info: Any, what: str) -> None:
        """Sends a frame, again while it is lost: best effort gives no word on when the node's side is connected."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"Sent a frame for {PATIENCE_S:g} s in vain for {what}."
            self.send(image, info)
            with contextlib.suppress(AssertionError):
                self.wait_until(condition, what, RESEND_S)

    def answer(self, image: Any, info: Any) -> MarkerArray:
        """The markers that a frame gives."""
        stamp = image.header.stamp
        self.send_until(lambda: self.marker_arrays_of(stamp), image, info, "markers")
        return self.marker_arrays_of(stamp)[0]


def header_now(frame_id: str = "camera_optical_frame") -> Header:
    return header_at(time.time(), frame_id)


def header_at(stamp_s: float, frame_id: str = "camera_optical_frame") -> Header:
    nanoseconds = round(stamp_s * 1e9)
    return Header(stamp=Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9), frame_id=frame_id)


def flat_image(value: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """[H,W,3] all of one value, which tells the FakePersonPipeline how many people to see."""
    return np.full((size[1], size[0], 3), value, np.uint8)
