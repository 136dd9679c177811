"""People as vision_msgs: a box around each body, and where its root is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseWithCovariance, Quaternion, Vector3
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox3D,
    Detection3D,
    Detection3DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
)

from metrabs_ros.body_frame import frames_of_bodies, unit
from metrabs_ros.body_landmarks import Landmarks
from metrabs_ros.pose import Pose3D, TrackedPose

Floats = NDArray[np.float64]

CLASS_ID = "person"
# Joints are the middles of limbs: as much as this lies around them, m.
BODY_MARGIN = 0.1


@dataclass(frozen=True, eq=False)
class Boxes:
    """N upright boxes: centers [N,3] m; rotations [N,3,3] of x forward, y left, z up; sizes [N,3] m along those."""

    centers: Floats
    rotations: Floats
    sizes: Floats


def people_to_msg(
    poses: Sequence[TrackedPose], joints: Floats, joint_names: Sequence[str], up: ArrayLike, header: Header
) -> Detection3DArray:
    """joints [N,J,3] m, ``up`` the world's up, both in the header's frame.

    Per person: id, the track's; bbox, an upright box that faces where the body does (upright_boxes); one hypothesis,
    class_id "person", with the pose of the root: the hips' midpoint (the box's centre where that is not known), x
    forward and z to the head as REP-155's body_<id> (not rotated where that is not known). Its covariance's first three
    diagonal entries are the hips' uncertainty, zeros where it is not known. Who has no known joint is left out.
    """
    known = np.isfinite(joints).all(-1).any(1)
    joints, poses = joints[known], [pose for pose, is_known in zip(poses, known, strict=True) if is_known]
    points = Landmarks.from_joints(joints, joint_names)
    bodies = frames_of_bodies(points)
    boxes = upright_boxes(joints, bodies.T_cam_body[:, :3, 0], up)
    roots = np.where(np.isfinite(points.pelvis), points.pelvis, boxes.centers)
    turns = np.where(bodies.valid[:, None, None], bodies.T_cam_body[:, :3, :3], np.eye(3))
    root_quaternions = _quaternions(turns)
    box_quaternions = _quaternions(boxes.rotations)
    variances = root_variances(poses, joint_names)
    return Detection3DArray(
        header=header,
        detections=[
            Detection3D(
                header=header,
                id=str(pose.track_id),
                bbox=BoundingBox3D(center=_pose(center, box_quaternion), size=_vector(size)),
                results=[
                    ObjectHypothesisWithPose(
                        hypothesis=ObjectHypothesis(class_id=CLASS_ID, score=float(pose.score)),
                        pose=PoseWithCovariance(pose=_pose(root, quaternion), covariance=_covariance(variance)),
                    )
                ],
            )
            for pose, center, size, box_quaternion, root, quaternion, variance in zip(
                poses, boxes.centers, boxes.sizes, box_quaternions, roots, root_quaternions, variances, strict=True
            )
        ],
    )


def upright_boxes(joints: Floats, forward: Floats, up: ArrayLike, margin: float = BODY_MARGIN) -> Boxes:
    """The smallest boxes around joints [N,J,3] m, and ``margin`` m more on each side.

    Their z is ``up`` and their x the horizontal part of forward [N,3]; where that is not known or vertical (somebody
    who lies on the back), that of the direction from the frame's origin to the person.
    """
    z = np.asarray(up, np.float64) / np.linalg.norm(up)
    middles = np.nanmean(joints, axis=1) if len(joints) else np.zeros((0, 3))
    x = np.full_like(middles, np.nan)
    for direction in (forward, middles, np.tile([1.0, 0.0, 0.0], (len(middles), 1)), np.eye(3)[[1]]):
        flat = direction - (direction @ z)[:, None] * z
        clear = np.linalg.norm(flat, axis=-1, keepdims=True) > 0.2 * np.linalg.norm(direction, axis=-1, keepdims=True)
        x = np.where(np.isfinite(x), x, np.where(clear, unit(flat), np.nan))
    rotations = np.stack([x, np.cross(z, x), np.broadcast_to(z, x.shape)], -1)
    local = np.einsum("nji,nkj->nki", rotations, joints)
    if not len(joints):
        return Boxes(middles, rotations, middles)
    low, high = np.nanmin(local, axis=1), np.nanmax(local, axis=1)
    return Boxes(np.einsum("nij,nj->ni", rotations, (low + high) / 2), rotations, high - low + 2 * margin)


def root_variances(poses: Sequence[Pose3D], joint_names: Sequence[str]) -> Floats:
    """[N] m^2 of the root along one axis, from the hips' uncertainty (all axes together); 0 where it is not known.

    Hips err alike, so that their midpoint errs as they do.
    """
    roots = [i for i, name in enumerate(joint_names) if name in ("left_hip", "right_hip")]
    roots = roots or [i for i, name in enumerate(joint_names) if name == "pelvis"]
    if not poses or not roots:
        return np.zeros(len(poses))
    squares = np.stack([pose.uncertainty for pose in poses])[:, roots] ** 2
    return np.nan_to_num(squares.mean(1) / 3)


def _quaternions(rotations: Floats) -> Floats:
    """[N,3,3] -> [N,4] xyzw."""
    return Rotation.from_matrix(rotations).as_quat() if len(rotations) else np.zeros((0, 4))


def _pose(position: Floats, quaternion: Floats) -> Pose:
    (x, y, z), (qx, qy, qz, qw) = position.tolist(), quaternion.tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def _vector(values: Floats) -> Vector3:
    x, y, z = values.tolist()
    return Vector3(x=x, y=y, z=z)


def _covariance(variance: float) -> Floats:
    return np.diag([variance] * 3 + [0.0] * 3).reshape(-1)
