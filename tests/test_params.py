"""Parameters: declared once, taken as the user means them, refused in a sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_support import free_domain

from metrabs_ros.errors import InputError
from metrabs_ros.parameter_set import WHILE_UNCONFIGURED, ParameterSet, check_ranges, declared, setting
from metrabs_ros.params import NodeParams

pytestmark = pytest.mark.ros


@pytest.fixture
def context() -> Iterator[rclpy.Context]:
    with free_domain() as domain:
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=domain)
        yield context
        rclpy.shutdown(context=context)


def node_with(
    context: rclpy.Context, given: dict[str, Any] | None = None, is_configured: bool = False
) -> tuple[Node, ParameterSet[NodeParams]]:
    overrides = [Parameter(name, value=value) for name, value in (given or {}).items()]
    node = Node("pose_node", context=context, parameter_overrides=overrides)
    return node, ParameterSet(node, NodeParams, lambda: is_configured)


def test_defaults_are_declared_with_description_range_and_rule(context: rclpy.Context) -> None:
    node, parameters = node_with(context)
    assert parameters.record() == NodeParams()
    for parameter in declared(NodeParams):
        descriptor = node.describe_parameter(parameter.name)
        assert descriptor.description.endswith("."), parameter.name
        assert descriptor.read_only == (parameter.name in ("autostart", "cameras"))
    scale = node.describe_parameter("marker_scale").floating_point_range[0]
    assert (scale.from_value, scale.to_value) == (0.01, 100.0)
    assert "latest" in node.describe_parameter("camera_info_match").additional_constraints


def test_integers_are_taken_for_numbers(context: rclpy.Context) -> None:
    _, parameters = node_with(context, {"fov_deg": 55, "up": [0, 0, 1]})
    assert parameters.record().fov_deg == 55.0
    assert parameters.record().up == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("engin", "x", "unknown key 'engin': did you mean 'engine'"),
        ("publish_marker", True, "did you mean 'publish_markers'"),
        ("engine", 5, "engine must be of type str, got int 5"),
        ("publish_tf", "yes", "publish_tf must be of type bool, got str 'yes'"),
        ("fov_deg", 200.0, "fov_deg must lie between 0 and 179, got 200"),
        ("fov_deg", 200, "fov_deg must lie between 0 and 179, got 200"),
        ("marker_lifetime_s", float("nan"), "marker_lifetime_s must be a finite number"),
        ("camera_info_match", "nearest", "camera_info_match must be one of stamp, latest, got 'nearest'"),
        ("up", [0.0, 1.0], "up must have 3 entries, got 2"),
        ("up", [0.0, 0.0, 0.0], "up must be a direction"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    context: rclpy.Context, name: str, value: Any, sentence: str
) -> None:
    node, at_start = node_with(context, {name: value})
    with pytest.raises(InputError, match=sentence):
        at_start.record()
    node.destroy_node()

    if name in {field.name for field in dataclasses.fields(NodeParams)}:
        node, later = node_with(context)
        result = node.set_parameters([Parameter(name, value=value)])[0]
        assert not result.successful
        assert result.reason
        assert later.record() == NodeParams()


def test_a_problem_of_the_start_is_gone_once_it_is_set_right(context: rclpy.Context) -> None:
    node, parameters = node_with(context, {"engine": 5, "fov_deg": 500.0})
    with pytest.raises(InputError, match=r"engine .*fov_deg"):
        parameters.record()
    assert node.set_parameters([Parameter("engine", value="other")])[0].successful
    with pytest.raises(InputError, match="fov_deg"):
        parameters.record()
    assert node.set_parameters([Parameter("fov_deg", value=50.0)])[0].successful
    assert (parameters.record().engine, parameters.record().fov_deg) == ("other", 50.0)


def test_what_is_in_use_cannot_change_and_the_rest_can(context: rclpy.Context) -> None:
    node, parameters = node_with(context, is_configured=True)
    for parameter in declared(NodeParams):
        rule = parameter.setting.change
        result = node.set_parameters([Parameter(parameter.name, value=_plain(parameter.default))])[0]
        assert result.successful == (rule == "any time"), parameter.name
        if rule == WHILE_UNCONFIGURED:
            assert "while the node is unconfigured" in result.reason
    assert node.set_parameters([Parameter("marker_scale", value=3.0)])[0].successful
    assert parameters.record().marker_scale == 3.0


def test_parameters_of_ros_itself_are_none_of_ours(context: rclpy.Context) -> None:
    _, parameters = node_with(context, {"use_sim_time": False, "qos_overrides./tf.publisher.depth": 5})
    assert parameters.record() == NodeParams()


def test_a_bool_is_no_number_and_integers_have_ranges(context: rclpy.Context) -> None:
    @dataclasses.dataclass(frozen=True)
    class Counted:
        count: int = setting(1, "How many.", between=(0, 5))

        def __post_init__(self) -> None:
            check_ranges(self)

    node = Node("counting", context=context)
    counted = ParameterSet(node, Counted, lambda: False)
    assert node.describe_parameter("count").integer_range[0].to_value == 5
    assert not node.set_parameters([Parameter("count", value=6)])[0].successful
    assert not node.set_parameters([Parameter("count", value=True)])[0].successful
    assert node.set_parameters([Parameter("count", value=5)])[0].successful
    assert counted.record().count == 5


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
