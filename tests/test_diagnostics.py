"""/diagnostics: what is judged of the counts, and that it comes once a second."""

from __future__ import annotations

from dataclasses import replace

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ros_outputs_peer import outputs_node
from ros_support import free_domain

from metrabs_ros.diagnostics import ERROR, OK, PATIENCE_S, WARN, CameraJudge, CameraStatus, NodeStatus, engine_to_msg

pytestmark = pytest.mark.ros

GOOD = CameraStatus(
    images=30,
    done=29,
    dropped=1,
    latency_s=0.04,
    stage_s={"detect": 0.01, "infer": 0.025},
    last_stamp_s=12.5,
    people=2,
    state="640x480, plumb_bob",
)


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def judged(*looks: CameraStatus, is_active: bool = True, period_s: float = 1.0) -> DiagnosticStatus:
    """The last of looks that are ``period_s`` apart."""
    judge = CameraJudge(0.0)
    for index, look in enumerate(looks, 1):
        message = judge.to_msg(look, is_active, "pose_node", index * period_s)
    return message


def later(before: CameraStatus, **more: int) -> CameraStatus:
    return replace(before, **{name: getattr(before, name) + count for name, count in more.items()})


def test_a_camera_that_does_well_is_ok_with_its_rates_and_times() -> None:
    message = judged(GOOD, later(GOOD, images=31, done=30, dropped=1), period_s=2.0)
    assert (message.level, message.name, message.message) == (OK, "pose_node: camera", "2 people.")
    assert values(message) == {
        "image rate (Hz)": "15.5",
        "rate (Hz)": "15.0",
        "latency (ms)": "40.0",
        "detect (ms)": "10.0",
        "infer (ms)": "25.0",
        "frames": "59",
        "frames dropped": "2",
        "frames failed": "0",
        "frames unmatched": "0",
        "last stamp (s)": "12.500000",
        "people": "2",
        "camera": "640x480, plumb_bob",
    }
    named = judged(replace(GOOD, name="front"))
    assert (named.name, named.hardware_id) == ("pose_node: camera front", "front")


def test_no_images_are_a_warning_after_some_patience() -> None:
    assert judged(CameraStatus(), CameraStatus()).level == OK
    looks = [GOOD] * int(PATIENCE_S + 2)
    message = judged(*looks)
    assert message.level == WARN
    assert message.message.startswith(f"No images for {PATIENCE_S + 1:.0f} s")
    assert judged(*looks, later(GOOD, images=1, done=1)).level == OK
    assert judged(*looks, is_active=False).level == OK


def test_frames_that_are_mostly_dropped_or_useless_are_a_warning() -> None:
    message = judged(GOOD, later(GOOD, images=30, done=10, dropped=20))
    assert message.level == WARN
    assert message.message.startswith("20 of the last 30 frames were passed over")
    assert judged(GOOD, later(GOOD, images=30, done=16, dropped=14)).level == OK
    message = judged(GOOD, later(GOOD, images=30, done=1, failed=29))
    assert message.level == WARN
    assert message.message.startswith("29 of the last 30 frames could not be used")


def test_the_nodes_own_trouble_is_a_warning() -> None:
    lacking = "Images arrive on /image, but no camera_info."
    message = judged(replace(GOOD, trouble=lacking))
    assert (message.level, message.message) == (WARN, lacking)


def test_counts_that_begin_anew_are_no_negative_rates() -> None:
    message = judged(GOOD, CameraStatus(images=5, done=5, last_stamp_s=1.0))
    assert (message.level, values(message)["rate (Hz)"]) == (OK, "5.0")


def test_a_failed_engine_is_an_error() -> None:
    running = NodeStatus("active", "blazepose_full", "openvino", "CPU", calls=(9, 7), cameras=(GOOD, GOOD))
    message = engine_to_msg(running, "pose_node")
    assert (message.level, message.message, message.name) == (OK, "Active.", "pose_node: engine")
    assert values(message) == {
        "lifecycle": "active",
        "engine": "blazepose_full",
        "backend": "openvino",
        "device": "CPU",
        "people": "4",
        "batches": "9",
        "batches of several cameras": "7",
    }
    assert "batches" not in values(engine_to_msg(replace(running, cameras=(GOOD,)), "pose_node"))
    message = engine_to_msg(replace(running, failure="The engine ran out of memory."), "pose_node")
    assert (message.level, message.message) == (ERROR, "The engine ran out of memory.")


def test_it_comes_once_a_second_for_the_engine_and_each_camera() -> None:
    with free_domain() as domain, outputs_node(domain) as node:
        heard = node.peer.listen(DiagnosticArray, "/diagnostics")
        cameras = [{"name": "front", "images": 1, "people": 3}, {"name": "left", "trouble": "No camera_info."}]
        node.ask(status={"lifecycle": "active", "failure": "The engine failed.", "cameras": cameras})

        def levels() -> dict[str, bytes]:
            return {status.name: status.level for status in heard[-1][1].status}

        expected = {"pose_node: engine": ERROR, "pose_node: camera front": OK, "pose_node: camera left": WARN}
        node.peer.wait_until(lambda: heard and levels() == expected, "the node's status")
        count = len(heard)
        node.peer.wait_until(lambda: len(heard) >= count + 3, "more of it")
        stamps = [message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec for _, message in heard[count:]]
        assert 0.8 < (stamps[-1] - stamps[0]) / (len(stamps) - 1) < 1.3, stamps
        node.peer.wait_until(lambda: levels()["pose_node: camera front"] == WARN, "a warning of no images")
