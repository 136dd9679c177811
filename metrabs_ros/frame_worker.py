"""The thread that runs the pipeline, always on the newest frame."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from metrabs_ros.frame_slot import NewestSlot
from metrabs_ros.messages import image_from_msg, stamp_s
from metrabs_ros.pipeline import PosePipeline
from metrabs_ros.pose import TrackedPose
from metrabs_ros.reports import Reports


@dataclass(frozen=True)
class _Frame:
    session: int
    image: Image
    info: CameraInfo | None


class FrameWorker:
    """Owns the pipeline. Frames are worked on within a session; what is finished after its session is thrown away.

    ``camera_of(info, (width, height))`` gives an image's camera; ``deliver(header, poses)`` is called in the worker's
    thread, never again once close_session() has returned. No frame ends the thread: InputErrors and other exceptions
    are reported.
    """

    def __init__(
        self,
        pipeline: PosePipeline,
        camera_of: Callable[[CameraInfo | None, tuple[int, int]], Camera],
        deliver: Callable[[Header, list[TrackedPose]], None],
        reports: Reports,
    ) -> None:
        self.pipeline = pipeline
        self.processed = 0
        self._camera_of = camera_of
        self._deliver = deliver
        self._reports = reports
        self._slot: NewestSlot[_Frame] = NewestSlot()
        self._delivering = threading.Lock()
        self._sessions = 0
        self._is_open = False
        self._last_session = 0
        self._last_stamp_s = 0.0
        self._thread = threading.Thread(target=self._run, name="frame_worker", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Frames that a newer one replaced before they were worked on."""
        return self._slot.dropped

    def open_session(self) -> None:
        with self._delivering:
            self._sessions += 1
            self._is_open = True

    def close_session(self) -> None:
        """Returns without waiting for the frame that is being worked on; its result will not be delivered."""
        with self._delivering:
            self._is_open = False
        self._slot.clear()

    def submit(self, image: Image, info: CameraInfo | None) -> None:
        self._slot.put(_Frame(self._sessions, image, info))

    def stop(self) -> None:
        """Waits for the frame that is being worked on and closes the pipeline."""
        self.close_session()
        self._slot.close()
        self._thread.join()
        self.pipeline.close()

    def _run(self) -> None:
        while (frame := self._slot.take()) is not None:
            try:
                self._work_on(frame)
            except InputError as error:
                self._reports.input_error(error)
            except Exception as error:
                self._reports.failure(error)

    def _work_on(self, frame: _Frame) -> None:
        header = frame.image.header
        self._reset_tracks_where_time_breaks(frame.session, stamp_s(header))
        image_rgb: NDArray[np.uint8] = image_from_msg(frame.image)
        height, width = image_rgb.shape[:2]
        camera = self._camera_of(frame.info, (width, height))
        poses = self.pipeline.process(image_rgb, camera, stamp_s(header))
        with self._delivering:
            if self._is_open and frame.session == self._sessions:
                self._deliver(header, poses)
                self.processed += 1

    def _reset_tracks_where_time_breaks(self, session: int, now_s: float) -> None:
        if session != self._last_session:
            self.pipeline.reset()
        elif now_s < self._last_stamp_s:
            self._reports.warning(
                "time went back",
                f"The image stamps went back by {self._last_stamp_s - now_s:.3f} s (a bag that loops, two publishers "
                "on one topic?): all track ids start anew.",
            )
            self.pipeline.reset()
        self._last_session, self._last_stamp_s = session, now_s
