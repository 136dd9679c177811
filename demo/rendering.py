"""demo.mp4 and demo.png: the image with the published 3D re-projected, beside a view from above in metres."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from demo.recording import Floats, Recording
from metrabs_ros import annotate
from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from metrabs_ros.frames import Image
from metrabs_ros.pose import TrackedPose
from metrabs_ros.skeleton import Skeleton
from metrabs_ros.video_writer import VideoWriter, write_picture


def render(recording: Recording, skeleton: Skeleton, out: Path) -> None:
    """Writes both into the folder ``out``. Raises InputError where nothing was recorded."""
    stamps = recording.shown()
    if not stamps or recording.camera is None:
        raise InputError(
            f"Nothing to show: got {recording.images} images, {len(recording.arrivals_s)} answers of pose_node."
        )
    first = _decoded(recording, stamps[0])
    camera = recording.camera.zoomed(
        first.shape[1] / recording.camera.size[0], first.shape[0] / recording.camera.size[1]
    )
    height = first.shape[0]
    view_size = (round(0.9 * height), height)
    view = annotate.TopView(skeleton, camera, view_size)
    seconds = (stamps[-1] - stamps[0]) * 1e-9
    rate = float(np.clip((len(stamps) - 1) / seconds, 1, 60)) if seconds > 0 else 1.0
    best = best_stamp(recording, stamps)
    with VideoWriter(out / "demo.mp4", (first.shape[1] + view_size[0], height), rate) as writer:
        for stamp in stamps:
            poses = _poses(recording.people.get(stamp, {}), camera)
            image = annotate.drawn(_decoded(recording, stamp), poses, skeleton)
            picture = annotate.side_by_side(image, view.drawn(poses))
            writer.write(picture)
            if stamp == best:
                write_picture(out / "demo.png", picture)


def best_stamp(recording: Recording, stamps: list[int]) -> int:
    """The middle one of the pictures with the most people."""
    counts = [len(recording.people.get(stamp, {})) for stamp in stamps]
    fullest = [stamp for stamp, count in zip(stamps, counts, strict=True) if count == max(counts)]
    return fullest[len(fullest) // 2]


def _decoded(recording: Recording, stamp: int) -> Image:
    return cv2.cvtColor(cv2.imdecode(recording.pictures[stamp], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _poses(people: dict[int, Floats], camera: Camera) -> list[TrackedPose]:
    """What the markers tell of each person; box and uncertainty are not among it."""
    nowhere, unknown = np.full(4, np.nan), np.full(1, np.nan)
    return [
        TrackedPose(nowhere, 1.0, joints3d, camera.project(joints3d)[0], unknown, track_id)
        for track_id, joints3d in people.items()
    ]
