"""How the node is doing, once a second, on /diagnostics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions

PERIOD_S = 1.0
# So many seconds without an image, or without a camera_info that belongs to one, are worth a warning: before,
# discovery may still be under way, or a slow camera be between two frames.
PATIENCE_S = 3.0

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass(frozen=True)
class CameraStatus:
    """One camera. Counts are since activation.

    name "" for the only one; images that arrived; frames worked on (done), passed over for newer ones (dropped), of no
    use (failed: no camera_info, undecodable, a fault), and overtaken by a newer one while their camera_info or
    detections were to come (unmatched); latency_s from the last image's stamp to what was published of it; stage_s: how
    long each stage of the last frame took, by name; last_stamp_s of the last frame done, None before it; people in it;
    state: a sentence on the camera ("640x480, plumb_bob, 30 Hz"); trouble: a sentence where something is lacking, as
    camera_info, which gives a WARN.
    """

    name: str = ""
    images: int = 0
    done: int = 0
    dropped: int = 0
    failed: int = 0
    unmatched: int = 0
    latency_s: float = math.nan
    stage_s: Mapping[str, float] = field(default_factory=dict)
    last_stamp_s: float | None = None
    people: int = 0
    state: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class NodeStatus:
    """The node: its lifecycle state's name; the engine, its backend and device; failure: a sentence where the engine
    failed, which gives an ERROR; calls: of several cameras, how many batches ran and how many of them were of several
    cameras at once; building: how far an engine is that is being built."""

    lifecycle: str = "unconfigured"
    engine: str = ""
    backend: str = ""
    device: str = ""
    failure: str = ""
    calls: tuple[int, int] = (0, 0)
    cameras: tuple[CameraStatus, ...] = ()
    building: str = ""


class NodeDiagnostics:
    """Publishes ``status()`` at 1 Hz, whatever the simulated time: "<node>: engine", and "<node>: camera" (a named
    camera: "<node>: camera <name>") for each."""

    def __init__(self, node: Node, status: Callable[[], NodeStatus]) -> None:
        self._node = node
        self._status = status
        overrides = QoSOverridingOptions.with_default_policies()
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10, qos_overriding_options=overrides)
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._judges: dict[str, CameraJudge] = {}
        self._timer = node.create_timer(PERIOD_S, self.publish, clock=self._clock)

    def destroy(self) -> None:
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)

    def publish(self) -> None:
        """At once, beside the timer."""
        status = self._status()
        now_s = self._clock.now().nanoseconds * 1e-9
        self._judges = {camera.name: self._judges.get(camera.name) or CameraJudge(now_s) for camera in status.cameras}
        name = self._node.get_fully_qualified_name().strip("/")
        array = DiagnosticArray(status=[engine_to_msg(status, name)])
        array.header.stamp = self._node.get_clock().now().to_msg()
        for camera in status.cameras:
            judge = self._judges[camera.name]
            array.status.append(judge.to_msg(camera, status.lifecycle == "active", name, now_s))
        self._publisher.publish(array)


class CameraJudge:
    """What follows from two looks at the counts of a camera: its rates, and what is wrong."""

    def __init__(self, now_s: float) -> None:
        self._then_s = now_s
        self._before = CameraStatus()
        self._image_s = now_s

    def to_msg(self, camera: CameraStatus, is_active: bool, node_name: str, now_s: float) -> DiagnosticStatus:
        """Of ``camera`` at now_s, s, and the frames since the last call."""
        before = self._before if camera.images >= self._before.images else CameraStatus()
        images, done = camera.images - before.images, camera.done - before.done
        dropped, failed = camera.dropped - before.dropped, camera.failed - before.failed
        seconds = max(now_s - self._then_s, 1e-9)
        self._image_s = now_s if images or not is_active else self._image_s
        level, message = self._judged(camera, is_active, done, dropped, failed, now_s)
        self._before, self._then_s = camera, now_s
        values = {
            "image rate (Hz)": _number(images / seconds),
            "rate (Hz)": _number(done / seconds),
            "latency (ms)": _number(1e3 * camera.latency_s),
            **{f"{stage} (ms)": _number(1e3 * taken) for stage, taken in camera.stage_s.items()},
            "frames": str(camera.done),
            "frames dropped": str(camera.dropped),
            "frames failed": str(camera.failed),
            "frames unmatched": str(camera.unmatched),
            "last stamp (s)": "" if camera.last_stamp_s is None else f"{camera.last_stamp_s:.6f}",
            "people": str(camera.people),
            "camera": camera.state,
        }
        title = f"{node_name}: camera {camera.name}".rstrip()
        return _to_msg(level, title, message, camera.name, values)

    def _judged(
        self, camera: CameraStatus, is_active: bool, done: int, dropped: int, failed: int, now_s: float
    ) -> tuple[bytes, str]:
        silent_s = now_s - self._image_s
        if not is_active:
            return OK, "Not active."
        if silent_s >= PATIENCE_S:
            return WARN, f"No images for {silent_s:.0f} s: check the camera's driver and the topic's name and QoS."
        if camera.trouble:
            return WARN, camera.trouble
        if failed > done:
            return WARN, f"{failed} of the last {failed + done} frames could not be used: see the log."
        if dropped > done:
            return WARN, (
                f"{dropped} of the last {dropped + done} frames were passed over for newer ones: lower the camera's "
                "rate, or take a faster engine or machine."
            )
        return OK, f"{camera.people} people." if camera.last_stamp_s is not None else "Waiting for images."


def engine_to_msg(status: NodeStatus, node_name: str) -> DiagnosticStatus:
    """ERROR with the sentence of its failure, or OK with what is being built or the lifecycle state."""
    values = {
        "lifecycle": status.lifecycle,
        "engine": status.engine,
        "backend": status.backend,
        "device": status.device,
        "people": str(sum(camera.people for camera in status.cameras)),
    }
    if len(status.cameras) > 1:
        values["batches"], values["batches of several cameras"] = map(str, status.calls)
    level = ERROR if status.failure else OK
    message = status.failure or status.building or f"{status.lifecycle.capitalize()}."
    return _to_msg(level, f"{node_name}: engine", message, status.device, values)


def _to_msg(level: bytes, name: str, message: str, hardware_id: str, values: Mapping[str, str]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=message, hardware_id=hardware_id, values=pairs)


def _number(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else ""
