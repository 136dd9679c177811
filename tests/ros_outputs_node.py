"""The real PosePublishers in a process of their own: a frame for each message of `frames`, JSON in a std_msgs/String.

{"people": [track ids], "t": s (stamp and movement), "camera": "" or a name}; {"delete": true} deletes all.
The packages in the environment variable HIDDEN_PACKAGES cannot be imported, as if they were not installed.
Frames are published in a thread that is not the executor's, as pose_node's worker does.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import rclpy
from bodies_for_tests import CAMERA, SKELETON, tracked
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from ros_support import header_at
from std_msgs.msg import String

from metrabs_ros.diagnostics import CameraStatus, NodeDiagnostics, NodeStatus
from metrabs_ros.frame_result import FrameResult
from metrabs_ros.parameter_set import ParameterSet
from metrabs_ros.params import NodeParams
from metrabs_ros.publishers import PosePublishers
from metrabs_ros.spinning import spin

RCLError = rclpy_implementation.RCLError
IMAGE = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
# The published frame of camera "turned": 90 degrees about its optical axis, and 1 m aside.
R_OUT_CAM = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
T_OUT_CAM = np.array([1.0, 0.0, 0.0])
CAMERAS = ("", "turned")


def result_of(people: list[int], t: float, camera: str = "") -> FrameResult:
    poses = tuple(tracked(track_id, t) for track_id in people)
    image_header = header_at(t, f"{camera}_optical_frame")
    if not camera:
        return FrameResult(image_header, IMAGE, CAMERA, SKELETON, poses, image_header)
    header = header_at(t, "map")
    up = tuple(R_OUT_CAM @ [0.0, -1.0, 0.0])
    return FrameResult(image_header, IMAGE, CAMERA, SKELETON, poses, header, R_OUT_CAM, T_OUT_CAM, up)


def main() -> int:
    for name in os.environ.get("HIDDEN_PACKAGES", "").split():
        sys.modules[name] = None  # type: ignore[assignment]
    rclpy.init(args=sys.argv)
    node = rclpy.create_node("pose_node")
    settings = ParameterSet(node, NodeParams)
    hri = settings.record().publish_hri
    outputs = {name: PosePublishers(node, f"~/{name}/" if name else "~/", hri) for name in CAMERAS}
    status = NodeStatus()
    NodeDiagnostics(node, lambda: status)
    worker = ThreadPoolExecutor(1)

    def take(message: String) -> None:
        nonlocal status
        asked = json.loads(message.data)
        camera = outputs[asked.get("camera", "")]
        if "status" in asked:
            cameras = tuple(CameraStatus(**one) for one in asked["status"].pop("cameras", []))
            status = NodeStatus(**asked["status"], cameras=cameras)
        elif "delete" in asked:
            camera.delete_all()
        elif "destroy" in asked:
            while outputs:
                outputs.popitem()[1].destroy()
        else:
            print(f"wants image {camera.wants_image}, anything {camera.wants_anything}", flush=True)
            done = worker.submit(camera.publish, result_of(**asked), settings.record())
            done.add_done_callback(lambda future: print(f"frame done: {future.exception()}", flush=True))

    node.create_subscription(String, "frames", take, 50)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while node.context.ok():
            # As pose_node does: a signal may end the context in the middle of a wait.
            with contextlib.suppress(RCLError):
                spin(node, executor)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        worker.shutdown()
        for each in outputs.values():
            each.destroy()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
