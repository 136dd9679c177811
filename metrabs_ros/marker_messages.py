"""People as RViz shows them: visualization_msgs of their joints, bones and ids."""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from metrabs_ros.serialized import Serialized
from metrabs_ros.skeleton import Skeleton

Floats = NDArray[np.float64]

NAMESPACES = ("joints", "bones", "ids")
_GOLDEN_RATIO = 0.618034
# Of a level camera's optical frame.
_UP = (0.0, -1.0, 0.0)


@dataclass(frozen=True)
class Look:
    """How people are drawn: ``lifetime_s`` 0 is for ever; ``scale`` multiplies the sizes."""

    skeleton: Skeleton
    lifetime_s: float = 0.0
    scale: float = 1.0


class MarkerBytes:
    """people_to_markers, as bytes where the same joints of the same people are known as in the message before."""

    def __init__(self) -> None:
        self._made_for: tuple[tuple[int, ...], bytes, Look, str] | None = None
        self._serialized: Serialized | None = None

    def of(
        self,
        joints: Floats,
        track_ids: Sequence[int],
        look: Look,
        header: Header,
        gone_ids: Sequence[int] = (),
        up: Sequence[float] = _UP,
    ) -> MarkerArray | bytes:
        """Arguments as for people_to_markers."""
        seen = np.isfinite(joints).all(-1)
        if gone_ids or not seen.any():
            return people_to_markers(joints, track_ids, look, header, gone_ids, up)
        key = tuple(track_ids), seen.tobytes(), look, header.frame_id
        if self._serialized is None or self._made_for != key:
            self._made_for = key
            self._serialized = Serialized(functools.partial(_built, joints, track_ids, look, header.frame_id))
        bones = look.skeleton.bones
        numbers = [joints, joints[:, bones.ravel()], _above_heads(joints, up, look.scale)[:, None]]
        shown = [seen, np.repeat(seen[:, bones].all(-1), 2, axis=1), seen.any(1, keepdims=True)]
        return self._serialized.at(header.stamp, np.concatenate(numbers, 1)[np.concatenate(shown, 1)])


def people_to_markers(
    joints: Floats,
    track_ids: Sequence[int],
    look: Look,
    header: Header,
    gone_ids: Iterable[int] = (),
    up: Sequence[float] = _UP,
) -> MarkerArray:
    """Per person the markers ns "joints" (spheres, in the skeleton's order), "bones" (lines) and "ids" (text above the
    head), all with the track id as marker id; ``gone_ids`` are deleted.

    joints [N,J,3] m and ``up``, the world's up, in the header's frame. Joints that are not numbers are left out, with
    their bones, and so are people who have no other.
    """
    lifetime, scale, ends = _duration(look.lifetime_s), look.scale, look.skeleton.bones
    markers = []
    for track_id, person in zip(track_ids, joints, strict=True):
        seen = np.isfinite(person).all(-1)
        if not seen.any():
            continue
        joint_colors, bone_colors, text_color = _colors(track_id, look.skeleton)
        shown, are_shown = np.flatnonzero(seen), seen[ends].all(-1)
        spheres = _marker("joints", track_id, header, Marker.SPHERE_LIST, lifetime)
        spheres.points, spheres.colors = _points(person[shown]), [joint_colors[i] for i in shown]
        spheres.scale.x = spheres.scale.y = spheres.scale.z = 0.05 * scale
        bones = _marker("bones", track_id, header, Marker.LINE_LIST, lifetime)
        bones.points = _points(person[ends[are_shown].ravel()])
        bones.colors = [bone_colors[i] for i in np.flatnonzero(np.repeat(are_shown, 2))]
        bones.scale.x = 0.02 * scale
        text = _marker("ids", track_id, header, Marker.TEXT_VIEW_FACING, lifetime)
        text.text, text.color = str(track_id), text_color
        at = _above_heads(person[None], up, scale)[0]
        text.pose.position.x, text.pose.position.y, text.pose.position.z = at.tolist()
        text.scale.z = 0.2 * scale
        markers += [spheres, bones, text]
    markers += [
        Marker(header=header, ns=namespace, id=track_id, action=Marker.DELETE)
        for track_id in gone_ids
        for namespace in NAMESPACES
    ]
    return MarkerArray(markers=markers)


def deletion_of_all(header: Header) -> MarkerArray:
    """What takes every marker of this topic out of the view."""
    return MarkerArray(markers=[Marker(header=header, action=Marker.DELETEALL)])


def _built(
    joints: Floats, track_ids: Sequence[int], look: Look, frame_id: str, stamp: Time
) -> tuple[MarkerArray, list[Point]]:
    message = people_to_markers(joints, track_ids, look, Header(stamp=stamp, frame_id=frame_id))
    vectors: list[Point] = []
    for marker in message.markers:
        vectors += [marker.pose.position] if marker.type == Marker.TEXT_VIEW_FACING else marker.points
    return message, vectors


def _above_heads(joints: Floats, up: Sequence[float], scale: float) -> Floats:
    """[N,3] m above the highest of the known joints [N,J,3] m."""
    direction = np.asarray(up, np.float64) / np.linalg.norm(up)
    heights = joints @ direction
    highest = np.where(np.isfinite(heights), heights, -np.inf).argmax(1)
    return joints[np.arange(len(joints)), highest] + 0.25 * scale * direction


def _points(places: Floats) -> list[Point]:
    return [Point(x=x, y=y, z=z) for x, y, z in places.tolist()]


def _marker(namespace: str, track_id: int, header: Header, kind: int, lifetime: Duration) -> Marker:
    marker = Marker(header=header, ns=namespace, id=track_id, type=kind, action=Marker.ADD, lifetime=lifetime)
    marker.pose.orientation.w = 1.0
    return marker


def _duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(sec=whole, nanosec=round((seconds - whole) * 1e9))


@functools.lru_cache(maxsize=64)
def _colors(track_id: int, skeleton: Skeleton) -> tuple[list[ColorRGBA], list[ColorRGBA], ColorRGBA]:
    """Colours of joints [J], of the bones' ends [2 E] and of the text: a person is a hue, left pale, right dark."""
    hue = (track_id * _GOLDEN_RATIO) % 1.0
    by_side = {
        "left": _color(hue, 0.45, 1.0),
        "right": _color(hue, 1.0, 0.6),
        "": _color(hue, 0.8, 0.85),
    }
    sides = [_side(name) for name in skeleton.joint_names]
    bone_sides = [next(filter(None, (sides[a], sides[b])), "") for a, b in skeleton.edges]
    joint_colors = [by_side[side] for side in sides]
    bone_colors = [by_side[side] for side in bone_sides for _ in range(2)]
    return joint_colors, bone_colors, by_side[""]


def _color(hue: float, saturation: float, value: float) -> ColorRGBA:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)


def _side(joint_name: str) -> str:
    side = joint_name.partition("_")[0]
    return side if side in ("left", "right") else ""
