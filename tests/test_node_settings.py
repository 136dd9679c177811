"""What pose_node is told while it runs, parameters, QoS, services, states, and what it tells of itself. Real DDS."""

from __future__ import annotations

import time
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from pose_node_for_tests import actions, fake_node, frame, set_parameter, shown
from rclpy.qos import ReliabilityPolicy
from ros_fake_node import BROKEN, FAULT
from ros_support import Peer, PosePeer
from sensor_msgs.msg import CameraInfo, Image

pytestmark = pytest.mark.ros


# --- parameters -------------------------------------------------------------------------------------------------------


def test_settings_change_between_frames_and_the_others_say_why_not(domain: int) -> None:
    with fake_node(domain, "-p", "tracking.forget_s:=4", "-p", "num_aug:=2") as node, PosePeer(domain) as peer:
        peer.wait_for_subscribers()
        peer.answer(*frame(1))
        node.wait_for(
            r"num_aug 2, min_score 0\.0, same_pose 0\.4, forget_s 4\.0, smoothing none, up \[0\.0, -1\.0, 0\.0\]"
        )
        for name, value in {
            "num_aug": 5,
            "min_score": 0.4,
            "plausibility.same_pose": 0.5,
            "tracking.forget_s": 7.5,
            "smoothing.method": "kalman",
            "up": [0.0, 0.0, -2.0],
        }.items():
            result = set_parameter(peer, name, value)
            assert result.successful, result.reason
        peer.answer(*frame(1))
        node.wait_for(
            r"num_aug 5, min_score 0\.4, same_pose 0\.5, forget_s 7\.5, smoothing kalman, up \[0\.0, 0\.0, -1\.0\]"
        )

        for name, value in {
            "num_aug": 33,
            "tracking.forget_s": -1.0,
            "smoothing.method": "median",
            "tracking.confirm_frames": 2.5,
            "up": [0.0, 0.0, 0.0],
            "convention": "coco_17",
            "person_height": 1.8,
            "detector": "topic",
            "fov_deg": 50.0,
            "cameras": ["front"],
            "autostart": False,
        }.items():
            result = set_parameter(peer, name, value)
            assert not result.successful, name
            assert result.reason, name


def test_what_is_wrong_in_nested_parameters_is_said_at_the_start(domain: int) -> None:
    arguments = ("-p", "tracking.forgt_s:=4.0", "-p", "smoothing.method:=median", "-p", "num_aug:=0")
    with fake_node(domain, *arguments) as node:
        node.wait_for("Cannot configure")
        assert "unknown key 'forgt_s': did you mean 'forget_s'" in node.output
        assert "'median'" in node.output
        assert "num_aug must lie between 1 and 32, got 0" in node.output


def test_qos_is_overridden_for_one_topic_and_no_other(domain: int) -> None:
    arguments = (
        "-p", "qos_overrides./image.subscription.reliability:=reliable",
        "-p", "qos_overrides./pose_node/markers.publisher.reliability:=best_effort",
    )  # fmt: skip
    with fake_node(domain, *arguments), PosePeer(domain) as peer:
        peer.wait_for_subscribers()
        assert reliabilities(peer, "/image") == [ReliabilityPolicy.RELIABLE]
        assert reliabilities(peer, "/camera_info") == [ReliabilityPolicy.BEST_EFFORT]
        assert reliabilities(peer, "/pose_node/markers", "publishers") == [ReliabilityPolicy.BEST_EFFORT]
        assert reliabilities(peer, "/pose_node/people", "publishers") == [ReliabilityPolicy.RELIABLE]
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
            assert peer.change_state(transition)
        peer.wait_for_subscribers()
        assert reliabilities(peer, "/image") == [ReliabilityPolicy.RELIABLE]


def test_qos_of_topics_that_all_nodes_share_is_overridden_too(domain: int) -> None:
    """With two cameras there are two publishers of /tf: what is given holds for both."""
    shared = ("tf", "diagnostics", "humans/bodies/tracked")
    given = [f"qos_overrides./{topic}.publisher.reliability:=best_effort" for topic in shared]
    given += ["qos_overrides./tf.subscription.reliability:=best_effort", "target_frame:=map", "cameras:=[front, left]"]
    with fake_node(domain, *(part for each in given for part in ("-p", each))) as node, PosePeer(domain) as peer:
        node.wait_for("Waiting for images on /left/image")
        for topic, publishers in zip(shared, (2, 1, 1), strict=True):
            expected = [ReliabilityPolicy.BEST_EFFORT] * publishers
            assert reliabilities(peer, f"/{topic}", "publishers", publishers) == expected, topic
        images = peer.node.create_publisher(Image, "front/image", 5)
        infos = peer.node.create_publisher(CameraInfo, "front/camera_info", 5)

        def send() -> bool:
            image, info = frame(1)
            infos.publish(info)
            images.publish(image)
            return bool(peer.node.get_subscriptions_info_by_topic("/tf_static"))

        # It listens to TF once an image needs it.
        peer.wait_until(send, "the subscription of /tf_static")
        assert reliabilities(peer, "/tf") == [ReliabilityPolicy.BEST_EFFORT]
        assert reliabilities(peer, "/tf_static") == [ReliabilityPolicy.RELIABLE]


def reliabilities(peer: Peer, topic: str, of: str = "subscriptions", count: int = 1) -> list[ReliabilityPolicy]:
    """Of pose_node's ``of`` (publishers or subscriptions) of a topic, once there are ``count``."""
    about = getattr(peer.node, f"get_{of}_info_by_topic")

    def known() -> list[Any]:
        return [info for info in about(topic) if info.node_name == "pose_node"]

    peer.wait_until(lambda: len(known()) >= count, f"{count} {of} of {topic} by pose_node")
    return [info.qos_profile.reliability for info in known()]


# --- services, lifecycle, diagnostics ---------------------------------------------------------------------------------


def test_reset_forgets_everybody_and_says_whom(domain: int) -> None:
    from std_srvs.srv import Trigger

    with fake_node(domain, "-p", "autostart:=false") as node, PosePeer(domain) as peer:
        peer._client(Trigger, "/pose_node/reset")

        def reset() -> Any:
            return peer.call(Trigger, "/pose_node/reset", Trigger.Request(), may_repeat=True)

        answer = reset()
        assert not answer.success
        assert "unconfigured and follows nobody" in answer.message
        assert peer.change_state(Transition.TRANSITION_CONFIGURE)
        assert peer.change_state(Transition.TRANSITION_ACTIVATE)
        peer.wait_for_subscribers()
        peer.answer(*frame(2))
        resets = node.count("fake: reset")
        answer = reset()
        assert answer.success
        assert "Forgot 2 people" in answer.message
        peer.wait_until(lambda: any(actions(array) == {("", 0, 3)} for _, array in peer.markers), "the deletion of all")
        peer.answer(*frame(1))
        node.wait_for("fake: reset", count=resets + 1)


def test_deactivation_takes_less_than_a_tenth_of_a_second_whatever_the_engine_does(domain: int) -> None:
    with fake_node(domain, delay_s=1.5) as node, PosePeer(domain) as peer:
        peer.wait_for_subscribers()
        taken = []
        for round_ in range(3):
            peer.send_until(lambda count=round_: node.count("fake: working on") > count, *frame(1), "the engine")
            done = node.count("fake: done")
            asked = time.monotonic()
            assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
            taken.append(time.monotonic() - asked)
            assert node.count("fake: done") == done, "the engine is still at work, or this test shows nothing"
            node.wait_for("fake: done", count=round_ + 1)
            assert peer.change_state(Transition.TRANSITION_ACTIVATE)
            peer.wait_for_subscribers()
        # The answer's own way over DDS on a busy machine counts, too: hence the best of three.
        assert min(taken) < 0.1, taken


def test_a_fault_in_configuring_is_logged_and_handled_and_the_node_can_be_used_afterwards(domain: int) -> None:
    with fake_node(domain, "-p", f"engine:={BROKEN}") as node, PosePeer(domain) as peer:
        node.wait_for("Cannot configure, this is a fault in the node: .*")
        node.wait_for("RuntimeError: a fault of the fake engine")
        assert peer.state() == "unconfigured", "on_error recovers"
        assert set_parameter(peer, "engine", "fake").successful
        assert peer.change_state(Transition.TRANSITION_CONFIGURE)
        assert peer.change_state(Transition.TRANSITION_ACTIVATE)
        peer.wait_for_subscribers()
        assert actions(peer.answer(*frame(1))) == shown(1)


def diagnosis(heard: list[tuple[float, DiagnosticArray]], part: str) -> dict[str, str]:
    if not heard:
        return {}
    status = next((s for s in heard[-1][1].status if part in s.name), None)
    return {} if status is None else {**{p.key: p.value for p in status.values}, "message": status.message}


def test_diagnostics_tell_of_engine_camera_and_trouble(domain: int) -> None:
    with fake_node(domain) as node, PosePeer(domain) as peer:
        heard = peer.listen(DiagnosticArray, "/diagnostics")
        peer.wait_for_subscribers()
        peer.answer(*frame(2))
        peer.wait_until(lambda: diagnosis(heard, "camera").get("frames", "0") != "0", "a frame in /diagnostics")
        camera, engine = diagnosis(heard, "camera"), diagnosis(heard, "engine")
        assert camera["people"] == "2"
        assert "64x48" in camera["camera"]
        assert {"decode (ms)", "poses (ms)", "publish (ms)"} <= set(camera)
        assert (engine["lifecycle"], engine["engine"], engine["backend"]) == ("active", "fake", "fake")
        peer.send_until(lambda: node.count("a fault of the fake pipeline"), *frame(FAULT), "the fault")
        peer.wait_until(lambda: "RuntimeError" in diagnosis(heard, "engine")["message"], "the fault in /diagnostics")
        assert diagnosis(heard, "camera")["frames failed"] != "0"
        peer.answer(*frame(1))
        peer.wait_until(lambda: "Active" in diagnosis(heard, "engine")["message"], "the end of the fault")
        assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
        peer.wait_until(lambda: diagnosis(heard, "engine")["lifecycle"] == "inactive", "the state in /diagnostics")


def test_nobody_is_looked_for_while_nobody_listens(domain: int) -> None:
    arguments = ("-p", "publish_tf:=false", "-p", "publish_hri:=false")
    with fake_node(domain, *arguments, delay_s=0.01) as node, PosePeer(domain) as peer:
        heard = peer.listen(DiagnosticArray, "/diagnostics")
        peer.wait_for_subscribers()
        peer.answer(*frame(1))
        assert set_parameter(peer, "publish_markers", False).successful
        worked, images = node.count("fake: working"), int(diagnosis(heard, "camera").get("frames", "0"))

        def seen() -> bool:
            return float(diagnosis(heard, "camera").get("image rate (Hz)") or 0) > 0 and len(heard) > images

        before = len(heard)
        peer.send_until(lambda: len(heard) > before + 1 and seen(), *frame(1), "images in /diagnostics")
        assert node.count("fake: working") == worked
