"""What `ros2 launch FILE name:=value ...` does, for machines that have launch but no ros2cli."""

import sys

from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource

from launch import LaunchDescription, LaunchService

if __name__ == "__main__":
    arguments = [tuple(argument.split(":=", 1)) for argument in sys.argv[2:]]
    included = IncludeLaunchDescription(AnyLaunchDescriptionSource(sys.argv[1]), launch_arguments=arguments)
    service = LaunchService()
    service.include_launch_description(LaunchDescription([included]))
    sys.exit(service.run())
