"""ros_outputs_node.py in its own process, and the peer that asks it for frames and listens."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_support import PATIENCE_S, RESEND_S, NodeProcess, Peer
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

_NODE = Path(__file__).with_name("ros_outputs_node.py")


class OutputsNode:
    """``process`` publishes a frame for each that is asked for; ``peer`` hears what comes."""

    def __init__(self, process: NodeProcess, peer: Peer) -> None:
        self.process = process
        self.peer = peer
        self._frames = peer.node.create_publisher(String, "frames", 50)
        self._asked = 0
        peer.wait_until(lambda: self._frames.get_subscription_count(), "the node")

    def ask(self, **what: Any) -> None:
        self._asked += "people" in what
        self._frames.publish(String(data=json.dumps(what)))

    def send(self, condition: Callable[[], Any], what: str, **frame: Any) -> None:
        """Asks for the same frame until ``condition``: a publisher does not know of a new subscriber at once."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"Asked for a frame for {PATIENCE_S:g} s in vain for {what}."
            self.ask(**frame)
            with contextlib.suppress(AssertionError):
                self.peer.wait_until(condition, what, RESEND_S)
        assert self.process.count(r"frame done: (?!None)") == 0, self.process.output

    def settled(self) -> None:
        """Until every frame asked for has been published."""
        self.process.wait_for("frame done: None", count=self._asked)

    def parameters(self) -> set[str]:
        """The names of the descriptions that the node has now."""
        request = ListParameters.Request()
        names = self.peer.call(ListParameters, "/pose_node/list_parameters", request, may_repeat=True).result.names
        return {name for name in names if name.startswith("human_description_")}

    def description(self, name: str) -> str:
        request = GetParameters.Request(names=[name])
        answer = self.peer.call(GetParameters, "/pose_node/get_parameters", request, may_repeat=True)
        return answer.values[0].string_value


def transforms_of(heard: list[tuple[float, Any]]) -> dict[str, TransformStamped]:
    """The last transform of each frame in TFMessages heard."""
    return {transform.child_frame_id: transform for _, message in heard for transform in message.transforms}


@contextlib.contextmanager
def outputs_node(domain: int, *args: str, hidden: str = "") -> Iterator[OutputsNode]:
    environment = {"HIDDEN_PACKAGES": hidden}
    with NodeProcess(domain, str(_NODE), "--ros-args", *args, env=environment) as process, Peer(domain) as peer:
        yield OutputsNode(process, peer)


def latched() -> QoSProfile:
    return QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def cloud_points(cloud: PointCloud2) -> np.ndarray:
    """[height,width] structured array, read by what the message says of its fields."""
    kinds = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
    order = ">" if cloud.is_bigendian else "<"
    layout = np.dtype(
        {
            "names": [field.name for field in cloud.fields],
            "formats": [order + kinds[field.datatype] for field in cloud.fields],
            "offsets": [field.offset for field in cloud.fields],
            "itemsize": cloud.point_step,
        }
    )
    assert cloud.row_step == cloud.width * cloud.point_step
    return np.frombuffer(cloud.data, layout).reshape(cloud.height, cloud.width)
