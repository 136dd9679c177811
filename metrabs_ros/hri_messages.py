"""One body as REP-155 (ROS4HRI) describes it: hri_msgs, and sensor_msgs/JointState."""

from __future__ import annotations

import array
from functools import lru_cache

import numpy as np
from hri_msgs.msg import NormalizedPointOfInterest2D, NormalizedRegionOfInterest2D, Skeleton2D
from numpy.typing import NDArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Header

from metrabs_ros.body_model import JOINT_NAMES, REFERENCE_JOINT_NAMES
from metrabs_ros.conventions import Conversion, conversion
from metrabs_ros.errors import InputError
from metrabs_ros.frame_result import FrameResult
from metrabs_ros.skeleton import Skeleton

Floats = NDArray[np.float64]

# The indices that hri_msgs/Skeleton2D gives its points.
SKELETON2D = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "left_eye", "right_eye",
    "left_ear", "right_ear",
)  # fmt: skip


def skeletons2d(result: FrameResult) -> Floats:
    """[N,18,3]: x, y in 0..1 of the image's edges and confidence of the points of hri_msgs/Skeleton2D.

    Projections of the joints (or of what conventions.py's ros4hri derives from them), with the person's score. What
    cannot be derived is 0, 0, 0; what lies outside the image has its nearest place there and confidence 0, because
    REP-155's coordinates end there.
    """
    points = np.zeros((len(result.poses), len(SKELETON2D), 3))
    wanted = _derived(result.skeleton)
    if wanted is None or not result.poses:
        return points
    joints = wanted.joints(np.stack([pose.joints3d for pose in result.poses]))
    pixels, valid = result.camera.project(joints)
    places = (pixels + 0.5) / result.camera.size
    known = valid & np.isfinite(places).all(-1)
    inside = known & ((places >= 0) & (places <= 1)).all(-1)
    scores = np.array([pose.score for pose in result.poses])[:, None]
    index = [SKELETON2D.index(name) for name in wanted.skeleton.joint_names]
    points[:, index, :2] = np.where(known[..., None], np.clip(np.nan_to_num(places), 0, 1), 0)
    points[:, index, 2] = np.where(inside, scores, 0)
    return points


def skeleton2d_to_msg(points: Floats, header: Header) -> Skeleton2D:
    """[18,3] of skeletons2d."""
    return Skeleton2D(
        header=header, skeleton=[NormalizedPointOfInterest2D(x=x, y=y, c=c) for x, y, c in points.tolist()]
    )


def roi_to_msg(edges: Floats, score: float, header: Header) -> NormalizedRegionOfInterest2D:
    """edges [4]: left, top, right, bottom in 0..1 of the image's edges."""
    left, top, right, bottom = edges.tolist()
    return NormalizedRegionOfInterest2D(header=header, xmin=left, ymin=top, xmax=right, ymax=bottom, c=float(score))


def joint_state_to_msg(positions: Floats, body_id: str, header: Header, reference_joints: bool) -> JointState:
    """positions [len(JOINT_NAMES)] rad (clavicles and neck: m) of the joints of the body's URDF, named as there."""
    kept = positions[_reference_index()] if reference_joints else positions
    return JointState(
        header=Header(stamp=header.stamp),
        name=list(_joint_names(body_id, reference_joints)),
        position=array.array("d", kept.tolist()),
    )


@lru_cache(maxsize=64)
def _joint_names(body_id: str, reference_joints: bool) -> tuple[str, ...]:
    return tuple(f"{name}_{body_id}" for name in (REFERENCE_JOINT_NAMES if reference_joints else JOINT_NAMES))


@lru_cache(maxsize=1)
def _reference_index() -> NDArray[np.intp]:
    return np.array([JOINT_NAMES.index(name) for name in REFERENCE_JOINT_NAMES])


@lru_cache(maxsize=8)
def _derived(skeleton: Skeleton) -> Conversion | None:
    try:
        return conversion(skeleton, "ros4hri")
    except InputError:
        return None
