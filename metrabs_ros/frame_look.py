"""From one camera's messages to the people in them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from metrabs_ros.calibration_source import CalibrationSource
from metrabs_ros.errors import InputError
from metrabs_ros.frame_result import FrameResult
from metrabs_ros.frame_transforms import FrameTransforms
from metrabs_ros.messages import (
    check_image_msg,
    detections_from_msg,
    image_from_compressed_msg,
    image_from_msg,
    stamp_s,
)
from metrabs_ros.params import CameraParams, NodeParams
from metrabs_ros.pipeline import PosePipeline
from metrabs_ros.pose import Detections
from metrabs_ros.reports import Reports

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CameraMessages:
    """An image and what belongs to it: camera_info where one is needed, detections where a topic gives them."""

    image: Image | CompressedImage
    info: CameraInfo | None = None
    detections: Detection2DArray | None = None


class FrameLook:
    """Looks at one camera's frames. Parameters are read anew for each."""

    def __init__(
        self,
        calibration: CalibrationSource,
        transforms: FrameTransforms,
        params: Callable[[], NodeParams],
        camera_params: Callable[[], CameraParams],
        reports: Reports,
    ) -> None:
        self._calibration = calibration
        self._transforms = transforms
        self._params = params
        self._camera_params = camera_params
        self._reports = reports

    def check(self, messages: CameraMessages) -> None:
        """Raises InputError for what can be seen to be of no use without decoding; in any thread, at once."""
        image = messages.image
        if isinstance(image, Image):
            check_image_msg(image)
            self._calibration.camera(messages.info, (image.width, image.height)).check_size(image.width, image.height)

    def __call__(self, messages: CameraMessages, pipeline: PosePipeline) -> FrameResult:
        """The people in a frame. Raises InputError for messages that cannot be used."""
        params, header = self._params(), messages.image.header
        seconds: dict[str, float] = {}
        with _timed(seconds, "decode"):
            image_rgb = _decoded(messages.image)
            height, width = image_rgb.shape[:2]
            camera = self._calibration.camera(messages.info, (width, height))
            detections = self._detections(messages.detections, (width, height), params)
        with _timed(seconds, "transform"):
            up, camera_height = self._stance(params, header)
            moved = self._transforms.to(params.target_frame, header, params.tf_wait_s) if params.target_frame else None
        _set_up(pipeline, params, up)
        try:
            pipeline.camera_height = camera_height
        except InputError as error:
            self._reports.warning("no feet", f"People are not placed on the floor: {error}")
        with _timed(seconds, "poses"):
            poses = pipeline.process(image_rgb, camera, stamp_s(header), detections)
        if pipeline.seconds_back:
            self._reports.warning(
                "time went back",
                f"The image stamps went back by {pipeline.seconds_back:.3f} s (a bag that loops, two publishers "
                "on one topic?): all track ids start anew.",
            )
        R, t = moved or (np.eye(3), np.zeros(3))
        out = Header(stamp=header.stamp, frame_id=params.target_frame) if moved else header
        x, y, z = (float(part) for part in R @ up)
        return FrameResult(
            header, image_rgb, camera, pipeline.skeleton, tuple(poses), out, R, t, up=(x, y, z), seconds=seconds
        )

    def _stance(self, params: NodeParams, header: Header) -> tuple[Floats, float]:
        """[3] the world's up in the camera's frame, and how many metres the camera is above the floor (0: unknown)."""
        if params.floor_frame:
            on_floor = self._transforms.on(params.floor_frame, header, params.tf_wait_s)
            if on_floor is not None and on_floor[1] > 0:
                return on_floor
            if on_floor is not None:
                self._reports.warning(
                    "below the floor",
                    f"The camera is {-on_floor[1]:.2f} m below the plane z = 0 of {params.floor_frame}: up and "
                    "camera_height hold instead; let floor_frame name the frame of the floor that people stand on.",
                )
        found = None
        if params.gravity_frame:
            found = self._transforms.up(params.gravity_frame, header, params.tf_wait_s)
        camera = self._camera_params()
        up = np.array(camera.up) if found is None else found
        return up / np.linalg.norm(up), camera.camera_height

    def _detections(
        self, message: Detection2DArray | None, size: tuple[int, int], params: NodeParams
    ) -> Detections | None:
        if message is None:
            return None
        found, useless = detections_from_msg(message, size, params.person_classes, params.min_detection_score)
        if useless:
            self._reports.warning(
                "useless detections",
                f"{useless} of {len(message.detections)} detections are of no use in an image of {size[0]}x{size[1]} "
                "(not finite, empty, or outside of it): check the detector and that it sees the same image.",
            )
        return found


def _decoded(image: Image | CompressedImage) -> NDArray[np.uint8]:
    return image_from_compressed_msg(image) if isinstance(image, CompressedImage) else image_from_msg(image)


def _set_up(pipeline: PosePipeline, params: NodeParams, up: Floats) -> None:
    """What may change from frame to frame."""
    pipeline.up = up
    if pipeline.num_aug != params.num_aug:
        pipeline.num_aug = params.num_aug
    pipeline.min_score, pipeline.plausible = params.min_score, params.plausibility
    pipeline.tracking = params.tracking
    pipeline.smoothing = params.smoothing


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
