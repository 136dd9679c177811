"""A ROS node of its own that takes down the images and what pose_node publishes about them, then renders it.

`python -m demo.listener --engine NAME --out DIR` listens until SIGINT, then writes demo.mp4, demo.png and demo.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import queue
import signal
import sys
import threading
import time
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import Marker, MarkerArray

from demo.recording import Recording, Selection, people_in
from demo.rendering import render
from demo.spinning import spinning
from metrabs_ros.errors import InputError
from metrabs_ros.heap import keep_freed_memory
from metrabs_ros.messages import camera_from_msg, image_from_msg
from metrabs_ros.model_spec import find_spec, load_spec

# Answers to the last images may take this long after the video has ended.
_SILENCE_S = 2.0
_UNPACKED_LATER = 6


class Listener(Node):
    """Subscribes `image`, `camera_info`, `/pose_node/markers` and `/tf`."""

    def __init__(self, recording: Recording) -> None:
        super().__init__("demo_listener")
        self._recording = recording
        # Images are unpacked and compressed in another thread, so that the arrival of markers is timed undisturbed.
        self._selection = Selection()
        self._images: queue.Queue[tuple[int, Image] | None] = queue.Queue(_UNPACKED_LATER)
        self._unpacker = threading.Thread(target=self._unpack, daemon=True)
        self._unpacker.start()
        self.create_subscription(Image, "image", self._on_image, qos_profile_sensor_data)
        self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, qos_profile_sensor_data)
        self.create_subscription(MarkerArray, "/pose_node/markers", self._on_markers, QoSProfile(depth=100))
        self.create_subscription(TFMessage, "/tf", self._on_tf, QoSProfile(depth=100))

    def finish(self) -> None:
        """Unpacks what still waits."""
        for chosen in (*self._selection.rest(), None):
            self._images.put(chosen)
        self._unpacker.join()

    def _on_image(self, message: Image) -> None:
        self._recording.images += 1
        stamp = message.header.stamp
        self._put(self._selection.with_image(stamp.sec * 1_000_000_000 + stamp.nanosec, message))

    def _on_camera_info(self, info: CameraInfo) -> None:
        if self._recording.camera is None:
            self._recording.camera = camera_from_msg(info)

    def _on_markers(self, message: MarkerArray) -> None:
        now_s = self.get_clock().now().nanoseconds * 1e-9
        stamp_ns, people = people_in(message.markers, Marker.ADD)
        self._recording.add_answer(stamp_ns, people, now_s)
        if stamp_ns is not None and people:
            self._put(self._selection.with_answer(stamp_ns))

    def _on_tf(self, message: TFMessage) -> None:
        self._recording.tf_frames.update(transform.child_frame_id for transform in message.transforms)

    def _put(self, chosen: list[tuple[int, Image]]) -> None:
        try:
            for image in chosen:
                self._images.put_nowait(image)
        except queue.Full:
            self.get_logger().warning("An image is left out of the video: this machine is too busy.")

    def _unpack(self) -> None:
        while (chosen := self._images.get()) is not None:
            stamp_ns, message = chosen
            self._recording.add_picture(stamp_ns, image_from_msg(message))


def listen(recording: Recording, stop: threading.Event) -> None:
    """Fills the recording until ``stop`` is set and the last answers have come."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Listener(recording)
    with spinning(node):
        stop.wait()
        recording.wait_for_silence(_SILENCE_S)
    node.finish()


def main() -> int:
    """Exit code 0 when something was seen, 2 on wrong input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    keep_freed_memory()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    recording = Recording()
    try:
        skeleton = load_spec(find_spec(arguments.engine)).skeleton
        listen(recording, stop)
        figures = recording.figures()
        start = time.monotonic()
        render(recording, skeleton, arguments.out)
        (arguments.out / "demo.json").write_text(json.dumps(dataclasses.asdict(figures), indent=1), encoding="utf-8")
    except InputError as error:
        print(error)
        return 2
    print(f"Rendered in {time.monotonic() - start:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
