"""The parameters of pose_node."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from metrabs_ros.body_urdf import checked_id
from metrabs_ros.conventions import CONVENTIONS, ENGINE
from metrabs_ros.engine import AUTO
from metrabs_ros.errors import InputError
from metrabs_ros.parameter_set import (
    ANY_TIME,
    AT_START,
    Setting,
    check_ranges,
    setting,
    settings_of,
)
from metrabs_ros.plausibility import PlausibilityParams
from metrabs_ros.smoothing import METHODS, SmoothingParams
from metrabs_ros.tracking import TrackingParams
from metrabs_ros.uncertainty import GREATEST_HEIGHT


@dataclass(frozen=True)
class CameraParams:
    """What differs between the cameras of one node. Raises InputError for values outside their range."""

    image_transport: str = setting(
        "raw", "What is subscribed to: image, or image/compressed (JPEG or PNG).", choices=("raw", "compressed")
    )
    fov_deg: float = setting(
        0.0,
        "Field of view of the image's longer side in degrees, instead of camera_info; 0 waits for camera_info.",
        between=(0.0, 179.0),
    )
    camera_info_url: str = setting(
        "",
        "A calibration of camera_calibration instead of camera_info: file:///DIR/FILE.yaml or "
        "package://PACKAGE/FILE.yaml.",
    )
    camera_info_match: str = setting(
        "stamp",
        "Which camera_info belongs to an image: the one of the same stamp, or the latest.",
        choices=("stamp", "latest"),
    )
    rectified: bool = setting(False, "The image is rectified: the camera is camera_info's P, without lens distortion.")
    up: tuple[float, float, float] = setting(
        (0.0, -1.0, 0.0), "The world's up in the camera's optical frame; see gravity_frame.", ANY_TIME
    )
    camera_height: float = setting(
        0.0,
        "Metres of the camera above the floor, along up: people stand there; 0: unknown; see floor_frame.",
        ANY_TIME,
        between=(0.0, 100.0),
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if not all(map(math.isfinite, self.up)) or not any(self.up):
            raise InputError(f"The parameter up must be a direction like [0.0, -1.0, 0.0], got {list(self.up)}.")
        if self.fov_deg and self.camera_info_url:
            raise InputError(
                f"The parameters fov_deg ({self.fov_deg:g}) and camera_info_url ({self.camera_info_url}) both say what "
                "the camera is: give one of them."
            )


@dataclass(frozen=True)
class NodeParams(CameraParams):
    """The parameters of pose_node. Raises InputError for values outside their range."""

    cameras: tuple[str, ...] = setting(
        ("",), "Names of several cameras, each with topics below its name; none: one camera.", AT_START
    )
    batch_wait_s: float = setting(
        0.01, "Seconds that a camera's frame waits for those of the others.", ANY_TIME, between=(0.0, 1.0)
    )
    engine: str = setting("metrabs_base", "Name of an engine in engines/, or the path of an engine's .yaml.")
    backend: str = setting(
        AUTO,
        "Runtime of the engine: auto (the fastest exact one here), openvino, openvino_bf16, openvino_gpu, "
        "openvino_gpu_fp16, onnxruntime, onnxruntime_tensorrt, tensorrt, tensorrt_rtx.",
    )
    auto_build: bool = setting(
        False, "Whether configuring builds the engine that the backend tensorrt or tensorrt_rtx lacks; takes minutes."
    )
    convention: str = setting(
        ENGINE, "Joints that are published: the engine's own, or those of a skeleton convention.", choices=CONVENTIONS
    )
    num_aug: int = setting(
        1, "Views of each person that are averaged (test-time augmentation).", ANY_TIME, between=(1, 32)
    )
    person_height: float = setting(
        0.0,
        "Height in metres of everybody in view where it is known, which decides how far they are; 0: unknown.",
        between=(0.0, GREATEST_HEIGHT),
    )
    min_score: float = setting(
        0.0, "Poses of a lower score are left out, beside those that the engine rejects.", ANY_TIME, between=(0.0, 1.0)
    )
    detector: str = setting(
        "engine", "Who finds people: the engine's own detector, or detections on a topic.", choices=("engine", "topic")
    )
    detections_wait_s: float = setting(
        0.5,
        "Seconds by which an image may be older than the newest one and still wait for its detections or camera_info.",
        ANY_TIME,
        between=(0.0, 10.0),
    )
    detection_classes: tuple[str, ...] = setting(
        ("",), "Class ids that mean a person on the topic detections; none: all.", ANY_TIME
    )
    min_detection_score: float = setting(0.0, "Detections of a lower score are left out.", ANY_TIME, between=(0.0, 1.0))
    target_frame: str = setting(
        "", "TF frame in which people are published; empty: the camera's optical frame.", ANY_TIME
    )
    gravity_frame: str = setting("", "TF frame whose z points up in the world; empty: up holds.", ANY_TIME)
    floor_frame: str = setting(
        "",
        "TF frame whose plane z = 0 people stand on, z up; goes before gravity_frame; empty: camera_height holds.",
        ANY_TIME,
    )
    tf_wait_s: float = setting(
        0.05, "Seconds that a frame waits for the transforms of its stamp.", ANY_TIME, between=(0.0, 1.0)
    )
    tracking: TrackingParams = field(default_factory=TrackingParams, metadata=settings_of(TrackingParams))
    smoothing: SmoothingParams = field(
        default_factory=SmoothingParams,
        metadata=settings_of(
            SmoothingParams, method=Setting("Filter over time for each joint of a person.", ANY_TIME, choices=METHODS)
        ),
    )
    plausibility: PlausibilityParams = field(
        default_factory=PlausibilityParams, metadata=settings_of(PlausibilityParams)
    )
    publish_tf: bool = setting(True, "Whether to publish a TF frame per person and joint.", ANY_TIME)
    publish_markers: bool = setting(True, "Whether to publish ~/markers.", ANY_TIME)
    tf_prefix: str = setting("", "What stands before person_<id>/<joint> in TF frame names.", ANY_TIME)
    marker_lifetime_s: float = setting(
        1.0, "Seconds after which a marker disappears when nothing follows; 0 never.", ANY_TIME, between=(0.0, 3600.0)
    )
    marker_scale: float = setting(1.0, "Factor on the size of joints, bones and text.", ANY_TIME, between=(0.01, 100.0))
    autostart: bool = setting(True, "Whether the node configures and activates itself.", AT_START)
    publish_hri: bool = setting(True, "Whether to publish REP-155's /humans/bodies.")
    publish_hri_links: bool = setting(
        True,
        "Whether to publish TF frames of the links of REP-155's model; false where a robot_state_publisher does.",
        ANY_TIME,
    )
    hri_reference_joints: bool = setting(
        False, "Whether bodies have only REP-155's joints, which fit twisted and bent trunks less well.", ANY_TIME
    )
    hri_id_prefix: str = setting("p", "What stands before the track id in a body's id: letters, digits, underscores.")
    publish_people: bool = setting(True, "Whether to publish ~/people.", ANY_TIME)
    publish_joints: bool = setting(True, "Whether to publish ~/joints.", ANY_TIME)
    publish_image_annotated: bool = setting(True, "Whether to publish ~/image_annotated.", ANY_TIME)
    rerun: bool = setting(False, "Whether to log images, people and figures to Rerun; needs rerun-sdk.")
    rerun_to: str = setting(
        "", "Where rerun logs to: FILE.rrd, a viewer's HOST:PORT; empty: the viewer on this machine, which is started."
    )
    annotated_jpeg_quality: int = setting(80, "Quality of ~/image_annotated/compressed.", ANY_TIME, between=(1, 100))

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_id(f"{self.hri_id_prefix}1")
        for name in self.camera_names:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                raise InputError(
                    f"A camera's name must be letters, digits and underscores after a letter, got {name!r} in the "
                    "parameter cameras: it becomes part of topics and parameters."
                )
        if len(set(self.camera_names)) < len(self.camera_names):
            raise InputError(f"The parameter cameras must name each camera once, got {list(self.cameras)}.")

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Those given; an empty name, as parameter files cannot hold an empty list, is none."""
        return tuple(filter(None, self.cameras))

    @property
    def person_classes(self) -> tuple[str, ...]:
        """Those given; an empty name is none."""
        return tuple(filter(None, self.detection_classes))

    def of_camera(self) -> dict[str, object]:
        """The values of the parameters that each camera has."""
        return {name: getattr(self, name) for name in CameraParams.__dataclass_fields__}
