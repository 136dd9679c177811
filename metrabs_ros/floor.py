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
# Standard deviations of the logarithm of the size: people's own, what differs from frame to frame, what changes within
# a second, and most by which what was seen once may be off while no feet are seen.
_PEOPLE = 0.2
_FRAME = 0.06
_DRIFT = 0.1
_STALE = 0.1
# Errors that last: of a foot's height above the floor, m, and of up.
_SOLE_ERROR = 0.08
_TILT_ERROR = math.tan(math.radians(1.0))
# So many standard deviations off is not on the floor: in the air, on stairs, or the feet are hidden.
_GATE = 3.0
# Metres below the camera from which the floor is seen well enough.
_LEAST_DROP = 0.05
_KEPT_S = 60.0


@dataclass(frozen=True)
class _Shown:
    """What the floor has shown of somebody: the logarithm of their size over what the network takes them to be, its
    variance over frames, and that of what is wrong in all frames alike."""

    log: float
    variance: float
    lasting: float
    stamp_s: float

    @property
    def is_on_floor(self) -> bool:
        """Whether somebody of whom nothing else is known can be of this size; not where it is NaN."""
        return self.log**2 < _GATE**2 * (_PEOPLE**2 + self.lasting)

    def after(self, now: _Shown) -> _Shown:
        """With what one more frame shows: a Kalman filter of a logarithm that drifts.

        Feet that jump from frame to frame are guessed, and then they are off on average, too: surprises last. What is
        far from all that was seen is left out, until it has been so for seconds.
        """
        variance = self.variance + _DRIFT**2 * (now.stamp_s - self.stamp_s)
        if math.isnan(now.log):
            return replace(self, variance=min(variance, max(self.variance, _STALE**2)), stamp_s=now.stamp_s)
        if (now.log - self.log) ** 2 > _GATE**2 * (variance + now.variance):
            return replace(self, variance=variance, stamp_s=now.stamp_s)
        gain = variance / (variance + now.variance)
        surprise = now.log - self.log
        lasting = self.lasting + gain * (now.lasting + surprise**2 - self.lasting)
        return _Shown(self.log + gain * surprise, (1 - gain) * variance, lasting, now.stamp_s)

    @property
    def size(self) -> float:
        """Over what the network takes them to be: as far as what was shown outweighs how people differ."""
        return math.exp(self.log * _PEOPLE**2 / (_PEOPLE**2 + self.variance + self.lasting))

    @property
    def deviation(self) -> float:
        """Standard deviation of the logarithm of the size."""
        return math.sqrt(1 / (1 / _PEOPLE**2 + 1 / (self.variance + self.lasting)))


class Standing:
    """The sizes of people by their track ids, as the floor under their feet shows them. People stay as they are as long
    as ``camera_height``, m above that floor, is unknown (0). ``up`` [3], of unit length: in the camera's optical frame.

    distance_error: error of a person's distance, as a part of it, that is in their uncertainty and that the floor takes
    away (``Calibration.distance``).
    """

    def __init__(self, skeleton: Skeleton, distance_error: float) -> None:
        self._feet, self._soles = _feet_of(skeleton)
        self._distance_error = distance_error
        self._camera_height = 0.0
        self._shown: dict[int, _Shown] = {}

    @property
    def camera_height(self) -> float:
        """Of the floor that people are taken to stand on, 0 where it is unknown."""
        return self._camera_height

    @camera_height.setter
    def camera_height(self, metres: float) -> None:
        if not 0 <= metres < np.inf:
            raise InputError(f"camera_height must be 0 (unknown) or metres above the floor, got {metres}.")
        if metres:
            self.check()
        if abs(metres - self._camera_height) > 0.1 * self._camera_height:
            # Another floor: what the last one showed does not hold.
            self.reset()
        self._camera_height = float(metres)

    def reset(self) -> None:
        """Forget everybody."""
        self._shown.clear()

    def check(self) -> None:
        """Raises InputError where the skeleton has no feet."""
        if not self._feet.size:
            raise InputError("camera_height and floor_frame need an engine whose joints include feet, heels or ankles.")

    def placed(self, poses: Sequence[TrackedPose], camera: Camera, up: Floats, stamp_s: float) -> list[TrackedPose]:
        """The people of a video's frame, each as large as the floor in this frame and those before it says."""
        if not self._camera_height:
            return list(poses)
        for pose, now in zip(poses, self._seen(poses, camera, up, stamp_s), strict=True):
            before = self._shown.get(pose.track_id)
            if before is not None:
                self._shown[pose.track_id] = before.after(now)
            elif now.is_on_floor:
                self._shown[pose.track_id] = now
        self._shown = {track: shown for track, shown in self._shown.items() if stamp_s - shown.stamp_s < _KEPT_S}
        return [self._resized(pose, self._shown.get(pose.track_id)) for pose in poses]

    def placed_once(self, poses: Sequence[Pose3D], camera: Camera, up: Floats) -> list[Pose3D]:
        """The people of a single image."""
        if not self._camera_height:
            return list(poses)
        seen = self._seen(poses, camera, up, 0.0)
        return [self._resized(pose, now if now.is_on_floor else None) for pose, now in zip(poses, seen, strict=True)]

    def _seen(self, poses: Sequence[Pose3D], camera: Camera, up: Floats, stamp_s: float) -> list[_Shown]:
        """What this frame alone shows: the size with which the lower foot is on the floor, NaN where no foot is in the
        picture. What lasts are errors of height and tilt, over the camera's height."""
        if not poses:
            return []
        joints3d = np.stack([pose.joints3d for pose in poses])[:, self._feet]
        joints2d = np.stack([pose.joints2d for pose in poses])[:, self._feet]
        drop = -(joints3d @ up)
        below = self._camera_height - self._soles
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(np.where(drop > _LEAST_DROP, below / drop, np.nan)).mean(-1)
        lower = np.where(np.isnan(logs), np.inf, logs).min(1)
        is_seen = camera.contains(joints2d).any((1, 2)) & (below > 0).all() & np.isfinite(lower)
        distance = np.linalg.norm(joints3d, axis=-1).mean((1, 2))
        lasting = (_SOLE_ERROR**2 + (_TILT_ERROR * distance) ** 2) / self._camera_height**2
        seen = np.where(is_seen, lower, np.nan)
        return [
            _Shown(log, _FRAME**2, each, stamp_s) for log, each in zip(seen.tolist(), lasting.tolist(), strict=True)
        ]

    def _resized(self, pose: Pose, shown: _Shown | None) -> Pose:
        """As large as was shown; their distance's part of the uncertainty is that of the size, where this is less."""
        if shown is None:
            return pose
        distance = np.linalg.norm(pose.joints3d, axis=-1)
        others = np.maximum(pose.uncertainty**2 - (self._distance_error * distance) ** 2, 0)
        of_size = min(shown.deviation, self._distance_error)
        uncertainty = shown.size * np.sqrt(others + (of_size * distance) ** 2)
        return replace(pose, joints3d=shown.size * pose.joints3d, uncertainty=uncertainty)


def _feet_of(skeleton: Skeleton) -> tuple[NDArray[np.intp], Floats]:
    """[2,K] the joints of the left and the right foot, [K] m above the floor; both empty where there are none."""
    for heights in (_SOLES, _ANKLES):
        names = [name for name in heights if {f"left_{name}", f"right_{name}"} <= set(skeleton.joint_names)]
        if names:
            feet = [[skeleton.joint_names.index(f"{side}_{name}") for name in names] for side in ("left", "right")]
            return np.array(feet, np.intp), np.array([heights[name] for name in names])
    return np.zeros((2, 0), np.intp), np.zeros(0)
