"""What pose_node adds to a frame by publishing it: `python -m demo.publishing` with 1, 2, 4, 8 and 16 people.

Another process subscribes to markers and /tf, as RViz does; REP-155's bodies and links go out as they do by default.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import rclpy
import typer
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rich.console import Console
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from demo.clip import FOV_DEG, clip_path
from demo.processes import ChildError, Children, ros_environment
from demo.spinning import spinning
from metrabs_ros import cli
from metrabs_ros.camera import Camera
from metrabs_ros.frame_result import FrameResult
from metrabs_ros.frames import open_frames
from metrabs_ros.params import NodeParams
from metrabs_ros.pipeline import DEFAULT_ENGINE, PosePipeline
from metrabs_ros.pose import TrackedPose
from metrabs_ros.publishers import PosePublishers
from metrabs_ros.spinning import spin

# Of the clip: both people are seen in it.
_FRAME = 80
_PEOPLE = (1, 2, 4, 8, 16)
# Left out: messages are made anew, and bodies measured.
_FIRST_ROUNDS = 15
_PERIOD_S = 0.03
_START_S = 20.0

app = cli.new_app(__doc__)
console = Console(highlight=False, soft_wrap=True)


@app.command(no_args_is_help=False)
def publishing(
    rounds: Annotated[int, typer.Option(help="Frames published of each number of people.", min=1)] = 60,
    engine: Annotated[str, typer.Option(help="Engine by name or spec file.")] = DEFAULT_ENGINE,
) -> None:
    """Time the publishing of people who were found in the demo's clip."""
    result = _seen(engine)
    with tempfile.TemporaryDirectory(prefix="metrabs_ros-publishing-") as logs:
        environment = ros_environment(Path(logs))
        # For this process, too, before it makes a participant.
        os.environ.update(environment)
        try:
            rclpy.init()
            node = rclpy.create_node("pose_node")
            with Children(environment, Path(logs)) as children, spinning(node):
                children.start("listener", ["demo.publishing", "listen"])
                outputs = PosePublishers(node)
                _await_listener(node, children)
                for count in _PEOPLE:
                    seconds = _published(outputs, node, _of_people(result, count), _FIRST_ROUNDS + rounds)
                    median, p90 = 1e3 * np.percentile(seconds[_FIRST_ROUNDS:], [50, 90])
                    console.print(f"{count:3d} people: median {median:6.2f} ms, 90th percentile {p90:6.2f} ms")
        except ChildError as error:
            console.print(f"publishing: {error}", style="red", markup=False)
            raise typer.Exit(1) from None


def _seen(engine: str) -> FrameResult:
    """The people in a frame of the clip."""
    pipeline = PosePipeline.from_engine(engine)
    with open_frames(clip_path()) as frames:
        image = next(itertools.islice(frames, _FRAME, None)).image_rgb
    camera = Camera.from_fov(FOV_DEG, (image.shape[1], image.shape[0]))
    poses = tuple(TrackedPose(**vars(pose), track_id=0) for pose in pipeline.estimate(image, camera))
    pipeline.close()
    return FrameResult(Header(frame_id="camera"), image, camera, pipeline.skeleton, poses, Header(frame_id="camera"))


def _of_people(result: FrameResult, count: int) -> FrameResult:
    """``count`` people, those who were seen in turn."""
    poses = itertools.islice(itertools.cycle(result.poses), count)
    return replace(result, poses=tuple(replace(pose, track_id=i + 1) for i, pose in enumerate(poses)))


def _published(outputs: PosePublishers, node: Node, result: FrameResult, rounds: int) -> list[float]:
    """Seconds of each round."""
    params, taken = NodeParams(), []
    for _ in range(rounds):
        header = Header(stamp=node.get_clock().now().to_msg(), frame_id="camera")
        stamped = replace(result, image_header=header, header=header)
        start = time.perf_counter()
        outputs.publish(stamped, params)
        taken.append(time.perf_counter() - start)
        time.sleep(_PERIOD_S)
    return taken


def _await_listener(node: Node, children: Children) -> None:
    deadline = time.monotonic() + _START_S
    while min(node.count_subscribers(topic) for topic in ("/pose_node/markers", "/tf")) == 0:
        if not children.is_running("listener") or time.monotonic() > deadline:
            raise children.failure("listener", "did not subscribe")
        time.sleep(0.05)


def listen() -> None:
    """Subscribes to what RViz shows, until SIGTERM."""
    rclpy.init()
    node = rclpy.create_node("listener")
    for kind, topic in ((MarkerArray, "/pose_node/markers"), (TFMessage, "/tf")):
        node.create_subscription(kind, topic, lambda message: None, QoSProfile(depth=100))
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        spin(node, executor)


def main(arguments: Sequence[str] = tuple(sys.argv[1:])) -> None:
    if list(arguments) == ["listen"]:
        listen()
    else:
        cli.run(app, "publishing")


if __name__ == "__main__":
    main()
