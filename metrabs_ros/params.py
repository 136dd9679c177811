"""Node parameters: each declared once, as a field of a frozen record with its description, range and rule of change."""

from __future__ import annotations

import array
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from metrabs_ros.errors import InputError
from metrabs_ros.strict import parsed

Record = TypeVar("Record")

ANY_TIME, WHILE_UNCONFIGURED, AT_START = "any time", "while unconfigured", "at start"


@dataclass(frozen=True)
class Setting:
    """What ROS and the user are told about a parameter; ``between`` includes both ends."""

    description: str
    change: str
    between: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()


def setting(
    default: Any,
    description: str,
    change: str = WHILE_UNCONFIGURED,
    *,
    between: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field of a record of parameters."""
    return dataclasses.field(default=default, metadata={"setting": Setting(description, change, between, choices)})


@dataclass(frozen=True)
class NodeParams:
    """The parameters of pose_node. Raises InputError for values outside their range."""

    engine: str = setting("blazepose_full", "Name of an engine in engines/, or the path of an engine's .yaml.")
    backend: str = setting("auto", "Runtime of the engine: auto, openvino, onnxruntime, ...")
    up: tuple[float, float, float] = setting((0.0, -1.0, 0.0), "The world's up in the camera's optical frame.")
    fov_deg: float = setting(
        0.0,
        "Field of view of the image's longer side in degrees, instead of camera_info; 0 waits for camera_info.",
        between=(0.0, 179.0),
    )
    rectified: bool = setting(False, "The image is rectified: the camera is camera_info's P, without lens distortion.")
    camera_info_match: str = setting(
        "stamp",
        "Which camera_info belongs to an image: the one of the same stamp, or the latest.",
        choices=("stamp", "latest"),
    )
    publish_tf: bool = setting(True, "Whether to publish a TF frame per person and joint.", ANY_TIME)
    publish_markers: bool = setting(True, "Whether to publish ~/markers.", ANY_TIME)
    tf_prefix: str = setting("", "What stands before person_<id>/<joint> in TF frame names.", ANY_TIME)
    marker_lifetime_s: float = setting(
        1.0, "Seconds after which a marker disappears when nothing follows; 0 never.", ANY_TIME, between=(0.0, 3600.0)
    )
    marker_scale: float = setting(1.0, "Factor on the size of joints, bones and text.", ANY_TIME, between=(0.01, 100.0))
    autostart: bool = setting(True, "Whether the node configures and activates itself.", AT_START)

    def __post_init__(self) -> None:
        check_ranges(self)
        if not all(map(math.isfinite, self.up)) or not any(self.up):
            raise InputError(f"The parameter up must be a direction like [0.0, -1.0, 0.0], got {list(self.up)}.")


def check_ranges(record: Any) -> None:
    """Raises InputError for the first field of a record that lies outside its range or choices."""
    for name, declared in _settings(record).items():
        value = getattr(record, name)
        if declared.between and not declared.between[0] <= value <= declared.between[1]:
            low, high = declared.between
            raise InputError(f"The parameter {name} must lie between {low:g} and {high:g}, got {value:g}.")
        if declared.choices and value not in declared.choices:
            raise InputError(f"The parameter {name} must be one of {', '.join(declared.choices)}, got {value!r}.")


class ParameterSet(Generic[Record]):
    """A node's declared parameters, and the record of their values.

    What was given at start and does not fit (unknown name, wrong type, out of range) is kept as a problem until it is
    set to something that fits, so that the node lives and can say so. A later value that does not fit is rejected.
    """

    def __init__(self, node: Node, record_type: type[Record], is_configured: Callable[[], bool] = lambda: True) -> None:
        """Declares the fields of ``record_type``; ``is_configured`` says whether the settings of WHILE_UNCONFIGURED are
        in use."""
        self._record_type = record_type
        self._settings = _settings(record_type)
        self._is_configured = is_configured
        self._where = f"The parameter list of {node.get_name()}"
        self._problems: dict[str, str] = {}
        given = {name: _plain(parameter.value) for name, parameter in _overrides(node).items()}
        own = {name: value for name, value in given.items() if not _is_of_ros(node, name)}
        for name, value in own.items():
            try:
                parsed(record_type, {name: value}, self._where)
            except InputError as error:
                self._problems[name] = str(error)
        good = {name: value for name, value in own.items() if name not in self._problems}
        self._record = parsed(record_type, good, self._where)
        for name, declared in self._settings.items():
            value = getattr(self._record, name)
            value = list(value) if isinstance(value, tuple) else value
            node.declare_parameter(name, value, _descriptor(declared, value), ignore_override=True)
        node.add_on_set_parameters_callback(self._on_set)

    def record(self) -> Record:
        """The values now. Raises InputError with the problems of the start that still stand."""
        if self._problems:
            raise InputError(" ".join(self._problems.values()))
        return self._record

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        changes = {p.name: _plain(p.value) for p in parameters if p.name in self._settings}
        for name in changes:
            if self._settings[name].change == WHILE_UNCONFIGURED and self._is_configured():
                return SetParametersResult(
                    successful=False,
                    reason=f"The parameter {name} can only change while the node is unconfigured: deactivate and clean "
                    "it up first, or restart it.",
                )
        values = {name: getattr(self._record, name) for name in self._settings}
        try:
            record = parsed(self._record_type, values | changes, self._where)
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._record = record
        for name in changes:
            self._problems.pop(name, None)
        return SetParametersResult(successful=True)


def _settings(record: Any) -> dict[str, Setting]:
    return {field.name: field.metadata["setting"] for field in dataclasses.fields(record)}


def _overrides(node: Node) -> dict[str, Parameter]:
    # rclpy has no public way to see what was given for names that are not declared.
    return getattr(node, "_parameter_overrides", {})


def _is_of_ros(node: Node, name: str) -> bool:
    return node.has_parameter(name) or name.startswith("qos_overrides.")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (array.array, tuple)) else value


def _descriptor(declared: Setting, value: Any) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        description=declared.description,
        additional_constraints=f"one of {', '.join(declared.choices)}" if declared.choices else "",
        read_only=declared.change == AT_START,
        # 55 for 55.0 must do; the type is checked when the record is made.
        dynamic_typing=True,
    )
    if declared.between and isinstance(value, float):
        low, high = declared.between
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    elif declared.between:
        low, high = declared.between
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return descriptor
