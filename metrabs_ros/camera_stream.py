"""One camera of the node: what it subscribes to, what belongs together, and what is published of it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from metrabs_ros.calibration_source import CalibrationSource
from metrabs_ros.diagnostics import CameraStatus
from metrabs_ros.errors import InputError
from metrabs_ros.frame_look import CameraMessages, FrameLook
from metrabs_ros.frame_result import FrameResult
from metrabs_ros.frame_slot import StampMatching
from metrabs_ros.frame_transforms import FrameTransforms
from metrabs_ros.messages import stamp_s
from metrabs_ros.params import CameraParams, NodeParams
from metrabs_ros.pipeline import PosePipeline
from metrabs_ros.publishers import PosePublishers
from metrabs_ros.reports import Reports
from metrabs_ros.rerun_log import RerunLog

RCLError = rclpy_implementation.RCLError

# Images that find no camera_info for this long are worth a warning; before, discovery may still be under way.
_PATIENCE_S = 2.0
_ADVICE = {
    "camera_info": (
        "remap camera_info to the camera's topic, or set fov_deg or camera_info_url",
        "set camera_info_match to latest if the camera does not change",
    ),
    "detections": (
        "remap detections to the detector's topic, or set detector to engine",
        "the detector must keep its image's stamp; a slow one needs a larger detections_wait_s",
    ),
}


@dataclass
class _Counts:
    """Since activation."""

    images: int = 0
    done: int = 0
    failed: int = 0
    # Counted in the executor's thread, failed in the worker's.
    refused: int = 0
    dropped_before: int = 0
    people: int = 0
    last: FrameResult | None = None
    latency_s: float = float("nan")
    stages: dict[str, float] = field(default_factory=dict)


class CameraStream:
    """Configured, it has its publishers; active, it has its subscriptions and hands whole sets of messages on."""

    def __init__(
        self,
        node: Node,
        name: str,
        params: Callable[[], NodeParams],
        camera_params: Callable[[], CameraParams],
        transforms: FrameTransforms,
        reports: Reports,
        recording: RerunLog | None = None,
    ) -> None:
        """``name``: "" for the only camera, else what its topics begin with. Raises InputError for a calibration that
        cannot be used."""
        self.name = name
        self._node = node
        self._params = params
        self._camera_params = camera_params
        self._transforms = transforms
        self._reports = reports
        self._recording = recording
        self._calibration = CalibrationSource(camera_params())
        self._look = FrameLook(self._calibration, transforms, params, camera_params, reports)
        prefix = f"~/{name}/" if name else "~/"
        self._outputs = PosePublishers(node, prefix, params().publish_hri, transforms.own_frames)
        self._subscriptions: dict[str, Subscription] = {}
        self._begin(lambda messages: None)

    def subscribe(self, submit: Callable[[CameraMessages], None], dropped: int = 0) -> None:
        """Begins to hand frames on to ``submit``, and says what it waits for; ``dropped``: what status() takes, now."""
        self._begin(submit, dropped)
        compressed = self._camera_params().image_transport == "compressed"
        kinds: dict[str, tuple[Any, str]] = {
            "image": (CompressedImage, self._compressed_topic()) if compressed else (Image, self._topic("image"))
        }
        if self._calibration.needs_info:
            kinds["camera_info"] = (CameraInfo, self._topic("camera_info"))
        if self._params().detector == "topic":
            kinds["detections"] = (Detection2DArray, self._topic("detections"))
        takes_latest = self._camera_params().camera_info_match == "latest"
        self._matching = StampMatching([kind for kind in kinds if kind != "camera_info" or not takes_latest])
        for kind, (message_type, topic) in kinds.items():
            self._subscriptions[kind] = self._node.create_subscription(
                message_type,
                topic,
                partial(self._take, kind),
                # rclpy writes overrides into the profile that it is given.
                copy.copy(qos_profile_sensor_data),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
        topics = {kind: subscription.topic_name for kind, subscription in self._subscriptions.items()}
        companions = [topics.get("camera_info", self._calibration.name), topics.get("detections", "")]
        self._node.get_logger().info(
            f"Waiting for images on {topics['image']} with {' and '.join(filter(None, companions))}."
        )

    def unsubscribe(self) -> None:
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions = {}

    def delete_all(self) -> int:
        """Takes everybody out of the view; how many they were."""
        people, self._counts.people = self._counts.people, 0
        self._outputs.delete_all()
        return people

    def destroy(self) -> None:
        self.unsubscribe()
        self._outputs.destroy()

    def look(self, messages: CameraMessages, pipeline: PosePipeline) -> FrameResult:
        """In the worker's threads: the people in a frame. Raises InputError."""
        return self._look(messages, pipeline)

    def publish(self, result: FrameResult) -> None:
        """In the worker's threads."""
        start = time.perf_counter()
        try:
            self._outputs.publish(result, self._params())
        except RCLError:
            # A frame that is done after SIGINT has nowhere to go.
            if self._node.context.ok():
                raise
            return
        counts = self._counts
        counts.stages = {**result.seconds, "publish": time.perf_counter() - start}
        counts.latency_s = 1e-9 * self._node.get_clock().now().nanoseconds - stamp_s(result.image_header)
        counts.last, counts.people = result, len(result.poses)
        counts.done += 1
        if self._recording is not None:
            self._record(self._recording, result)

    def note_failure(self) -> None:
        self._counts.failed += 1

    def status(self, dropped: int) -> CameraStatus:
        """``dropped``: how many of its frames were passed over since the node was configured."""
        counts, last = self._counts, self._counts.last
        return CameraStatus(
            name=self.name,
            images=counts.images,
            done=counts.done,
            dropped=dropped - counts.dropped_before,
            failed=counts.failed + counts.refused + self._matching.given_up("image"),
            unmatched=self._matching.overtaken("image"),
            latency_s=counts.latency_s,
            stage_s=counts.stages,
            last_stamp_s=None if last is None else stamp_s(last.image_header),
            people=counts.people,
            state="" if last is None else _state(last),
            trouble=self._trouble,
        )

    def _begin(self, submit: Callable[[CameraMessages], None], dropped: int = 0) -> None:
        self._submit = submit
        self._matching = StampMatching(["image"])
        self._latest_info: CameraInfo | None = None
        self._heard: set[str] = set()
        self._whole_at = time.monotonic()
        self._trouble = ""
        self._counts = _Counts(dropped_before=dropped)

    def _take(self, kind: str, message: Any) -> None:
        params = self._params()
        self._heard.add(kind)
        if kind == "image":
            self._counts.images += 1
            if params.target_frame or params.gravity_frame or params.floor_frame:
                self._transforms.open()
        if kind == "camera_info":
            self._latest_info = message
        whole = None
        if kind in self._matching.kinds:
            whole = self._matching.with_message(kind, message, params.detections_wait_s)
        if whole is not None and self._has_info():
            self._whole_at, self._trouble = time.monotonic(), ""
            self._hand_on(whole)
        elif kind == "image" and time.monotonic() - self._whole_at > _PATIENCE_S:
            self._complain()

    def _has_info(self) -> bool:
        is_taken_from_latest = self._calibration.needs_info and "camera_info" not in self._matching.kinds
        return not is_taken_from_latest or self._latest_info is not None

    def _hand_on(self, whole: dict[str, Any]) -> None:
        if not self._outputs.wants_anything and self._recording is None:
            return
        info = whole.get("camera_info", self._latest_info if self._calibration.needs_info else None)
        messages = CameraMessages(whole["image"], info, whole.get("detections"))
        try:
            # Else a frame of no use would take the place of a good one that waits.
            self._look.check(messages)
        except InputError as error:
            self._counts.refused += 1
            self._reports.input_error(error)
        else:
            self._submit(messages)

    def _record(self, recording: RerunLog, result: FrameResult) -> None:
        counts = self._counts
        figures = {f"{stage}_ms": 1e3 * taken for stage, taken in counts.stages.items()}
        recording.log(
            result.image_rgb,
            result.camera,
            result.skeleton,
            result.poses,
            stamp_s(result.image_header),
            name=self.name,
            figures={"latency_ms": 1e3 * counts.latency_s, "frames_failed": float(counts.failed), **figures},
            out_cam=None if result.header is result.image_header else (result.R_out_cam, result.t_out_cam),
        )

    def _complain(self) -> None:
        """Of what the images lack."""
        lacking = [kind for kind in self._subscriptions if kind not in self._heard] or [
            kind for kind in self._matching.lacking("image") if kind in _ADVICE
        ]
        if not lacking:
            return
        kind = lacking[0]
        at_all = kind not in self._heard
        trouble = f"no {kind} {'at all' if at_all else 'with their stamps'}: {_ADVICE[kind][0 if at_all else 1]}"
        image, other = self._subscriptions["image"].topic_name, self._subscriptions[kind].topic_name
        self._trouble = f"Images arrive on {image}, but {trouble} ({kind} is read from {other})."
        self._reports.warning(f"{self.name} {trouble}", self._trouble)

    def _topic(self, name: str) -> str:
        return f"{self.name}/{name}" if self.name else name

    def _compressed_topic(self) -> str:
        """image/compressed where that itself is remapped, else what image is remapped to, and /compressed."""
        topic = self._topic("image/compressed")
        own = self._node.resolve_topic_name(topic, only_expand=True)
        remapped = self._node.resolve_topic_name(topic)
        return topic if remapped != own else f"{self._node.resolve_topic_name(self._topic('image'))}/compressed"


def _state(result: FrameResult) -> str:
    width, height = result.camera.size
    lens = result.camera.distortion_model if result.camera.is_distorted else "no distortion"
    return f"{width}x{height}, {lens}, frame {result.image_header.frame_id!r}"
