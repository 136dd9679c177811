"""People in Rerun: images, skeletons, tracks and figures. Nobody else imports rerun-sdk, and nothing needs it but this.

Below ``<camera>/`` (nothing for the only camera) a recording holds ``view`` (the camera) with ``view/image``,
``view/image/people/<id>`` and ``view/image/boxes`` in pixels; ``people/<id>`` and the way it came, ``tracks/<id>``, in
metres; and ``figures/<name>``. Timelines: ``stamp``, s, and ``frame``, which counts from 0.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.annotate import PALETTE, distance_of, palette_index
from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from metrabs_ros.pose import TrackedPose
from metrabs_ros.skeleton import Skeleton
from metrabs_ros.video_writer import check_writable

Floats = NDArray[np.floating]

_JPEG_QUALITY = 80
_TRACK_FRAMES = 150


class RerunLog:
    """Logs frames to ``target``: a file ending in .rrd, which is replaced; a viewer's HOST:PORT; or, where it is
    empty, the viewer on this machine, which is started unless it runs.

    Any thread may log, one at a time. Raises InputError where rerun-sdk is not installed or the target cannot be used.
    """

    def __init__(self, target: str | Path = "") -> None:
        self._rr = _imported()
        self._recording = self._rr.new_recording("metrabs_ros")
        self._frames: defaultdict[str, int] = defaultdict(int)
        self._skeletons: dict[str, Skeleton] = {}
        self._tracks: defaultdict[str, dict[int, deque[Floats]]] = defaultdict(dict)
        if not str(target):
            self._start_viewer()
        elif re.fullmatch(r"[\w.-]+:\d+", str(target)):
            self._rr.connect_tcp(str(target), recording=self._recording)
        elif Path(target).suffix == ".rrd":
            check_writable(Path(target))
            self._rr.save(target, recording=self._recording)
        else:
            raise InputError(
                f"Expected a file ending in .rrd, a viewer's HOST:PORT, or nothing for the viewer on this machine, got "
                f"{str(target)!r}: correct where Rerun shall log to."
            )

    def log(
        self,
        image_rgb: NDArray[np.uint8],
        camera: Camera,
        skeleton: Skeleton,
        poses: Sequence[TrackedPose],
        stamp_s: float,
        *,
        name: str = "",
        figures: Mapping[str, float] | None = None,
        out_cam: tuple[Floats, Floats] | None = None,
    ) -> None:
        """A frame of the camera ``name``: image_rgb [H,W,3] uint8; people in the camera's optical frame, m; figures of
        any unit, which their names say; out_cam: R [3,3] and t [3] m to the frame in which people are shown (None: the
        optical one)."""
        self._recording.set_time_seconds("stamp", stamp_s)
        self._recording.set_time_sequence("frame", self._frames[name])
        if self._skeletons.get(name) != skeleton:
            self._begin(name, skeleton, is_optical=out_cam is None)
        R, t = out_cam or (np.eye(3), np.zeros(3))
        self._log_view(name, image_rgb, camera, R, t)
        self._log_people(name, poses, R, t)
        for figure, value in (figures or {}).items():
            if np.isfinite(value):
                self._put(name, f"figures/{figure}", self._rr.Scalar(value))
        self._frames[name] += 1

    def close(self) -> None:
        """Everything has been written when it returns."""
        self._rr.disconnect(recording=self._recording)

    def _start_viewer(self) -> None:
        try:
            self._rr.spawn(recording=self._recording)
        except RuntimeError as error:
            raise InputError(
                f"Cannot start the Rerun viewer ({_first_line(error)}): put the folder of the command `rerun` on the "
                "PATH, start it yourself and log to 127.0.0.1:9876, or log to a file ending in .rrd."
            ) from error

    def _begin(self, name: str, skeleton: Skeleton, is_optical: bool) -> None:
        """What holds for all frames: the joints' names, the bones, and a colour for each class of track ids."""
        self._skeletons[name] = skeleton
        rr = self._rr
        classes = [
            rr.ClassDescription(
                info=rr.AnnotationInfo(id=i, color=colour),
                keypoint_annotations=list(enumerate(skeleton.joint_names)),
                keypoint_connections=list(skeleton.edges),
            )
            for i, colour in enumerate(PALETTE)
        ]
        axes = rr.ViewCoordinates.RIGHT_HAND_Y_DOWN if is_optical else rr.ViewCoordinates.RIGHT_HAND_Z_UP
        self._recording.log(name or "/", rr.AnnotationContext(classes), axes, static=True)

    def _log_view(self, name: str, image_rgb: NDArray[np.uint8], camera: Camera, R: Floats, t: Floats) -> None:
        rr = self._rr
        self._put(name, "view", rr.Transform3D(mat3x3=R, translation=t))
        # Lines of the frustum only: joints in pixels are logged as they are, lens distortion included.
        pinhole = rr.Pinhole(image_from_camera=camera.K, resolution=camera.size, camera_xyz=rr.ViewCoordinates.RDF)
        self._put(name, "view/image", pinhole)
        self._put(name, "view/image", rr.Image(image_rgb).compress(jpeg_quality=_JPEG_QUALITY))

    def _log_people(self, name: str, poses: Sequence[TrackedPose], R: Floats, t: Floats) -> None:
        rr, tracks = self._rr, self._tracks[name]
        for track_id in set(tracks) - {pose.track_id for pose in poses}:
            del tracks[track_id]
            for entity in (f"people/{track_id}", f"tracks/{track_id}", f"view/image/people/{track_id}"):
                self._put(name, entity, rr.Clear(recursive=True))
        for pose in poses:
            joints = pose.joints3d @ R.T + t
            colour = palette_index(pose.track_id)
            self._put(name, f"people/{pose.track_id}", self._points(rr.Points3D, joints, colour, _radii(pose)))
            self._put(name, f"view/image/people/{pose.track_id}", self._points(rr.Points2D, pose.joints2d, colour))
            track = tracks.setdefault(pose.track_id, deque(maxlen=_TRACK_FRAMES))
            if np.isfinite(joints).any():
                track.append(np.nanmedian(joints, axis=0))
            way = rr.LineStrips3D([np.array(track)], class_ids=colour) if len(track) > 1 else rr.Clear(recursive=False)
            self._put(name, f"tracks/{pose.track_id}", way)
        labels = [f"#{pose.track_id}  {distance_of(pose):.1f} m" for pose in poses]
        boxes = np.array([pose.box for pose in poses], np.float64).reshape(-1, 4)
        colours = [palette_index(pose.track_id) for pose in poses]
        self._put(
            name,
            "view/image/boxes",
            rr.Boxes2D(mins=boxes[:, :2], sizes=boxes[:, 2:], labels=labels, class_ids=colours),
        )
        self._put(name, "figures/people", rr.Scalar(len(poses)))

    def _points(self, kind: Any, places: Floats, colour: int, radii: Floats | None = None) -> Any:
        """The joints [J,D] that are known; bones follow from their numbers."""
        known = np.flatnonzero(np.isfinite(places).all(-1))
        sizes = None if radii is None else radii[known]
        return kind(places[known], keypoint_ids=known, class_ids=np.full(len(known), colour), radii=sizes)

    def _put(self, name: str, entity: str, what: Any) -> None:
        self._recording.log(f"{name}/{entity}" if name else entity, what)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _radii(pose: TrackedPose) -> Floats:
    """[J] m: the joints' uncertainty, and a small ball where it is not known."""
    return np.where(np.isfinite(pose.uncertainty), pose.uncertainty, 0.02)


def _imported() -> Any:
    try:
        import rerun
    except ImportError as error:
        raise InputError(
            f"Logging to Rerun needs rerun-sdk, which cannot be imported ({error}): `pip install 'rerun-sdk==0.22.*'`, "
            "the last that does with ROS's numpy 1."
        ) from error
    if not hasattr(rerun, "connect_tcp"):
        version = getattr(rerun, "__version__", "another package of that name")
        raise InputError(
            f"Logging to Rerun needs rerun-sdk 0.22, got {version}: `pip install 'rerun-sdk==0.22.*'`, the last that "
            "does with ROS's numpy 1."
        )
    return rerun
