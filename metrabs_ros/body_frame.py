"""Where a body is and how it is turned: the frames of its pelvis, torso and head, from the points of a skeleton.

All follow REP-155 and REP-103: x forward, y left, z towards the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrabs_ros.body_landmarks import Landmarks
from metrabs_ros.small_matrices import cross

Floats = NDArray[np.float64]

# The line between the hips is trusted less and less where it is short against the trunk (about 0.4 in people): from
# the side, or behind another person, the two hips of an estimated pose can fall together.
_HIPS_UNKNOWN, _HIPS_CERTAIN = 0.06, 0.15
# Two directions closer than this (sine of their angle) do not span a frame.
_PARALLEL = 0.05
# Above the ears (rad, seen from them) lie the eyes and the nose of somebody who looks straight ahead: means over 200
# standing adults of training/synthetic, whose standard deviation is 0.04 rad.
EYES_ABOVE_EARS, NOSE_ABOVE_EARS = 0.237, -0.120


@dataclass(frozen=True, eq=False)
class BodyFrames:
    """T_cam_body [N,4,4]: poses of N bodies in the frame of the joints, m, NaN where not valid [N]."""

    T_cam_body: Floats
    valid: NDArray[np.bool_]


def body_frame(joints3d: ArrayLike, joint_names: Sequence[str]) -> BodyFrames:
    """The frames body_<id> of REP-155, "Body Frames", of people with the joints [N,J,3] m.

    The origin is the midpoint of the hips. y points from the right hip to the left one. z is, at a right angle to
    that, the direction from the hips to the shoulders (where those are unknown to the neck, spine or ears), and so
    points towards the head whether the person stands, lies or hangs upside down. x, forward, completes it. Where the
    hips lie nearly on one point the line between the shoulders takes over, gradually. Not valid where the
    hips, everything above them, or every line from side to side is unknown. Raises InputError as
    Landmarks.from_joints does.
    """
    return frames_of_bodies(Landmarks.from_joints(joints3d, joint_names))


def frames_of_bodies(points: Landmarks) -> BodyFrames:
    """body_frame for landmarks."""
    along = _upwards(points)
    length = np.linalg.norm(along, axis=-1, keepdims=True)
    up = along / np.where(length > 0, length, np.nan)
    hips = rejected(points.hips[:, 0] - points.hips[:, 1], up)
    shoulders = rejected(points.shoulders[:, 0] - points.shoulders[:, 1], up)
    certain = ramp(np.linalg.norm(hips, axis=-1, keepdims=True) / length, _HIPS_UNKNOWN, _HIPS_CERTAIN)
    certain = np.where(np.isfinite(shoulders), or_zero(certain), 1.0)
    true_hips = points.hips[:, 0] - points.hips[:, 1]
    left = certain * or_zero(unit(true_hips)) + (1 - certain) * or_zero(unit(shoulders))
    R_cam_body = _from_y_and_z(left, up)
    T_cam_body = np.tile(np.eye(4), (len(up), 1, 1))
    T_cam_body[:, :3, :3] = R_cam_body
    T_cam_body[:, :3, 3] = points.pelvis
    valid = np.isfinite(T_cam_body).all((1, 2))
    T_cam_body[~valid] = np.nan
    return BodyFrames(T_cam_body, valid)


def torso_rotation(points: Landmarks, pelvis: Floats) -> Floats:
    """R [N,3,3] from the torso to the points' frame: z from the pelvis [N,3] to between the shoulders, y left."""
    up = unit(points.chest - pelvis)
    across = points.shoulders[:, 0] - points.shoulders[:, 1]
    left = _certain_unit(rejected(across, up), across)
    return np.stack([cross(left, up), left, up], -1)


def head_rotation(points: Landmarks) -> Floats:
    """R [N,3,3] from the head to the points' frame: y along the ears, x where the person looks, by eyes or else nose.

    NaN where an ear, or eyes and nose, are unknown.
    """
    left = unit(points.ears[:, 0] - points.ears[:, 1])
    middle = points.ears.mean(1)
    eyes = points.eyes.mean(1)
    by_eyes = np.isfinite(eyes).all(-1)
    face = np.where(by_eyes[:, None], eyes, points.nose) - middle
    above = np.where(by_eyes, EYES_ABOVE_EARS, NOSE_ABOVE_EARS)[:, None]
    x = _certain_unit(rejected(face, left), face)
    z = cross(x, left)
    forward = np.cos(above) * x - np.sin(above) * z
    return np.stack([forward, left, cross(forward, left)], -1)


def unit(vectors: Floats) -> Floats:
    """[...,3] scaled to length 1, NaN where it has none."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 1e-9, length, np.nan)


def rejected(vectors: Floats, axis: Floats) -> Floats:
    """The part of [...,3] at a right angle to a unit axis."""
    return vectors - np.einsum("...i,...i->...", vectors, axis)[..., None] * axis


def or_zero(numbers: Floats) -> Floats:
    """The same, 0 where NaN; numpy.nan_to_num takes three times as long for so few."""
    return np.where(np.isnan(numbers), 0.0, numbers)


def ramp(x: Floats, low: float, high: float) -> Floats:
    """Smoothly from 0 at ``low`` to 1 at ``high``."""
    part = np.clip((x - low) / (high - low), 0.0, 1.0)
    return part * part * (3 - 2 * part)


def _upwards(points: Landmarks) -> Floats:
    """[N,3] from the hips to the first known of what lies above them."""
    found = np.full_like(points.pelvis, np.nan)
    for above in (points.chest, points.neck, points.spine, points.ears.mean(1)):
        found = np.where(np.isfinite(found), found, above - points.pelvis)
    return found


def _certain_unit(part: Floats, whole: Floats) -> Floats:
    """The direction of a part, NaN where it is nearly nothing of the whole."""
    length = np.linalg.norm(part, axis=-1, keepdims=True)
    least = np.maximum(_PARALLEL * np.linalg.norm(whole, axis=-1, keepdims=True), 1e-9)
    return part / np.where(length > least, length, np.nan)


def _from_y_and_z(y: Floats, z: Floats) -> Floats:
    """R [N,3,3] whose y axis is the direction of y and whose z axis is as near to z as that allows."""
    left = unit(y)
    up = _certain_unit(rejected(z, left), z)
    return np.stack([cross(left, up), left, up], -1)
