"""pose_node on a camera's topics, with or without RViz: `ros2 launch metrabs_ros pose.launch.py rviz:=true`"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription

# The checkout, or share/metrabs_ros of the installed package.
SHARE = Path(__file__).resolve().parent.parent
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")

ARGUMENTS = [
    DeclareLaunchArgument("image", default_value="image", description="Topic of the images."),
    DeclareLaunchArgument("camera_info", default_value="camera_info", description="Topic of the camera's calibration."),
    DeclareLaunchArgument("engine", default_value="", description="Engine; empty is the one of params_file."),
    DeclareLaunchArgument("backend", default_value="", description="Backend; empty is the one of params_file."),
    DeclareLaunchArgument(
        "params_file", default_value=str(SHARE / "launch/params.yaml"), description="Parameter file."
    ),
    DeclareLaunchArgument("rviz", default_value="false", description="Whether to start RViz."),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and of relative topics."),
    DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal."),
    DeclareLaunchArgument("use_sim_time", default_value="false", description="Whether time comes from /clock."),
    DeclareLaunchArgument(
        "fastdds_profile",
        default_value=EnvironmentVariable(PROFILE_VARIABLES[0], default_value=str(SHARE / "config/fastdds.xml")),
        description="Fast DDS profile for large images (give it to the camera driver as well); empty for none.",
    ),
]


def nodes(context: LaunchContext) -> list[Node]:
    def argument(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    chosen = {name: argument(name) for name in ("engine", "backend") if argument(name)}
    common = {
        "namespace": argument("namespace"),
        "output": "screen",
        "ros_arguments": ["--log-level", argument("log_level")],
        "additional_env": {
            name: argument("fastdds_profile") for name in PROFILE_VARIABLES if argument("fastdds_profile")
        },
    }
    clock = {"use_sim_time": argument("use_sim_time").lower() in ("true", "1")}
    image, info = argument("image"), argument("camera_info")
    markers = absolute(argument("namespace"), "pose_node/markers")
    pose_node = Node(
        package="metrabs_ros",
        executable="pose_node",
        name="pose_node",
        parameters=[argument("params_file"), clock | chosen],
        remappings=[("image", image), ("camera_info", info)],
        **common,
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        condition=IfCondition(LaunchConfiguration("rviz")),
        parameters=[clock],
        remappings=[("/image", image), ("/camera_info", info), ("/pose_node/markers", markers)],
        arguments=["--display-config", str(SHARE / "rviz/pose.rviz")],
        **common,
    )
    return [pose_node, rviz]


def absolute(namespace: str, name: str) -> str:
    return "/".join(["", *filter(None, namespace.split("/")), name])


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=nodes)])
