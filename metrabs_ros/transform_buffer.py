"""Transforms over time, as tf2 keeps them: for machines whose ROS 2 has no tf2_ros.

A pose of the child in its parent is interpolated between the two stamps around the one that is asked for, the place
linearly and the rotation along the shortest arc, and is never extrapolated.
"""

from __future__ import annotations

import bisect
import math
import threading
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

Floats = NDArray[np.float64]
# Place [3] m and quaternion [4] xyzw of the child in its parent.
Pose = tuple[tuple[float, float, float], tuple[float, float, float, float]]

CACHE_S = 10.0
# Frames that nobody spoke of for so long, as of people who left, are forgotten when there are so many.
_MANY_FRAMES = 2000
_LONGEST_CHAIN = 1000
# Transforms that are late by more than this are not on their way: somebody ceased to publish them.
_LATEST_S = 1.0


class NoTransformError(Exception):
    """There is no such transform; the message says why. ``may_come``: only newer messages are missing."""

    def __init__(self, why: str, may_come: bool = False) -> None:
        super().__init__(why)
        self.may_come = may_come


@dataclass
class _Edge:
    """The poses of one child: by stamp, ns, in order; those of a static one hold for ever."""

    parent: str
    is_static: bool
    stamps: list[int] = field(default_factory=list)
    poses: list[Pose] = field(default_factory=list)


class TransformBuffer:
    """Poses of child frames in parent frames, for any thread."""

    def __init__(self, cache_s: float = CACHE_S) -> None:
        self._cache_ns = round(cache_s * 1e9)
        self._edges: dict[str, _Edge] = {}
        self._lock = threading.Lock()

    def put(self, parent: str, child: str, stamp_ns: int, pose: Pose, is_static: bool = False) -> None:
        """The pose of ``child`` in ``parent`` at a stamp; what is not finite is ignored."""
        parent, child = parent.strip("/"), child.strip("/")
        if not all(map(math.isfinite, pose[0] + pose[1])) or not any(pose[1]) or parent == child:
            return
        with self._lock:
            edge = self._edges.get(child)
            if edge is None or edge.parent != parent or edge.is_static != is_static or is_static:
                edge = self._edges[child] = _Edge(parent, is_static)
            if edge.stamps and stamp_ns < edge.stamps[-1] - self._cache_ns:
                # A recording that began again, not a message that is late.
                edge.stamps, edge.poses = [], []
            at = bisect.bisect_left(edge.stamps, stamp_ns)
            if at < len(edge.stamps) and edge.stamps[at] == stamp_ns:
                edge.poses[at] = pose
                return
            edge.stamps.insert(at, stamp_ns)
            edge.poses.insert(at, pose)
            old = bisect.bisect_left(edge.stamps, edge.stamps[-1] - self._cache_ns)
            del edge.stamps[:old], edge.poses[:old]
            if len(self._edges) > _MANY_FRAMES:
                self._forget_old(stamp_ns)

    def clear(self) -> None:
        """Forgets all but the static transforms, as when time jumps back."""
        with self._lock:
            self._edges = {child: edge for child, edge in self._edges.items() if edge.is_static}

    def lookup(self, target: str, source: str, stamp_ns: int) -> tuple[Floats, Floats]:
        """R [3,3] and t [3] m that take points of ``source`` to ``target`` at a stamp. Raises NoTransformError."""
        target, source = target.strip("/"), source.strip("/")
        with self._lock:
            if unknown := [name for name in (target, source) if not self._knows(name)]:
                raise NoTransformError(f"there is no frame {unknown[0]}")
            up_from_source, up_from_target = self._chain(source), self._chain(target)
            shared = next((name for name in up_from_source if name in up_from_target), None)
            if shared is None:
                raise NoTransformError(f"{source} and {target} are not connected")
            T_shared_source = self._climbed(up_from_source[: up_from_source.index(shared)], stamp_ns)
            T_shared_target = self._climbed(up_from_target[: up_from_target.index(shared)], stamp_ns)
        T = np.linalg.inv(T_shared_target) @ T_shared_source
        return T[:3, :3], T[:3, 3]

    def _knows(self, name: str) -> bool:
        return name in self._edges or any(edge.parent == name for edge in self._edges.values())

    def _chain(self, name: str) -> list[str]:
        """The frame and its ancestors up to the root."""
        chain = [name]
        while chain[-1] in self._edges:
            chain.append(self._edges[chain[-1]].parent)
            if len(chain) > _LONGEST_CHAIN:
                raise NoTransformError(f"the frames above {name} form a circle")
        return chain

    def _climbed(self, children: list[str], stamp_ns: int) -> Floats:
        """[4,4]: from the first child's frame to the last one's parent."""
        T = np.eye(4)
        for child in children:
            T = _interpolated(child, self._edges[child], stamp_ns) @ T
        return T

    def _forget_old(self, now_ns: int) -> None:
        self._edges = {
            child: edge
            for child, edge in self._edges.items()
            if edge.is_static or abs(now_ns - edge.stamps[-1]) < self._cache_ns
        }


def _interpolated(child: str, edge: _Edge, stamp_ns: int) -> Floats:
    """[4,4]: the child's pose in its parent at a stamp."""
    at = bisect.bisect_left(edge.stamps, stamp_ns)
    if edge.is_static or (at < len(edge.stamps) and edge.stamps[at] == stamp_ns):
        place, quaternion = edge.poses[0 if edge.is_static else at]
        return _matrix(np.array(place), Rotation.from_quat(quaternion))
    if at == 0 or at == len(edge.stamps):
        off_s = (stamp_ns - edge.stamps[0 if at == 0 else -1]) * 1e-9
        side = "before the first" if at == 0 else "after the last"
        raise NoTransformError(
            f"the stamp lies {abs(off_s):.3f} s {side} transform of {child} in {edge.parent}", 0 < off_s < _LATEST_S
        )
    before, after = edge.stamps[at - 1], edge.stamps[at]
    share = (stamp_ns - before) / (after - before)
    (place_a, quaternion_a), (place_b, quaternion_b) = edge.poses[at - 1], edge.poses[at]
    rotation = Slerp([0.0, 1.0], Rotation.from_quat([quaternion_a, quaternion_b]))([share])[0]
    return _matrix((1 - share) * np.array(place_a) + share * np.array(place_b), rotation)


def _matrix(place: Floats, rotation: Rotation) -> Floats:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation.as_matrix(), place
    return T
