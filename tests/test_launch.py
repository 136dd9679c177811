"""pose.launch.py and the files that it names."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from rcl_interfaces.srv import GetParameters
from ros_support import NodeProcess, Peer, free_domain
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from metrabs_ros.launch_arguments import given_parameters, parameter_arguments, topic_remappings
from metrabs_ros.parameter_set import declared
from metrabs_ros.params import NodeParams
from metrabs_ros.video_source import SourceParams
from metrabs_ros.video_writer import VideoWriter

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parent.parent
LAUNCH_FILE = ROOT / "launch/pose.launch.py"
OWN_ARGUMENTS = {
    "image", "camera_info", "detections", "params_file", "rviz", "namespace", "log_level", "use_sim_time",
    "fastdds_profile",
}  # fmt: skip
PARAMETERS = {parameter.name: parameter for parameter in declared(NodeParams)}
EXAMPLES = sorted(ROOT.glob("launch/*.launch.xml"))


# --- without launch ---------------------------------------------------------------------------------------------------


def test_it_compiles_and_the_files_it_names_are_there() -> None:
    text = LAUNCH_FILE.read_text()
    compile(text, str(LAUNCH_FILE), "exec")
    named = re.findall(r'SHARE / "([^"]+)"', text)
    assert {"launch/params.yaml", "rviz/pose.rviz", "config/fastdds.xml"} == set(named)
    assert all((ROOT / name).is_file() for name in named)
    assert set(re.findall(r'DeclareLaunchArgument\(\s*"(\w+)"', text)) == OWN_ARGUMENTS
    assert not OWN_ARGUMENTS & set(PARAMETERS), "an argument and a parameter of one name"


def test_every_parameter_is_an_argument_that_says_what_it_takes() -> None:
    arguments = parameter_arguments()
    assert list(arguments) == list(PARAMETERS)
    assert arguments["num_aug"].endswith("(test-time augmentation) (1 to 32; default 1).")
    assert arguments["detector"].endswith("(one of engine, topic; default engine).")
    assert arguments["up"].endswith("(default [0, -1, 0]).")
    assert arguments["cameras"].endswith("(default none).")
    for name, text in arguments.items():
        words = text.split(" (")[0]
        assert words[0].isupper() or words.startswith("m/"), name
        assert text.endswith(")."), name


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("engine", "007", "007"),
        ("num_aug", "5", 5),
        ("fov_deg", "55.5", 55.5),
        ("fov_deg", "55", 55),
        ("rectified", "true", True),
        ("publish_tf", "False", False),
        ("tracking.forget_s", "2.5", 2.5),
        ("smoothing.method", "kalman", "kalman"),
        ("up", "[0, -0.5, -1]", [0.0, -0.5, -1.0]),
        ("cameras", "[front, left]", ["front", "left"]),
        ("cameras", "front,left", ["front", "left"]),
        ("detection_classes", "[0, person]", ["0", "person"]),
    ],
)
def test_what_is_given_as_text_has_the_parameters_type(name: str, text: str, value: Any) -> None:
    assert given_parameters({name: text, "backend": "", "image": "/front/image"}) == {name: value}


@pytest.mark.parametrize(("name", "text"), [("fov_deg", "wide"), ("num_aug", "[1"), ("up", "up"), ("up", "[0, x, 0]")])
def test_what_is_no_value_stays_text_for_the_node_to_refuse(name: str, text: str) -> None:
    assert given_parameters({name: text}) == {name: text}


def test_cameras_have_topics_and_parameters_of_their_own() -> None:
    given = {"cameras": "[front, left]", "front.image": "/cam1/image", "left.fov_deg": "90", "right.fov_deg": "80"}
    assert given_parameters(given) == {"cameras": ["front", "left"], "left.fov_deg": 90}
    topics = {"image": "image", "camera_info": "/info"}
    assert topic_remappings(topics, given) == [*topics.items(), ("front/image", "/cam1/image")]
    assert topic_remappings(topics, {"image": "elsewhere"}) == list(topics.items())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_gives_its_nodes_only_what_they_know(path: Path) -> None:
    root = ElementTree.parse(path).getroot()
    includes = {include.get("file", "").rpartition("/")[2]: include for include in root.iter("include")}
    given = {arg.get("name") for arg in includes["pose.launch.py"].findall("arg")}
    own = {arg.get("name") for arg in root.findall("arg")}
    assert given <= OWN_ARGUMENTS | set(PARAMETERS)
    assert all(arg.get("description") for arg in root.findall("arg"))
    for node in root.iter("node"):
        assert (node.get("pkg"), node.get("exec")) == ("metrabs_ros", "video_source")
        assert {param.get("name") for param in node.findall("param")} <= {p.name for p in declared(SourceParams)}
    used = set(re.findall(r"\$\(var (\w+)\)", path.read_text()))
    assert used <= own, "a variable that nobody declares"
    # What is declared is used here, or goes on to pose.launch.py, which has an argument of that name.
    assert own <= used | OWN_ARGUMENTS | set(PARAMETERS)


def test_there_is_an_example_for_each_way_to_have_images() -> None:
    assert {path.name.split(".")[0] for path in EXAMPLES} == {"realsense", "usb_cam", "bag", "two_cameras"}


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
    assert set(declared) == OWN_ARGUMENTS | set(PARAMETERS)
    assert all(argument.description and argument.default_value is not None for argument in declared.values())


def test_the_arguments_reach_the_node(launch_file: ModuleType) -> None:
    given = {
        "image": "cam/image_raw",
        "camera_info": "/info",
        "namespace": "robot",
        "backend": "openvino",
        "log_level": "debug",
        "use_sim_time": "true",
        "tracking.forget_s": "7",
        "up": "[0, -0.5, -1]",
        "detection_classes": "[0, person]",
        "hri_id_prefix": "b00",
    }
    arguments = [f"{name}:={value}" for name, value in given.items()]
    with free_domain() as domain, NodeProcess(domain, "tests/ros_launch.py", str(LAUNCH_FILE), *arguments) as process:
        process.wait_for("Waiting for images on /robot/cam/image_raw with /info")
        process.wait_for(r"\[DEBUG\]")
        with Peer(domain) as peer:
            names = ["backend", "engine", "use_sim_time", "tracking.forget_s", "up", "detection_classes"]
            request = GetParameters.Request(names=[*names, "hri_id_prefix"])
            backend, engine, use_sim_time, forget_s, up, classes, prefix = peer.call(
                GetParameters, "/robot/pose_node/get_parameters", request, True
            ).values
        assert backend.string_value == "openvino"
        assert engine.string_value == NodeParams().engine, "what is not given comes from the parameter file"
        assert use_sim_time.bool_value
        assert forget_s.double_value == 7
        assert list(up.double_array_value) == [0.0, -0.5, -1.0]
        assert classes.string_array_value == ["0", "person"]
        assert prefix.string_value == "b00"
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


def test_a_wrong_value_is_refused_by_the_node_in_a_sentence(launch_file: ModuleType) -> None:
    with (
        free_domain() as domain,
        NodeProcess(domain, "tests/ros_launch.py", str(LAUNCH_FILE), "fov_deg:=wide", "num_aug:=99") as process,
    ):
        process.wait_for("Cannot configure: .*fov_deg must be of type float, got str 'wide'")
        process.wait_for("num_aug must lie between 1 and 32, got 99")


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Somebody for two seconds."""
    from skimage import data

    path = tmp_path / "astronaut.mp4"
    picture = data.astronaut()
    with VideoWriter(path, (picture.shape[1], picture.shape[0]), 10.0) as writer:
        for _ in range(20):
            writer.write(picture)
    return path


@pytest.mark.parametrize(
    ("example", "given", "topics"),
    [
        ("usb_cam", ("source:={video}", "fov_deg:=50"), ("/pose_node/markers",)),
        (
            "two_cameras",
            ("front:={video}", "left:={video}", "fov_deg:=50"),
            ("/pose_node/front/markers", "/pose_node/left/markers"),
        ),
    ],
)
def test_an_example_sees_people(
    launch_file: ModuleType, video: Path, example: str, given: tuple[str, ...], topics: tuple[str, ...]
) -> None:
    arguments = [each.format(video=video) for each in given]
    path = ROOT / f"launch/{example}.launch.xml"
    with (
        free_domain() as domain,
        NodeProcess(domain, "tests/ros_launch.py", str(path), *arguments),
        Peer(domain) as peer,
    ):
        for heard in [peer.listen(MarkerArray, topic) for topic in topics]:
            peer.wait_until(lambda heard=heard: any(array.markers for _, array in heard), f"people of {example}")


RS_LAUNCH = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

def generate_launch_description():
    names = {"publish_tf": "its_own", "enable_depth": "true", "rgb_camera.color_profile": "0,0,0"}
    topics = [(name, f"/camera/camera/color/{new}") for name, new in
              (("image", "image_raw"), ("camera_info", "camera_info"))]
    seen = [LaunchConfiguration("publish_tf"), " ", LaunchConfiguration("enable_depth"), " ",
            LaunchConfiguration("rgb_camera.color_profile")]
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=value) for name, value in names.items()),
        Node(package="metrabs_ros", executable="video_source", name="driver", remappings=topics,
             parameters=[{"source": "VIDEO", "fov_deg": 50.0, "loop": True, "frame_id": seen}]),
    ])
"""


def test_the_realsense_example_keeps_its_arguments_from_the_driver(
    launch_file: ModuleType, video: Path, tmp_path: Path
) -> None:
    """With a package of the driver's name, whose launch file has an argument publish_tf as the driver's has."""
    share = tmp_path / "share"
    (share / "ament_index/resource_index/packages").mkdir(parents=True)
    (share / "ament_index/resource_index/packages/realsense2_camera").touch()
    (share / "realsense2_camera/launch").mkdir(parents=True)
    (share / "realsense2_camera/launch/rs_launch.py").write_text(RS_LAUNCH.replace("VIDEO", str(video)))
    env = {"AMENT_PREFIX_PATH": f"{tmp_path}:{os.environ.get('AMENT_PREFIX_PATH', sys.prefix)}"}
    command = ("tests/ros_launch.py", str(ROOT / "launch/realsense.launch.xml"), "publish_tf:=false")
    with free_domain() as domain, NodeProcess(domain, *command, env=env) as process, Peer(domain) as peer:
        heard = peer.listen(MarkerArray, "/pose_node/markers")
        transforms = peer.listen(TFMessage, "/tf")
        process.wait_for("Waiting for images on /camera/camera/color/image_raw")
        peer.wait_until(lambda: any(array.markers for _, array in heard), "people before the RealSense")
        assert not any("person" in each.child_frame_id for _, message in transforms for each in message.transforms)
        driver_got = heard[-1][1].markers[0].header.frame_id
        assert driver_got == "its_own false 640x480x30", process.output


def test_the_bag_example_plays_with_a_clock_that_the_node_goes_by(launch_file: ModuleType, tmp_path: Path) -> None:
    """With a `ros2` that only says what it was asked for."""
    ros2 = tmp_path / "ros2"
    ros2.write_text('#!/bin/sh\necho "ros2 $@"\n')
    ros2.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    given = ("bag:=/data/walk", "image:=/cam/image", "rate:=0.5")
    command = ("tests/ros_launch.py", str(ROOT / "launch/bag.launch.xml"), *given)
    with free_domain() as domain, NodeProcess(domain, *command, env=env) as process, Peer(domain) as peer:
        process.wait_for("ros2 bag play /data/walk --clock --rate 0.5 --delay 5.0")
        process.wait_for("Waiting for images on /cam/image with /camera_info")
        request = GetParameters.Request(names=["use_sim_time"])
        assert peer.call(GetParameters, "/pose_node/get_parameters", request, True).values[0].bool_value
