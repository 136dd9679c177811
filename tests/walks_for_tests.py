"""Rooms in which people walk, cross, hide and come back, as one camera's network would see them.

The noise is that of an engine on a still picture with sensor noise (measured with blazepose_full): every joint by
itself 0.15 % of its distance in each direction, and the whole body together 0.6 % along the viewing ray, half of
which is still there a frame later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from poses_for_tests import NAMES, person

from metrabs_ros.pose import Pose3D, TrackedPose

JOINT_NOISE, BODY_NOISE, BODY_NOISE_KEPT = 0.0015, 0.006, 0.5
FOCAL, CENTER = 500.0, np.array([319.5, 239.5])
# A person of whom the image shows less than this is not found: cut off by its border, or hidden by somebody nearer.
_LEAST_SHOWN = 0.4

Place = Callable[[float], tuple[float, float, float] | None]


@dataclass(frozen=True)
class Walker:
    """``place(t)`` m of the hips at t s, None while away; turned by ``facing``, with a gait of ``steps_hz``."""

    place: Place
    facing: float = 0.0
    steps_hz: float = 0.0
    size: float = 1.0
    phase: float = 0.0

    def joints(self, t: float) -> np.ndarray | None:
        place = self.place(t)
        if place is None:
            return None
        body = self.size * person()
        swing = 0.35 * np.sin(2 * np.pi * self.steps_hz * t + self.phase) * (self.steps_hz > 0)
        reach = np.array([_REACH[name] for name in NAMES])
        body[:, 2] += swing * reach
        cos, sin = np.cos(self.facing), np.sin(self.facing)
        return body @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]]) + np.array(place)


_REACH = dict.fromkeys(NAMES, 0.0) | {
    "left_knee": 0.4, "left_ankle": 0.9, "right_knee": -0.4, "right_ankle": -0.9,
    "left_elbow": -0.4, "left_wrist": -0.8, "right_elbow": 0.4, "right_wrist": 0.8,
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """A frame: its stamp, the poses found in it, and who each of them is (-1: nobody)."""

    stamp_s: float
    poses: list[Pose3D]
    who: list[int]


def straight(start: Sequence[float], velocity: Sequence[float]) -> Place:
    def place(t: float) -> tuple[float, float, float]:
        x, y, z = np.array(start, float) + t * np.array(velocity, float)
        return x, y, z

    return place


def hidden(place: Place, begin_s: float, end_s: float) -> Place:
    return lambda t: None if begin_s <= t < end_s else place(t)


def seen_by_camera(
    walkers: Sequence[Walker],
    stamps: Sequence[float],
    rng: np.random.Generator,
    missed: float = 0.0,
    ghosts: float = 0.0,
    missing_joints: float = 0.0,
) -> list[Seen]:
    """Frames of the walkers, in shuffled order; the nearer hide the farther. ``missed``, ``ghosts`` and
    ``missing_joints`` are chances: of a person in a frame, of a frame, of a joint in a frame."""
    body_noise = rng.normal(size=len(walkers))
    frames = []
    for stamp_s in stamps:
        fresh = np.sqrt(1 - BODY_NOISE_KEPT**2) * rng.normal(size=len(walkers))
        body_noise = BODY_NOISE_KEPT * body_noise + fresh
        truths = {i: joints for i, walker in enumerate(walkers) if (joints := walker.joints(stamp_s)) is not None}
        poses = [(i, _seen(joints, body_noise[i], rng)) for i, joints in truths.items() if _is_shown(i, truths)]
        poses = [(i, pose) for i, pose in poses if rng.uniform() >= missed]
        if rng.uniform() < ghosts:
            place = rng.uniform([-2, -0.5, 2], [2, 0.5, 7])
            poses.append((-1, _seen(person(rng) + place, 0.0, rng, score=rng.uniform(0.5, 0.7))))
        for _, pose in poses:
            pose.joints3d[rng.uniform(size=len(NAMES)) < missing_joints] = np.nan
        order = rng.permutation(len(poses))
        frames.append(Seen(stamp_s, [poses[i][1] for i in order], [poses[i][0] for i in order]))
    return frames


def id_switches(frames: Sequence[Seen], update: Callable[[list[Pose3D], float], list[TrackedPose]]) -> int:
    """How often somebody has another id than when they last had one, and how often a ghost has one."""
    last: dict[int, int] = {}
    switches = 0
    for frame in frames:
        for tracked in update(frame.poses, frame.stamp_s):
            who = next(w for w, pose in zip(frame.who, frame.poses, strict=True) if pose.joints3d is tracked.joints3d)
            switches += who < 0 or last.get(who, tracked.track_id) != tracked.track_id
            last[who] = tracked.track_id
    return switches


def noisy(joints3d: np.ndarray, body_noise: np.ndarray | float, rng: np.random.Generator) -> np.ndarray:
    """Joints [...,J,3] m as a network would give them; ``body_noise`` [...] is standard normal."""
    distance = np.linalg.norm(joints3d, axis=-1, keepdims=True)
    along = BODY_NOISE * np.asarray(body_noise)[..., None, None] * joints3d
    return joints3d + along + JOINT_NOISE * distance * rng.normal(size=joints3d.shape)


def _seen(joints3d: np.ndarray, body_noise: float, rng: np.random.Generator, score: float = 0.95) -> Pose3D:
    noised = noisy(joints3d, body_noise, rng)
    joints2d = noised[:, :2] / noised[:, 2:] * FOCAL + CENTER
    return Pose3D(_box(noised), score, noised, joints2d, np.full(len(noised), np.nan))


def _box(joints3d: np.ndarray) -> np.ndarray:
    joints2d = joints3d[:, :2] / joints3d[:, 2:] * FOCAL + CENTER
    low, high = joints2d.min(0) - 5, joints2d.max(0) + 5
    return np.concatenate([low, high - low])


def _is_shown(i: int, truths: dict[int, np.ndarray]) -> bool:
    box = _box(truths[i])
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 9), np.linspace(0, 1, 9)), -1).reshape(-1, 2) * box[2:] + box[:2]
    shown = ((grid >= 0) & (grid <= [639, 479])).all(-1)
    for j, other in truths.items():
        if j != i and np.median(other[:, 2]) < np.median(truths[i][:, 2]):
            x, y, w, h = _box(other)
            shown &= ~((grid >= [x, y]) & (grid <= [x + w, y + h])).all(-1)
    return bool(shown.mean() >= _LEAST_SHOWN)


def every(rate_hz: float, seconds: float, rng: np.random.Generator | None = None) -> list[float]:
    """Stamps at a rate; with ``rng`` the intervals vary from a third to three times the mean."""
    count = round(rate_hz * seconds)
    if rng is None:
        return [i / rate_hz for i in range(count)]
    intervals = np.exp(rng.uniform(-np.log(3), np.log(3), count))
    return (np.cumsum(intervals) / intervals.mean() / rate_hz).tolist()


def crossing(rng: np.random.Generator) -> list[Walker]:
    """Two people who cross in front of the camera, near each other in depth, the farther hidden for a moment."""
    near = rng.uniform(2.5, 4.5)
    far = near + rng.uniform(0.4, 1.2)
    speeds = rng.uniform(0.7, 1.5, 2)
    return [
        Walker(straight((-side * 1.5 * speed, 0, depth), (side * speed, 0, 0)), side * np.pi / 2, speed, size, phase)
        for side, depth, speed, size, phase in zip(
            (1, -1), (near, far), speeds, rng.uniform(0.85, 1.1, 2), rng.uniform(0, 6, 2), strict=True
        )
    ]


def crowd(rng: np.random.Generator, count: int, seconds: float) -> list[Walker]:
    """People who wander about the room and never come nearer to each other than half a metre."""
    stamps = np.arange(0, seconds, 0.1)
    walkers: list[Walker] = []
    paths: list[np.ndarray] = []
    while len(walkers) < count:
        walker = wandering(rng, seconds)
        path = np.array([walker.place(t) for t in stamps])
        if all(np.linalg.norm(path - other, axis=-1).min() > 0.5 for other in paths):
            walkers.append(walker)
            paths.append(path)
    return walkers


def wandering(rng: np.random.Generator, seconds: float) -> Walker:
    """Somebody who walks from one point of the room to the next, turning at each."""
    count = int(seconds) + 4
    points = np.stack([rng.uniform(-2.5, 2.5, count), np.zeros(count), rng.uniform(2.5, 7, count)], -1)
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=-1)
    speed = rng.uniform(0.6, 1.4)
    times = np.concatenate([[0], np.cumsum(lengths / speed)])

    def place(t: float) -> tuple[float, float, float]:
        x, y, z = (float(np.interp(t, times, points[:, axis])) for axis in range(3))
        return x, y, z

    return Walker(place, rng.uniform(0, 6), speed, rng.uniform(0.8, 1.1), rng.uniform(0, 6))
