"""People as RViz shows them: visualization_msgs of their joints, bones and ids."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from metrabs_ros.skeleton import Skeleton

Floats = NDArray[np.float64]

NAMESPACES = ("joints", "bones", "ids")
_GOLDEN_RATIO = 0.618034


def people_to_markers(
    joints: Floats,
    track_ids: Sequence[int],
    skeleton: Skeleton,
    header: Header,
    gone_ids: Iterable[int] = (),
    *,
    lifetime_s: float = 0.0,
    scale: float = 1.0,
    up: Sequence[float] = (0.0, -1.0, 0.0),
) -> MarkerArray:
    """Per person the markers ns "joints" (spheres, in the skeleton's order), "bones" (lines) and "ids" (text above the
    head), all with the track id as marker id; ``gone_ids`` are deleted.

    joints [N,J,3] m and ``up``, the world's up, in the header's frame. Joints that are not numbers are left out, with
    their bones, and so are people who have no other. ``lifetime_s`` 0 is for ever; ``scale`` multiplies the sizes.
    """
    up_vector = np.asarray(up, np.float64) / np.linalg.norm(up)
    lifetime = _duration(lifetime_s)
    edges = np.array(skeleton.edges, np.intp).reshape(-1, 2)
    markers = []
    for track_id, person in zip(track_ids, joints, strict=True):
        seen = np.isfinite(person).all(-1)
        if not seen.any():
            continue
        joint_colors, bone_colors, text_color = _colors(track_id, skeleton)
        points = [Point(x=x, y=y, z=z) for x, y, z in person.tolist()]
        shown = np.flatnonzero(seen)
        ends = edges[seen[edges].all(-1)].reshape(-1)
        top = person[shown[np.argmax(person[shown] @ up_vector)]] + 0.25 * scale * up_vector
        spheres = _marker("joints", track_id, header, Marker.SPHERE_LIST, lifetime)
        spheres.points, spheres.colors = [points[i] for i in shown], [joint_colors[i] for i in shown]
        spheres.scale.x = spheres.scale.y = spheres.scale.z = 0.05 * scale
        bones = _marker("bones", track_id, header, Marker.LINE_LIST, lifetime)
        bones.points = [points[i] for i in ends]
        bones.colors = [bone_colors[i] for i in np.flatnonzero(np.repeat(seen[edges].all(-1), 2))]
        bones.scale.x = 0.02 * scale
        text = _marker("ids", track_id, header, Marker.TEXT_VIEW_FACING, lifetime)
        text.text, text.color = str(track_id), text_color
        text.pose.position.x, text.pose.position.y, text.pose.position.z = top.tolist()
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


def _marker(namespace: str, track_id: int, header: Header, kind: int, lifetime: Duration) -> Marker:
    marker = Marker(header=header, ns=namespace, id=track_id, type=kind, action=Marker.ADD, lifetime=lifetime)
    marker.pose.orientation.w = 1.0
    return marker


def _duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(sec=whole, nanosec=round((seconds - whole) * 1e9))


@lru_cache(maxsize=64)
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
