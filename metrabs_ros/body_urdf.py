"""The URDF of one person: REP-155's model (body_model) with their own segment lengths."""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from metrabs_ros.body_model import Joint, origins, tree
from metrabs_ros.errors import InputError
from metrabs_ros.segment_lengths import SegmentLengths

# ROS 2's rules for one token of a topic's name, because the id is one in /humans/bodies/<id>.
_ID = re.compile(r"[A-Za-z]([A-Za-z0-9]|_(?!_))*")
_LIMB_RADIUS = 0.03
# A URDF's limits must give these; nothing moves a person by them.
_EFFORT, _VELOCITY = "1000", "20"
_MATERIALS = {"body": "0.35 0.55 0.75 1", "joint": "0.2 0.35 0.5 1", "eyes": "0.1 0.1 0.1 1"}


def urdf(body_id: str, lengths: SegmentLengths, reference_joints: bool = False) -> str:
    """URDF XML of the person with REP-155's body id, for robot_state_publisher and what else reads URDF.

    Links and joints are body_model's, each followed by _<body_id>; ``reference_joints`` leaves out those that REP-155
    lacks. Raises InputError where the id cannot be part of a ROS 2 topic's name.
    """
    checked_id(body_id)
    robot = Element("robot", name=f"human_{body_id}")
    for name, rgba in _MATERIALS.items():
        SubElement(SubElement(robot, "material", name=name), "color", rgba=rgba)
    joints = tree(reference_joints)
    places = origins(lengths.as_array()[None], joints)[0]
    visuals = _trunk_visuals(lengths) | _limb_visuals("l", lengths) | _limb_visuals("r", lengths)
    for name in ("body", *(joint.child for joint in joints)):
        robot.append(_link(f"{name}_{body_id}", visuals.get(name, [])))
    for joint, place in zip(joints, places, strict=True):
        robot.append(_joint(joint, place, body_id))
    ElementTree.indent(robot)
    # No encoding in the declaration: parsers that take strings refuse one.
    return '<?xml version="1.0"?>\n' + ElementTree.tostring(robot, encoding="unicode") + "\n"


def checked_id(body_id: str) -> str:
    """The id. Raises InputError where it cannot be part of a ROS 2 topic's name, and so not name a REP-155 body."""
    if not _ID.fullmatch(body_id):
        raise InputError(
            f"A body's id must start with a letter and have only letters, digits and single underscores, because it is "
            f"part of topics and frames, got {body_id!r}. A track's number can be used with a letter before it, as p12."
        )
    return body_id


def _link(name: str, visuals: list[Element]) -> Element:
    link = Element("link", name=name)
    link.extend(visuals)
    return link


def _joint(joint: Joint, place: np.ndarray, body_id: str) -> Element:
    out = Element("joint", name=f"{joint.name}_{body_id}", type=joint.kind)
    SubElement(out, "parent", link=f"{joint.parent}_{body_id}")
    SubElement(out, "child", link=f"{joint.child}_{body_id}")
    SubElement(out, "origin", xyz=_numbers(place), rpy="0 0 0")
    if joint.moves:
        SubElement(out, "axis", xyz=_numbers(joint.axis))
        limits = {"lower": _number(joint.lower), "upper": _number(joint.upper)}
        SubElement(out, "limit", limits, effort=_EFFORT, velocity=_VELOCITY)
    return out


def _trunk_visuals(of: SegmentLengths) -> dict[str, list[Element]]:
    head = (of.head_up + of.neck) / 2
    eyes = [_sphere(head / 6, (-0.05 * head, side * 0.4 * head, 0), "eyes") for side in (1, -1)]
    return {
        "body": [_rod(of.hip_width, across=True), _joint_ball()],
        "torso": [_rod(of.torso), _rod(of.shoulder_width, across=True)],
        "head": [_sphere(head, (-0.9 * head, 0, 0), "body"), *eyes],
    }


def _limb_visuals(side: str, of: SegmentLengths) -> dict[str, list[Element]]:
    rods = {"shoulder": of.upper_arm, "elbow": of.forearm, "hip": of.thigh, "knee": of.shank}
    balls = ("y_shoulder", "elbow", "wrist", "y_hip", "knee", "ankle")
    drawn: dict[str, list[Element]] = {f"{side}_{link}": [_rod(length)] for link, length in rods.items()}
    for link in balls:
        drawn.setdefault(f"{side}_{link}", []).append(_joint_ball())
    return drawn


def _joint_ball() -> Element:
    return _sphere(1.2 * _LIMB_RADIUS, (0, 0, 0), "joint")


def _rod(length: float, across: bool = False) -> Element:
    """A cylinder from the link's origin down, or (``across``) through it along y."""
    middle = (0.0, 0.0, 0.0 if across else -length / 2)
    shape = Element("cylinder", length=_number(length), radius=_number(_LIMB_RADIUS))
    return _visual(shape, middle, "1.5707963 0 0" if across else "0 0 0", "body")


def _sphere(radius: float, middle: tuple[float, float, float], material: str) -> Element:
    return _visual(Element("sphere", radius=_number(radius)), middle, "0 0 0", material)


def _visual(shape: Element, middle: tuple[float, float, float], rpy: str, material: str) -> Element:
    visual = Element("visual")
    SubElement(visual, "origin", xyz=_numbers(middle), rpy=rpy)
    SubElement(visual, "geometry").append(shape)
    SubElement(visual, "material", name=material)
    return visual


def _numbers(values: np.ndarray | tuple[float, ...]) -> str:
    return " ".join(_number(value) for value in values)


def _number(value: float) -> str:
    return f"{value + 0.0:.7g}"  # + 0.0: no "-0"
