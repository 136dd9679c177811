"""video_source: a video file, image, folder of images or webcam as `image` and `camera_info`, at its rate."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import rclpy
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from metrabs_ros.frames import DEFAULT_RATE, Frame, FrameSource, WebcamFrames, open_frames
from metrabs_ros.heap import keep_freed_memory
from metrabs_ros.messages import camera_to_msg, image_to_msg
from metrabs_ros.parameter_set import AT_START, ParameterSet, check_ranges, setting
from metrabs_ros.spinning import spin

# Reliable, so that a recorder gets every frame; shallow, so that a slow reader never sees old ones.
_QOS = QoSProfile(depth=2)
_DECODED_AHEAD = 8
_POLL_S = 0.02


@dataclass(frozen=True)
class SourceParams:
    """The parameters of video_source. Raises InputError where they do not fit together."""

    source: str = setting("", "A video file, image, folder of images or webcam (0, /dev/video0).", AT_START)
    fov_deg: float = setting(0.0, "Field of view of the longer side in degrees.", AT_START, between=(0.0, 179.0))
    camera_yaml: str = setting("", "Calibration file of ROS camera_calibration, instead of fov_deg.", AT_START)
    frame_id: str = setting("camera_optical_frame", "The camera's optical frame.", AT_START)
    rate: float = setting(0.0, "Frames per second; 0 is the video's own rate.", AT_START, between=(0.0, 1000.0))
    max_rate: float = setting(
        0.0,
        "Frames are left out to stay below this rate, at unchanged speed; 0 is no limit.",
        AT_START,
        between=(0, 1000),
    )
    loop: bool = setting(False, "Whether to start again at the end.", AT_START)
    wait_for_subscribers: int = setting(
        0, "Subscribers of image, and of camera_info, to wait for before the first frame.", AT_START, between=(0, 100)
    )
    wait_timeout_s: float = setting(60.0, "Seconds after which to start without them.", AT_START, between=(0.0, 3600.0))

    def __post_init__(self) -> None:
        check_ranges(self)

    def camera(self, size: tuple[int, int]) -> Camera:
        """The camera of images of a size (width, height). Raises InputError where none or another one is given."""
        if bool(self.camera_yaml) == bool(self.fov_deg):
            got = "both" if self.camera_yaml else "neither"
            raise InputError(f"Give either camera_yaml (a calibration file) or fov_deg (e.g. 55.0), got {got}.")
        if not self.camera_yaml:
            return Camera.from_fov(self.fov_deg, size)
        camera = Camera.from_yaml(self.camera_yaml)
        if camera.size != size:
            raise InputError(
                f"{self.camera_yaml} calibrates images of {camera.size[0]}x{camera.size[1]}, but {self.source} has "
                f"{size[0]}x{size[1]}: give the calibration of this camera mode."
            )
        return camera


class VideoSource(Node):
    """Publishes `image` and `camera_info` with the same stamp, that of the moment of publishing."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("video_source", **kwargs)
        self._settings = ParameterSet(self, SourceParams)
        self._images = self.create_publisher(Image, "image", _QOS)
        self._infos = self.create_publisher(CameraInfo, "camera_info", _QOS)
        self._stopped = threading.Event()
        self._player: threading.Thread | None = None

    def start(self) -> Future:
        """Begins to play in another thread; the future is done after the last frame, with an InputError on trouble."""
        params = self._settings.record()
        if not params.source:
            raise InputError("The parameter source is not set: give a video file, an image, a folder or a webcam (0).")
        source = open_frames(params.source, params.rate or DEFAULT_RATE)
        camera = params.camera(source.size)
        done = Future()

        def play() -> None:
            try:
                with source:
                    self._play(source, camera, params)
                done.set_result(None)
            except Exception as error:
                # Publishing fails when the context is shut down meanwhile: that is an end like any other.
                if self.context.ok():
                    done.set_exception(error)

        self._player = threading.Thread(target=play, name="playing", daemon=True)
        self._player.start()
        return done

    def stop(self) -> None:
        """Ends the playing before its next frame; a webcam that gives none is left to the end of the process."""
        self._stopped.set()
        if self._player is not None:
            # A thread still in rclpy when Python ends would abort the process.
            self._player.join(timeout=5)

    def _play(self, source: FrameSource, camera: Camera, params: SourceParams) -> None:
        rate, every = thinned(params.rate or source.rate, params.max_rate)
        is_live = isinstance(source, WebcamFrames)
        chosen = _repeated(source, every, params.loop)
        frames = chosen if is_live else decoded_ahead(chosen, _DECODED_AHEAD)
        info = camera_to_msg(camera, Header(frame_id=params.frame_id))
        self._await_subscribers(params)
        self.get_logger().info(f"Playing {params.source} at {rate:g} Hz.")
        start, due, count = time.monotonic(), time.monotonic(), 0
        for frame in frames:
            if self._stopped.wait(0 if is_live else max(0.0, due - time.monotonic())):
                return
            # Where decoding cannot keep up, the frames that follow are not hurried after it.
            due = max(due, time.monotonic() - 1 / rate) + 1 / rate
            info.header.stamp = self.get_clock().now().to_msg()
            self._infos.publish(info)
            self._images.publish(image_to_msg(frame.image_rgb, info.header))
            count += 1
        for publisher in (self._infos, self._images):
            publisher.wait_for_all_acked(Duration(seconds=2))
        self.get_logger().info(f"{count} frames published in {time.monotonic() - start:.1f} s.")

    def _await_subscribers(self, params: SourceParams) -> None:
        publishers = (self._images, self._infos)
        deadline = time.monotonic() + params.wait_timeout_s
        while min(publisher.get_subscription_count() for publisher in publishers) < params.wait_for_subscribers:
            if time.monotonic() > deadline:
                counts = " and ".join(f"{p.get_subscription_count()} on {p.topic_name}" for p in publishers)
                self.get_logger().warning(
                    f"Starting after {params.wait_timeout_s:g} s with fewer subscribers than the "
                    f"{params.wait_for_subscribers} of wait_for_subscribers: {counts}."
                )
                return
            if self._stopped.wait(_POLL_S):
                return


def thinned(rate: float, max_rate: float) -> tuple[float, int]:
    """The rate that stays below ``max_rate`` (0: no limit) when only every n-th frame is taken, and n."""
    every = math.ceil(rate / max_rate - 1e-6) if max_rate and rate > max_rate else 1
    return rate / every, every


def decoded_ahead(frames: Iterator[Frame], depth: int) -> Iterator[Frame]:
    """The same frames, up to ``depth`` of them decoded in a thread before they are asked for."""
    with ThreadPoolExecutor(1, "decoding") as one_thread:
        ahead = deque(one_thread.submit(next, frames, None) for _ in range(depth))
        while (frame := ahead.popleft().result()) is not None:
            ahead.append(one_thread.submit(next, frames, None))
            yield frame


def _repeated(source: FrameSource, every: int, loop: bool) -> Iterator[Frame]:
    yield from source.thinned(every)
    while loop:
        yield from source.thinned(every)


def main(args: list[str] | None = None) -> int:
    """The executable video_source. Ends with 0 after the last frame, on SIGINT and SIGTERM, and with 2 on trouble."""
    keep_freed_memory()
    rclpy.init(args=args)
    node = VideoSource()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        done = node.start()
        spin(node, executor, done.done)
        if done.done():
            done.result()
    except InputError as error:
        node.get_logger().error(str(error))
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.stop()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
