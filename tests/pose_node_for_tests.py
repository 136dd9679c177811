"""pose_node in a process of its own, frames for its fake pipeline, and what is expected of its markers."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from ros_support import FAKE_NODE, NodeProcess, Peer, flat_image, header_now
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from metrabs_ros.camera import Camera
from metrabs_ros.messages import camera_to_msg, image_to_msg

SIZE = (64, 48)
CAMERA = Camera.from_fov(60, SIZE)


def fake_node(domain: int, *args: str, delay_s: float = 0.0, env: dict[str, str] | None = None) -> NodeProcess:
    return NodeProcess(domain, str(FAKE_NODE), str(delay_s), "--ros-args", *args, env=env)


def real_node(domain: int, *args: str) -> NodeProcess:
    """On OpenVINO unless ``args`` name a backend: auto would measure what other work leaves of this machine."""
    named = any(arg.startswith("backend:=") for arg in args)
    return NodeProcess(
        domain, "-m", "metrabs_ros.node", "--ros-args", *args, *(() if named else ("-p", "backend:=openvino"))
    )


def frame(people: int, header: Header | None = None, size: tuple[int, int] = SIZE) -> tuple[Image, CameraInfo]:
    """An image in which the fake pipeline sees ``people``, and its camera_info."""
    header = header or header_now()
    return image_to_msg(flat_image(people, size), header), camera_to_msg(Camera.from_fov(60, size), header)


def set_parameter(peer: Peer, name: str, value: Any) -> Any:
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    return peer.call(SetParameters, "/pose_node/set_parameters", request, may_repeat=True).results[0]


def actions(array: Any) -> set[tuple[str, int, int]]:
    return {(marker.ns, marker.id, marker.action) for marker in array.markers}


def shown(*track_ids: int, action: int = Marker.ADD) -> set[tuple[str, int, int]]:
    return {(namespace, track_id, action) for track_id in track_ids for namespace in ("joints", "bones", "ids")}
