"""pose_node on a camera's topics, with or without RViz: `ros2 launch metrabs_ros pose.launch.py rviz:=true`"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription
from metrabs_ros.launch_arguments import given_parameters, parameter_arguments, topic_remappings

# The checkout, or share/metrabs_ros of the installed package.
SHARE = Path(__file__).resolve().parent.parent
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
TOPICS = ("image", "camera_info", "detections")

ARGUMENTS = [
    DeclareLaunchArgument(
        "image",
        default_value="image",
        description="Topic of the images; with cameras:=[front,left], front.image:=TOPIC left.image:=TOPIC.",
    ),
    DeclareLaunchArgument(
        "camera_info",
        default_value="camera_info",
        description="Topic of the camera's calibration; with several cameras front.camera_info:=TOPIC ...",
    ),
    DeclareLaunchArgument(
        "detections",
        default_value="detections",
        description="Topic of who is where in the images, for detector:=topic; front.detections:=TOPIC ...",
    ),
    DeclareLaunchArgument("rviz", default_value="false", description="Whether to start RViz."),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and of relative topics."),
    DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal."),
    DeclareLaunchArgument("use_sim_time", default_value="false", description="Whether time comes from /clock."),
    DeclareLaunchArgument(
        "fastdds_profile",
        default_value=EnvironmentVariable(PROFILE_VARIABLES[0], default_value=str(SHARE / "config/fastdds.xml")),
        description="Fast DDS profile for large images, which the camera driver needs as well; empty for none. Without "
        "that variable it is config/fastdds.xml.",
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value=str(SHARE / "launch/params.yaml"),
        description="Parameter file. What follows are the node's parameters: each goes before its value in this file, "
        "unless it is empty. With several cameras there are front.fov_deg:= and the like.",
    ),
    *(
        DeclareLaunchArgument(name, default_value="", description=description)
        for name, description in parameter_arguments().items()
    ),
]


def nodes(context: LaunchContext) -> list[Node]:
    def argument(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    common = {
        "namespace": argument("namespace"),
        "output": "screen",
        "ros_arguments": ["--log-level", argument("log_level")],
        "additional_env": {
            name: argument("fastdds_profile") for name in PROFILE_VARIABLES if argument("fastdds_profile")
        },
    }
    clock = {"use_sim_time": argument("use_sim_time").lower() in ("true", "1")}
    topics = {topic: argument(topic) for topic in TOPICS}
    markers = absolute(argument("namespace"), "pose_node/markers")
    parameters = given_parameters(context.launch_configurations)
    pose_node = Node(
        package="metrabs_ros",
        executable="pose_node",
        name="pose_node",
        parameters=[argument("params_file"), clock | {name: typed(value) for name, value in parameters.items()}],
        remappings=topic_remappings(topics, context.launch_configurations),
        **common,
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        condition=IfCondition(LaunchConfiguration("rviz")),
        parameters=[clock],
        remappings=[
            ("/image", topics["image"]),
            ("/camera_info", topics["camera_info"]),
            ("/pose_node/markers", markers),
        ],
        arguments=["--display-config", str(SHARE / "rviz/pose.rviz")],
        **common,
    )
    return [pose_node, rviz]


def typed(value: object) -> object:
    """launch_ros would read a text as YAML, and take the engine 007 for a number."""
    return ParameterValue(value, value_type=str) if isinstance(value, str) else value


def absolute(namespace: str, name: str) -> str:
    return "/".join(["", *filter(None, namespace.split("/")), name])


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=nodes)])
