"""How far people are, by the floor: whoever's feet are in the picture stands where the floor under them is seen.

One image does not show how tall somebody is, and so not how far they are. Where it is known how high above the floor
the camera is, people whose feet are seen are made as large as brings the lower foot down to the floor: scaled about the
camera's centre, so that they look the same. Somebody's size does not change, so it holds when the feet are hidden.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from metrabs_ros.pose import Pose3D, TrackedPose
from metrabs_ros.skeleton import Skeleton

Floats = NDArray[np.float64]
Pose = TypeVar("Pose", bound=Pose3D)

# Metres of a foot's joints above the floor, medians over synthetic people; ankles where there is nothing else.
_SOLES = {"heel": 0.053, "foot": 0.026, "foot_index": 0.026}
_ANKLES = {"ankle": 0.095}
# Of the logarithm of the size: how far it may be from what the network takes people to be, and how it and what is made
# of a picture change within a second.
_PRIOR = 0.2
_DRIFT = 0.1
# Errors of a foot's height above the floor, m, and of up.
_SOLE_ERROR = 0.06
_TILT_ERROR = math.tan(math.radians(0.5))
# Lasting error of a size that was seen often.
_LEAST_DEVIATION = 0.04
# So many standard deviations off is not on the floor: in the air, on stairs, or the feet are hidden.
_GATE = 3.0
# Metres below the camera from which the floor is seen well enough.
_LEAST_DROP = 0.05
_KEPT_S = 60.0


@dataclass(frozen=True)
class Floor:
    """What people stand on: up [3], of unit length, in the camera's optical frame, and how many metres the camera is
    above it."""

    up: Floats
    camera_height: float


@dataclass(frozen=True)
class _Size:
    """The logarithm of a person's size over what the network takes them to be, and its variance."""

    log: float
    variance: float
    stamp_s: float


class Standing:
    """The sizes of people by their track ids, as the floor under their feet shows them.

    distance_error: error of a person's distance, as a part of it, that is in their uncertainty and that the floor takes
    away (``Calibration.distance``).
    """

    def __init__(self, skeleton: Skeleton, distance_error: float) -> None:
        self._feet, self._soles = _feet_of(skeleton)
        self._distance_error = distance_error
        self._sizes: dict[int, _Size] = {}

    def reset(self) -> None:
        """Forget everybody."""
        self._sizes.clear()

    def check(self) -> None:
        """Raises InputError where the skeleton has no feet."""
        if not self._feet.size:
            raise InputError("camera_height and floor_frame need an engine whose joints include feet, heels or ankles.")

    def placed(self, poses: Sequence[TrackedPose], camera: Camera, floor: Floor, stamp_s: float) -> list[TrackedPose]:
        """The people of a video's frame, each as large as their size so far and this frame's floor say."""
        known = [self._sizes.get(pose.track_id) for pose in poses]
        sizes = self._sizes_of(poses, known, camera, floor, stamp_s)
        self._sizes |= {pose.track_id: size for pose, size in zip(poses, sizes, strict=True)}
        self._sizes = {track: size for track, size in self._sizes.items() if stamp_s - size.stamp_s < _KEPT_S}
        return self._resized(poses, sizes)

    def placed_once(self, poses: Sequence[Pose3D], camera: Camera, floor: Floor) -> list[Pose3D]:
        """The people of a single image."""
        return self._resized(poses, self._sizes_of(poses, [None] * len(poses), camera, floor, 0.0))

    def _sizes_of(
        self, poses: Sequence[Pose3D], known: Sequence[_Size | None], camera: Camera, floor: Floor, stamp_s: float
    ) -> list[_Size]:
        """A Kalman filter each, of a logarithm that drifts."""
        if not poses:
            return []
        seen, variances = self._seen(poses, camera, floor)
        sizes = []
        for before, log, noise in zip(known, seen.tolist(), variances.tolist(), strict=True):
            size = before or _Size(0.0, _PRIOR**2, stamp_s)
            variance = min(size.variance + _DRIFT**2 * (stamp_s - size.stamp_s), _PRIOR**2)
            # NaN, where no foot is seen, is not within the gate.
            is_on_floor = (log - size.log) ** 2 < _GATE**2 * (variance + noise)
            gain = variance / (variance + noise) if is_on_floor else 0.0
            now = size.log + gain * (log - size.log) if is_on_floor else size.log
            sizes.append(_Size(now, (1 - gain) * variance, stamp_s))
        return sizes

    def _seen(self, poses: Sequence[Pose3D], camera: Camera, floor: Floor) -> tuple[Floats, Floats]:
        """[N] the logarithm of the size with which the lower foot is on the floor (NaN: none is in the picture), and
        its variance: errors of height and tilt, over the camera's height."""
        joints3d = np.stack([pose.joints3d for pose in poses])[:, self._feet]
        joints2d = np.stack([pose.joints2d for pose in poses])[:, self._feet]
        drop = -(joints3d @ floor.up)
        below = floor.camera_height - self._soles
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(np.where(drop > _LEAST_DROP, below / drop, np.nan)).mean(-1)
        in_picture = camera.contains(joints2d).any((1, 2)) & (below > 0).all()
        lower = np.where(np.isnan(logs), np.inf, logs).min(1)
        seen = np.where(in_picture & np.isfinite(lower), lower, np.nan)
        distance = np.linalg.norm(joints3d, axis=-1).mean((1, 2))
        return seen, (_SOLE_ERROR**2 + (_TILT_ERROR * distance) ** 2) / floor.camera_height**2

    def _resized(self, poses: Sequence[Pose], sizes: Sequence[_Size]) -> list[Pose]:
        return [
            replace(
                pose,
                joints3d=math.exp(size.log) * pose.joints3d,
                uncertainty=self._uncertainty(pose, size),
            )
            for pose, size in zip(poses, sizes, strict=True)
        ]

    def _uncertainty(self, pose: Pose3D, size: _Size) -> Floats:
        """[J] m: the distance's part of it is the size's own now, where that is less."""
        distance = np.linalg.norm(pose.joints3d, axis=-1)
        others = np.maximum(pose.uncertainty**2 - (self._distance_error * distance) ** 2, 0)
        of_size = min(math.sqrt(size.variance + _LEAST_DEVIATION**2), self._distance_error)
        return math.exp(size.log) * np.sqrt(others + (of_size * distance) ** 2)


def _feet_of(skeleton: Skeleton) -> tuple[NDArray[np.intp], Floats]:
    """[2,K] the joints of the left and the right foot, [K] m above the floor; both empty where there are none."""
    for heights in (_SOLES, _ANKLES):
        names = [name for name in heights if f"left_{name}" in skeleton.joint_names]
        if names:
            feet = [[skeleton.joint_names.index(f"{side}_{name}") for name in names] for side in ("left", "right")]
            return np.array(feet, np.intp), np.array([heights[name] for name in names])
    return np.zeros((2, 0), np.intp), np.zeros(0)
