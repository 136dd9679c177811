"""pose.launch.py and the files that it names."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from rcl_interfaces.srv import GetParameters
from ros_support import NodeProcess, Peer, free_domain

from metrabs_ros.params import NodeParams

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parent.parent
LAUNCH_FILE = ROOT / "launch/pose.launch.py"
ARGUMENTS = {
    "image", "camera_info", "engine", "backend", "params_file", "rviz", "namespace", "log_level", "use_sim_time",
    "fastdds_profile",
}  # fmt: skip


# --- without launch ---------------------------------------------------------------------------------------------------


def test_it_compiles_and_the_files_it_names_are_there() -> None:
    text = LAUNCH_FILE.read_text()
    compile(text, str(LAUNCH_FILE), "exec")
    named = re.findall(r'SHARE / "([^"]+)"', text)
    assert {"launch/params.yaml", "rviz/pose.rviz", "config/fastdds.xml"} == set(named)
    assert all((ROOT / name).is_file() for name in named)
    assert set(re.findall(r'DeclareLaunchArgument\(\s*"(\w+)"', text)) == ARGUMENTS


def test_the_parameter_file_lists_every_parameter_with_its_default() -> None:
    data = yaml.safe_load((ROOT / "launch/params.yaml").read_text())
    assert list(data) == ["/**/pose_node"]
    listed = data["/**/pose_node"]["ros__parameters"]
    defaults = dataclasses.asdict(NodeParams())
    assert {name: tuple(value) if isinstance(value, list) else value for name, value in listed.items()} == defaults


def test_rviz_shows_the_topics_that_the_launch_file_remaps() -> None:
    config = yaml.safe_load((ROOT / "rviz/pose.rviz").read_text())["Visualization Manager"]
    topics = {display["Class"].split("/")[1]: display.get("Topic", {}).get("Value") for display in config["Displays"]}
    assert topics["MarkerArray"] == "/pose_node/markers"
    assert topics["Image"] == topics["Camera"] == "/image"
    assert "TF" in topics
    remapped = re.findall(r'\("(/[\w/]+)",', LAUNCH_FILE.read_text())
    assert {"/image", "/camera_info", "/pose_node/markers"} <= set(remapped)
    names = {display["Name"] for display in config["Displays"]}
    camera = next(display for display in config["Displays"] if display["Class"].endswith("/Camera"))
    assert set(camera["Visibility"]) - {"Value"} <= names


def test_the_profile_has_room_for_large_images_and_no_transport_of_its_own() -> None:
    root = ElementTree.parse(ROOT / "config/fastdds.xml").getroot()
    space = {"p": root.tag.partition("}")[0].strip("{")}

    def text(path: str) -> str | None:
        return root.findtext(path, namespaces=space)

    assert text(".//p:segment_size") == "20971520"
    assert text(".//p:maxMessageSize") == "8388608"
    assert text(".//p:useBuiltinTransports") == "false"
    defined = {node.text for node in root.findall("p:transport_descriptors//p:transport_id", space)}
    assert {node.text for node in root.findall(".//p:userTransports/p:transport_id", space)} == defined


# --- with launch ------------------------------------------------------------------------------------------------------


@pytest.fixture
def launch_file() -> ModuleType:
    for needed in ("launch", "launch_ros"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: ROS 2 from PyPI lacks it.")
    spec = importlib.util.spec_from_file_location("pose_launch", LAUNCH_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def performed(module: ModuleType, **given: str) -> tuple[Any, list[Any]]:
    """A launch context after the arguments were declared, and the node actions made in it."""
    from launch import LaunchContext

    context = LaunchContext()
    context.launch_configurations.update(given)
    for argument in module.ARGUMENTS:
        argument.execute(context)
    return context, module.nodes(context)


def test_the_declared_arguments_have_descriptions_and_defaults(launch_file: ModuleType) -> None:
    from launch.actions import DeclareLaunchArgument

    entities = launch_file.generate_launch_description().entities
    declared = {entity.name: entity for entity in entities if isinstance(entity, DeclareLaunchArgument)}
    assert set(declared) == ARGUMENTS
    assert all(argument.description and argument.default_value is not None for argument in declared.values())


def test_the_arguments_reach_the_node(launch_file: ModuleType) -> None:
    given = {
        "image": "cam/image_raw",
        "camera_info": "/info",
        "namespace": "robot",
        "backend": "openvino",
        "log_level": "debug",
        "use_sim_time": "true",
    }
    arguments = [f"{name}:={value}" for name, value in given.items()]
    with free_domain() as domain, NodeProcess(domain, "tests/ros_launch.py", str(LAUNCH_FILE), *arguments) as process:
        process.wait_for("Waiting for images on /robot/cam/image_raw with /info")
        process.wait_for(r"\[DEBUG\]")
        with Peer(domain) as peer:
            request = GetParameters.Request(names=["backend", "engine", "use_sim_time"])
            backend, engine, use_sim_time = peer.call(
                GetParameters, "/robot/pose_node/get_parameters", request, True
            ).values
        assert backend.string_value == "openvino"
        assert engine.string_value == NodeParams().engine, "what is not given comes from the parameter file"
        assert use_sim_time.bool_value
        process.interrupted()
        process.wait_for("process has finished cleanly")


def test_rviz_is_started_on_demand_and_follows_the_namespace(launch_file: ModuleType) -> None:
    context, (_, rviz) = performed(launch_file)
    assert not rviz.condition.evaluate(context)
    context, (_, rviz) = performed(launch_file, rviz="true")
    assert rviz.condition.evaluate(context)
    assert launch_file.absolute("", "pose_node/markers") == "/pose_node/markers"
    assert launch_file.absolute("/robot/", "pose_node/markers") == "/robot/pose_node/markers"


def test_no_profile_is_set_where_none_is_wanted(launch_file: ModuleType) -> None:
    _, (with_profile, _) = performed(launch_file)
    assert len(with_profile.additional_env) == 2
    _, (without, _) = performed(launch_file, fastdds_profile="")
    assert not without.additional_env
