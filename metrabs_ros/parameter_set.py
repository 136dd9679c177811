"""A node's parameters: each declared once, as a field of a frozen record with description, range and rule of change."""

from __future__ import annotations

import array
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from metrabs_ros.errors import InputError
from metrabs_ros.ranges import ranges_of
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


@dataclass(frozen=True)
class Declared:
    """A parameter: ``tracking.forget_s`` is the field forget_s of the record's field tracking."""

    name: str
    default: Any
    setting: Setting


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


def settings_of(record_type: Any, **others: Setting) -> dict[str, dict[str, Setting]]:
    """The metadata of a field that is a record of settings itself (ranges.py), which can change at any time; ``others``
    describe those of its fields that have no range."""
    settings = {
        name: Setting(allowed.meaning, ANY_TIME, (allowed.low, allowed.high))
        for name, allowed in ranges_of(record_type).items()
    }
    return {"settings": {**others, **settings}}


def declared(record: Any) -> list[Declared]:
    """The parameters of a record or its class, with the values of the record or the defaults of the class."""
    found = []
    values = record() if isinstance(record, type) else record
    for field in dataclasses.fields(record):
        value = getattr(values, field.name)
        if "setting" in field.metadata:
            found.append(Declared(field.name, value, field.metadata["setting"]))
        for name, inner in field.metadata.get("settings", {}).items():
            found.append(Declared(f"{field.name}.{name}", getattr(value, name), inner))
    return found


def check_ranges(record: Any) -> None:
    """Raises InputError for the first field of a record that lies outside its range or choices."""
    for parameter in declared(record):
        value, allowed = parameter.default, parameter.setting
        if allowed.between and not allowed.between[0] <= value <= allowed.between[1]:
            low, high = allowed.between
            raise InputError(f"The parameter {parameter.name} must lie between {low:g} and {high:g}, got {value:g}.")
        if allowed.choices and value not in allowed.choices:
            raise InputError(
                f"The parameter {parameter.name} must be one of {', '.join(allowed.choices)}, got {value!r}."
            )


class ParameterSet(Generic[Record]):
    """A node's declared parameters, and the record of their values.

    What was given at start and does not fit (unknown name, wrong type, out of range) is kept as a problem until it is
    set to something that fits, so that the node lives and can say so. A later value that does not fit is rejected.
    """

    def __init__(
        self,
        node: Node,
        record_type: type[Record],
        is_configured: Callable[[], bool] = lambda: True,
        prefix: str = "",
        defaults: Mapping[str, Any] | None = None,
        prefixes_of_others: Callable[[Record], Sequence[str]] = lambda record: (),
    ) -> None:
        """Declares the fields of ``record_type``, each named ``prefix`` and its own name.

        ``is_configured`` says whether the settings of WHILE_UNCONFIGURED are in use; ``defaults`` replace the fields'
        own; what was given for names that begin with one of ``prefixes_of_others`` belongs to other sets.
        """
        self._record_type = record_type
        self._prefix = prefix
        self._settings = {parameter.name: parameter.setting for parameter in declared(record_type)}
        self._is_configured = is_configured
        self._where = f"The parameter list of {node.get_name()}" + (f", {prefix.rstrip('.')}" if prefix else "")
        self._problems: dict[str, str] = {}
        given = {
            name.removeprefix(prefix): _plain(parameter.value)
            for name, parameter in _overrides(node).items()
            # An empty list of a parameter file arrives as nothing.
            if name.startswith(prefix) and not _is_of_ros(node, name) and parameter.value is not None
        }
        known = {name: value for name, value in given.items() if name in self._settings}
        self._base = dict(defaults or {})
        good: dict[str, Any] = {}
        for name, value in known.items():
            # One after the other: values that are good alone may not go together.
            if self._is_good({**good, name: value}, name):
                good[name] = value
        self._record = self._parsed(good)
        others = tuple(prefixes_of_others(self._record))
        for name, value in given.items():
            if name not in known and not (others and name.startswith(others)):
                self._is_good({name: value}, name)
        for parameter in declared(self._record):
            value = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
            descriptor = _descriptor(parameter.setting, value)
            node.declare_parameter(prefix + parameter.name, value, descriptor, ignore_override=True)
        node.add_on_set_parameters_callback(self._on_set)

    def record(self) -> Record:
        """The values now. Raises InputError with the problems of the start that still stand."""
        if self._problems:
            raise InputError(" ".join(self._problems.values()))
        return self._record

    def best_record(self) -> Record:
        """The values now, the defaults in place of those that do not fit."""
        return self._record

    def _is_good(self, values: Mapping[str, Any], name: str) -> bool:
        """Whether the value of ``name`` can be had beside the others; why not, is noted as its problem."""
        try:
            self._parsed(values)
        except InputError as error:
            self._problems[name] = str(error)
        return name not in self._problems

    def _parsed(self, values: Mapping[str, Any]) -> Record:
        """``values`` by their names without prefix; what is not given is as in the defaults."""
        nested: dict[str, Any] = {}
        for name, value in {**self._base, **values}.items():
            group, _, inner = name.rpartition(".")
            (nested.setdefault(group, {}) if group else nested)[inner] = value
        return parsed(self._record_type, nested, self._where)

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        named = {p.name.removeprefix(self._prefix): p for p in parameters if p.name.startswith(self._prefix)}
        changes = {name: _plain(p.value) for name, p in named.items() if name in self._settings}
        for name in changes:
            if self._settings[name].change == WHILE_UNCONFIGURED and self._is_configured():
                return SetParametersResult(
                    successful=False,
                    reason=f"The parameter {self._prefix}{name} can only change while the node is unconfigured: "
                    "deactivate and clean it up first, or restart it.",
                )
        values = {parameter.name: parameter.default for parameter in declared(self._record)}
        try:
            record = self._parsed(values | changes)
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._record = record
        for name in changes:
            self._problems.pop(name, None)
        return SetParametersResult(successful=True)


def _overrides(node: Node) -> dict[str, Parameter]:
    # rclpy has no public way to see what was given for names that are not declared.
    return getattr(node, "_parameter_overrides", {})


def _is_of_ros(node: Node, name: str) -> bool:
    return node.has_parameter(name) or name.startswith("qos_overrides.")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (array.array, tuple)) else value


def _descriptor(allowed: Setting, value: Any) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        description=allowed.description,
        additional_constraints=f"one of {', '.join(allowed.choices)}" if allowed.choices else "",
        read_only=allowed.change == AT_START,
        # 55 for 55.0 must do; the type is checked when the record is made.
        dynamic_typing=True,
    )
    if allowed.between and isinstance(value, float):
        low, high = allowed.between
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
    elif allowed.between:
        low, high = allowed.between
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return descriptor
