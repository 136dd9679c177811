"""The parameters of pose_node as launch arguments: their names, what --show-args says, and what was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from metrabs_ros.parameter_set import Declared, declared
from metrabs_ros.params import CameraParams, NodeParams


def parameter_arguments() -> dict[str, str]:
    """Name and description of an argument for each parameter, in the order of their declaration."""
    return {parameter.name: _described(parameter) for parameter in declared(NodeParams)}


def given_parameters(given: Mapping[str, str]) -> dict[str, Any]:
    """The parameters among the launch arguments that were ``given`` as text; an empty text is none.

    A camera of the argument ``cameras`` has parameters of its own, given as FRONT.fov_deg. Text that is no value of a
    parameter's type stays text: the node refuses it in a sentence.
    """
    values = {parameter.name: _parsed(parameter, given.get(parameter.name, "")) for parameter in declared(NodeParams)}
    for camera in _names(values["cameras"]):
        for parameter in declared(CameraParams):
            name = f"{camera}.{parameter.name}"
            values[name] = _parsed(parameter, given.get(name, ""))
    return {name: value for name, value in values.items() if value is not None}


def topic_remappings(topics: Mapping[str, str], given: Mapping[str, str]) -> list[tuple[str, str]]:
    """What each input topic of the node is remapped to: ``topics`` for the only camera, and for each camera of the
    argument ``cameras`` what was given as FRONT.image."""
    cameras = _names(_parsed(_CAMERAS, given.get("cameras", "")))
    own = {f"{camera}/{topic}": given.get(f"{camera}.{topic}", "") for camera in cameras for topic in topics}
    return [(topic, to) for topic, to in {**topics, **own}.items() if to]


_CAMERAS = next(parameter for parameter in declared(NodeParams) if parameter.name == "cameras")


def _described(parameter: Declared) -> str:
    """What the parameter means, what may be given, and its default."""
    rule = parameter.setting
    allowed = f"one of {', '.join(rule.choices)}; " if rule.choices else ""
    if rule.between:
        allowed = f"{rule.between[0]:g} to {rule.between[1]:g}; "
    meaning = rule.description if rule.description.endswith("...") else rule.description.removesuffix(".")
    return f"{meaning} ({allowed}default {_shown(parameter.default)})."


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_shown(part) for part in value)}]" if any(value) else "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def _parsed(parameter: Declared, text: str) -> Any:
    """The value that a text means to a parameter of its type; None for an empty one."""
    if not text:
        return None
    if isinstance(parameter.default, str):
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if not isinstance(parameter.default, tuple):
        return value if isinstance(value, (bool, int, float)) else text
    parts = value if isinstance(value, list) else [part.strip() for part in text.split(",")]
    try:
        # ROS has no lists of mixed types: [0, -1.5, 0] means numbers with a point.
        return [type(parameter.default[0])(part) for part in parts] or [""]
    except ValueError:
        return text


def _names(cameras: Any) -> Sequence[str]:
    return [name for name in cameras if name] if isinstance(cameras, list) else []
