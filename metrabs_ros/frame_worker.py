"""The thread that runs the pipelines, always on the newest frame of each camera."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from metrabs_ros.camera_pipelines import CameraPipelines
from metrabs_ros.errors import InputError
from metrabs_ros.frame_look import CameraMessages
from metrabs_ros.frame_result import FrameResult
from metrabs_ros.frame_slot import FrameSlots
from metrabs_ros.heap import give_freed_memory_back
from metrabs_ros.pipeline import PosePipeline
from metrabs_ros.reports import Reports


class Camera(Protocol):
    """What the worker needs of a camera; all is called in the worker's threads."""

    def look(self, messages: CameraMessages, pipeline: PosePipeline) -> FrameResult: ...

    def publish(self, result: FrameResult) -> None: ...

    def note_failure(self) -> None: ...


@dataclass(frozen=True)
class _Frame:
    session: int
    messages: CameraMessages


class FrameWorker:
    """Owns the pipelines. Frames are worked on within a session; what is finished after its session is thrown away.

    Nothing is published any more once close_session() has returned, and publish() is called for one frame at a time.
    No frame ends the thread: InputErrors and other exceptions are reported. Without a session the pipelines give back
    the memory that frames have taken, as soon as none is being worked on.
    """

    def __init__(
        self, pipelines: CameraPipelines, cameras: Sequence[Camera], reports: Reports, wait_s: Callable[[], float]
    ) -> None:
        """``wait_s()``: how long the frame of one camera may wait for those of the others."""
        self.pipelines = pipelines
        self.failure = ""
        self._cameras = cameras
        self._reports = reports
        self._wait_s = wait_s
        self._slots: FrameSlots[_Frame] = FrameSlots(len(cameras))
        self._delivering = threading.Lock()
        self._at_work = threading.Lock()
        self._sessions = 0
        self._is_open = False
        self._last_sessions = [0] * len(cameras)
        self._thread = threading.Thread(target=self._run, name="frame_worker", daemon=True)
        self._thread.start()

    def dropped(self, camera: int) -> int:
        """Frames that a newer one replaced before they were worked on."""
        return self._slots.dropped(camera)

    def warm_up(self) -> None:
        """Runs every network once, after the frames that are being worked on: what they need is there again."""
        with self._at_work:
            self.pipelines.warm_up()

    def open_session(self) -> None:
        """Begins anew: everybody is forgotten, and nothing of a frame that is being worked on will be published."""
        with self._delivering:
            self._sessions += 1
            self._is_open = True
        self._slots.clear()

    def close_session(self) -> None:
        """Returns without waiting for the frames that are being worked on; nothing of them will be published."""
        with self._delivering:
            self._is_open = False
        self._slots.clear()
        self._release_memory_unless_open()

    def submit(self, camera: int, messages: CameraMessages) -> None:
        self._slots.put(camera, _Frame(self._sessions, messages))

    def stop(self) -> None:
        """Waits for the frames that are being worked on and closes the pipelines."""
        self.close_session()
        self._slots.close()
        self._thread.join()
        self.pipelines.close()
        give_freed_memory_back()

    def _run(self) -> None:
        while (frames := self._slots.take(self._wait_s())) is not None:
            with self._at_work:
                self.pipelines.run({camera: partial(self._work_on, camera, frame) for camera, frame in frames.items()})
            self._release_memory_unless_open()

    def _release_memory_unless_open(self) -> None:
        """Whoever has the lock when the session is over does it: close_session(), or the thread after its frames."""
        if not self._is_open and self._at_work.acquire(blocking=False):
            try:
                self.pipelines.release_memory()
                give_freed_memory_back()
            finally:
                self._at_work.release()

    def _work_on(self, camera: int, frame: _Frame, pipeline: PosePipeline) -> None:
        try:
            if frame.session != self._last_sessions[camera]:
                pipeline.reset()
                self._last_sessions[camera] = frame.session
            result = self._cameras[camera].look(frame.messages, pipeline)
            with self._delivering:
                if self._is_open and frame.session == self._sessions:
                    self._cameras[camera].publish(result)
            self.failure = ""
        except InputError as error:
            self._cameras[camera].note_failure()
            self._reports.input_error(error)
        except Exception as error:
            self._cameras[camera].note_failure()
            self.failure = f"The last frame failed with {type(error).__name__}: {error}".rstrip(": ")
            self._reports.failure(error)
