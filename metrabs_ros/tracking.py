"""Who is who from frame to frame: optimal assignment on the distance between absolute poses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from metrabs_ros.pose import Pose3D, TrackedPose

# A person may move this far between two frames, and this much farther with every second since they were last seen.
_GATE_M = 0.6
_GATE_M_PER_S = 3.0
# Depth from one camera is off by a part of the distance itself, and so is its change from frame to frame.
_GATE_PER_DEPTH = 0.12


class Tracker:
    """Gives poses track ids 1, 2, ...; a person who is not seen keeps theirs for ``memory_s`` seconds."""

    def __init__(self, memory_s: float = 1.0) -> None:
        self._memory_s = memory_s
        self._last: dict[int, tuple[TrackedPose, float]] = {}
        self._next_id = 1

    def update(self, poses: Sequence[Pose3D], stamp_s: float) -> list[TrackedPose]:
        """The poses of the frame at ``stamp_s``, in the same order, with the ids of the people they continue."""
        self._last = {i: known for i, known in self._last.items() if stamp_s - known[1] <= self._memory_s}
        known = list(self._last.items())
        assigned: dict[int, int] = {}
        if known and poses:
            costs = np.array([[_distance(pose, last) for _, (last, _) in known] for pose in poses])
            gates = np.array([_gate(last, stamp_s - seen_s) for _, (last, seen_s) in known])
            blocked = costs > gates
            rows, columns = linear_sum_assignment(np.where(blocked, 1e6, costs))
            assigned = {int(r): known[c][0] for r, c in zip(rows, columns, strict=True) if not blocked[r, c]}
        tracked = [self._named(pose, assigned.get(i)) for i, pose in enumerate(poses)]
        self._last.update({pose.track_id: (pose, stamp_s) for pose in tracked})
        return tracked

    def seen_since(self, stamp_s: float) -> list[TrackedPose]:
        """The last poses of the people seen at or after ``stamp_s``."""
        return [pose for pose, seen_s in self._last.values() if seen_s >= stamp_s]

    def reset(self) -> None:
        """Forget everybody; ids go on counting, so that no id ever means two people."""
        self._last.clear()

    def _named(self, pose: Pose3D, track_id: int | None) -> TrackedPose:
        if track_id is None:
            track_id = self._next_id
            self._next_id += 1
        return TrackedPose(**vars(pose), track_id=track_id)


def _distance(pose: Pose3D, last: Pose3D) -> float:
    return float(np.linalg.norm(pose.joints3d - last.joints3d, axis=-1).mean())


def _gate(last: Pose3D, age_s: float) -> float:
    depth = float(np.linalg.norm(last.joints3d.mean(0)))
    return _GATE_M + _GATE_M_PER_S * max(age_s, 0.0) + _GATE_PER_DEPTH * depth
