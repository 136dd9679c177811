"""How engines agree with another on a real video that nobody has labelled, and how steady they are on it.

The reference's pipeline finds and follows the people; all engines then look at its boxes. A reference is not the truth:
what an engine sees better than it does counts as disagreement. Bones that keep their lengths, and poses that are those
of the mirrored picture, count for an engine whatever the reference says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from metrabs_ros.frames import Frame
from metrabs_ros.pipeline import PosePipeline
from metrabs_ros.skeleton import Skeleton
from training import bones, metrics
from training.protocols import joints
from training.protocols.poses import Floats
from training.tables import Column, Sheet

COLUMNS = (
    Column("people", "", 0),
    Column("agreed on", "%"),
    Column("MPJPE"),
    Column("P-MPJPE"),
    Column("2D, of the box", "%"),
    Column("depth over the reference's", "%"),
    Column("bone length spread ↓", "%"),
    Column("P-MPJPE from its mirror image ↓"),
    Column("height along the body"),
)
_REFERENCE = "the reference"
# From ankle to ear along one side of the body: what all skeletons have of a person's height.
_HEIGHT = ("ankle", "knee", "hip", "shoulder", "ear")


@dataclass(frozen=True, eq=False)
class Look:
    """Boxes [N,4] xywh px in a picture [H,W,3] uint8 of a camera without distortion."""

    image_rgb: NDArray[np.uint8]
    camera: Camera
    boxes: Floats

    def mirrored(self) -> Look:
        """Left and right exchanged."""
        camera, last = self.camera, self.camera.size[0] - 1
        K = np.array(camera.K)
        K[0, 2] = last - K[0, 2]
        return Look(
            np.ascontiguousarray(self.image_rgb[:, ::-1]),
            Camera(K, camera.D, camera.distortion_model, camera.size),
            np.column_stack([last - self.boxes[:, 0] - self.boxes[:, 2], self.boxes[:, 1:]]),
        )


def evaluate(
    pipelines: dict[str, PosePipeline], reference: PosePipeline, frames: Iterable[Frame], camera: Camera, every: int = 1
) -> Sheet:
    """One row an engine, the reference's own first; of every so many-th frame.

    Raises InputError without any person, and for a lens with distortion, whose mirror image would be another lens.
    """
    if camera.is_distorted:
        raise InputError("Agreement needs pictures without lens distortion: undistort them first.")
    shared = joints.common(reference.skeleton.joint_names, *(p.skeleton.joint_names for p in pipelines.values()))
    people: list[int] = []
    sizes: list[float] = []
    theirs: list[Floats] = []
    engines = {_REFERENCE: reference, **pipelines}
    seen: dict[str, list[Floats]] = {name: [] for name in engines}
    mirrored: dict[str, list[Floats]] = {name: [] for name in engines}
    for frame in frames:
        tracked = reference.process(frame.image_rgb, camera, frame.stamp_s)
        if frame.index % every or not tracked:
            continue
        boxes = np.stack([pose.box for pose in tracked])
        people += [pose.track_id for pose in tracked]
        sizes += boxes[:, 2:].max(1).tolist()
        own = np.stack([pose.joints3d for pose in tracked])
        theirs.append(joints.picked(own, reference.skeleton.joint_names, shared, "The reference"))
        look = Look(frame.image_rgb, camera, boxes)
        in_mirror = look.mirrored()
        for name, pipeline in engines.items():
            seen[name].append(_at_boxes(pipeline, look, shared, name))
            mirrored[name].append(_mirrored_back(_at_boxes(pipeline, in_mirror, shared, name), shared))
    if not people:
        raise InputError("The reference found nobody in these pictures: give others.")
    truth, ids, size = np.concatenate(theirs), np.array(people), np.array(sizes)
    rows = {
        name: _row(
            truth if name == _REFERENCE else np.concatenate(own),
            truth,
            _from_mirror(np.concatenate(own), np.concatenate(mirrored[name])),
            ids,
            size,
            shared,
            camera,
        )
        for name, own in seen.items()
    }
    note = f"{len(shared)} joints in common, {len(set(people))} tracks. The reference is no ground truth."
    return Sheet("Agreement on a real video", COLUMNS, rows, {}, (note,))


def _at_boxes(pipeline: PosePipeline, look: Look, shared: tuple[str, ...], name: str) -> Floats:
    """[N,J,3] m, NaN where the engine sees nobody in the box."""
    poses = pipeline.estimate(look.image_rgb, look.camera, look.boxes)
    out = np.full((len(look.boxes), len(pipeline.skeleton.joint_names), 3), np.nan)
    for pose in poses:
        out[np.abs(look.boxes - pose.box).sum(1).argmin()] = pose.joints3d
    return joints.picked(out, pipeline.skeleton.joint_names, shared, name)


def _mirrored_back(poses: Floats, shared: tuple[str, ...]) -> Floats:
    """[N,J,3] m as in the picture whose mirror image they were seen in."""
    return poses[:, Skeleton(shared, ()).mirror] * [-1, 1, 1]


def _from_mirror(poses: Floats, mirrored: Floats) -> float:
    both = np.isfinite(poses).all((1, 2)) & np.isfinite(mirrored).all((1, 2))
    return metrics.p_mpjpe(mirrored[both], poses[both])


def _row(
    poses: Floats,
    truth: Floats,
    from_mirror: float,
    people: np.ndarray,
    sizes: Floats,
    shared: tuple[str, ...],
    camera: Camera,
) -> list[float]:
    agreed = np.isfinite(poses).all((1, 2))
    found, reference = poses[agreed], truth[agreed]
    root = joints.root_of(shared)
    depth = metrics.root_points(found, root)[:, 2] / metrics.root_points(reference, root)[:, 2]
    apart = np.linalg.norm(camera.project(found)[0] - camera.project(reference)[0], axis=-1).mean(1) / sizes[agreed]
    return [
        float(agreed.sum()),
        float(agreed.mean()),
        metrics.mpjpe(found, reference, root),
        metrics.p_mpjpe(found, reference),
        float(np.median(apart)),
        float(np.median(depth)),
        bones.spread(found, people[agreed], shared),
        from_mirror,
        float(np.median(bones.along(found, _HEIGHT, shared))),
    ]
