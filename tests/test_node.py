"""PoseNode over real DDS, each time in a process of its own."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from pose_node_for_tests import actions, fake_node, frame, real_node, set_parameter, shown
from ros_fake_node import FAULT, SlowFakePipeline
from ros_support import PosePeer, header_at, header_now
from sensor_msgs.msg import CameraInfo, Image
from visualization_msgs.msg import Marker

from metrabs_ros.camera import Camera
from metrabs_ros.messages import camera_to_msg, image_to_msg

pytestmark = pytest.mark.ros


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_an_image_becomes_markers_and_frames_under_its_own_header(domain: int) -> None:
    with fake_node(domain, "-p", "tf_prefix:=front_") as node, PosePeer(domain) as peer:
        peer.wait_for_subscribers()
        header = header_at(1234.5, "front_camera_optical_frame")
        markers = peer.answer(*frame(2, header))

        assert actions(markers) == shown(1, 2)
        assert all(marker.header == header for marker in markers.markers)
        joints = next(marker for marker in markers.markers if marker.ns == "joints" and marker.id == 2)
        expected = SlowFakePipeline.joints + [1.0, 0.0, 0.0]
        np.testing.assert_allclose([(p.x, p.y, p.z) for p in joints.points], expected)

        peer.wait_until(lambda: peer.transforms, "transforms")
        transforms = peer.transforms[0][1].transforms
        names = [f"front_person_{i}/{name}" for i in (1, 2) for name in SlowFakePipeline.skeleton.joint_names]
        assert [transform.child_frame_id for transform in transforms] == names
        assert all(transform.header == header for transform in transforms)
        translations = [(t.transform.translation.x, t.transform.translation.z) for t in transforms]
        np.testing.assert_allclose(translations[4:], expected[:, ::2])
        assert node.interrupted(signal.SIGTERM) == 0


def test_who_leaves_is_deleted_and_deactivation_deletes_all(domain: int) -> None:
    with fake_node(domain), PosePeer(domain) as peer:
        peer.wait_for_subscribers()
        assert actions(peer.answer(*frame(2))) == shown(1, 2)
        assert actions(peer.answer(*frame(1))) == shown(1) | shown(2, action=Marker.DELETE)
        assert actions(peer.answer(*frame(1))) == shown(1), "deleted once, not again"
        assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
        peer.wait_until(lambda: actions(peer.markers[-1][1]) == {("", 0, Marker.DELETEALL)}, "the deletion of all")


def test_parameters_of_publishing_can_change_while_it_runs(domain: int) -> None:
    with fake_node(domain), PosePeer(domain) as peer:
        peer.wait_for_subscribers()
        peer.answer(*frame(1))
        assert set_parameter(peer, "marker_scale", 2).successful, "an integer is a number, too"
        markers = peer.answer(*frame(1))
        joints = next(marker for marker in markers.markers if marker.ns == "joints")
        assert joints.scale.x == pytest.approx(0.1)

        refused = set_parameter(peer, "marker_scale", -1.0)
        assert not refused.successful
        refused = set_parameter(peer, "camera_info_match", "sometimes")
        assert not refused.successful
        refused = set_parameter(peer, "engine", "another")
        assert not refused.successful
        assert "unconfigured" in refused.reason

        assert set_parameter(peer, "publish_markers", False).successful
        before = len(peer.markers)
        peer.send(*frame(1))
        peer.wait_until(lambda: len(peer.markers) > before, "the markers' deletion")
        assert actions(peer.markers[-1][1]) == {("", 0, Marker.DELETEALL)}


# --- pairing ----------------------------------------------------------------------------------------------------------


def test_camera_info_may_come_before_or_after_its_image(domain: int) -> None:
    with fake_node(domain), PosePeer(domain) as peer:
        peer.wait_for_subscribers()
        peer.answer(*frame(1))
        (image_a, info_a), (image_b, info_b) = frame(1, header_at(2e9)), frame(1, header_at(2e9 + 0.1))
        peer.infos.publish(info_a)
        peer.infos.publish(info_b)
        peer.images.publish(image_a)
        peer.wait_until(
            lambda: peer.marker_arrays_of(image_a.header.stamp), "markers of an image after its camera_info"
        )
        peer.images.publish(image_b)
        peer.wait_until(lambda: peer.marker_arrays_of(image_b.header.stamp), "markers of the second")
        image_c, info_c = frame(1, header_at(2e9 + 0.2))
        peer.images.publish(image_c)
        peer.infos.publish(info_c)
        peer.wait_until(
            lambda: peer.marker_arrays_of(image_c.header.stamp), "markers of an image before its camera_info"
        )


def test_images_without_camera_info_are_warned_of_with_what_to_do(domain: int) -> None:
    with fake_node(domain) as node, PosePeer(domain) as peer:
        peer.wait_for_subscribers()
        stop = threading.Event()

        def publish(with_info: threading.Event) -> None:
            while not stop.wait(0.05):
                image, info = frame(1)
                info.header = header_at(1.0)
                if with_info.is_set():
                    peer.infos.publish(info)
                peer.images.publish(image)

        with_info = threading.Event()
        publisher = threading.Thread(target=publish, args=(with_info,))
        publisher.start()
        try:
            node.wait_for("Images arrive on /image, but no camera_info at all: .*set fov_deg")
            with_info.set()
            node.wait_for("no camera_info with their stamps: set camera_info_match to latest")
        finally:
            stop.set()
            publisher.join()
        assert not peer.markers


def test_the_latest_camera_info_serves_where_that_is_asked_for(domain: int) -> None:
    with fake_node(domain, "-p", "camera_info_match:=latest"), PosePeer(domain) as peer:
        peer.wait_for_subscribers()
        image, info = frame(1)
        info.header = header_at(1.0)
        assert actions(peer.answer(image, info)) == shown(1)


def test_a_field_of_view_replaces_camera_info(domain: int) -> None:
    with fake_node(domain, "-p", "fov_deg:=60") as node, PosePeer(domain) as peer:
        peer.wait_for_subscribers(with_info=False)
        image, _ = frame(1)
        assert actions(peer.answer(image, CameraInfo())) == shown(1)
        assert peer.infos.get_subscription_count() == 0
        node.wait_for("with a field of view of 60 degrees")


# --- time -------------------------------------------------------------------------------------------------------------


def test_under_overload_the_newest_frame_is_worked_on_and_memory_is_bounded(domain: int) -> None:
    delay_s, rate, seconds, vga = 0.15, 60.0, 3.0, (640, 480)
    with fake_node(domain, delay_s=delay_s) as node, PosePeer(domain) as peer:
        peer.wait_for_subscribers()
        peer.answer(*frame(1, size=vga))
        rss_before, first = node.rss_mb, len(peer.markers)
        sent: list[float] = []
        start, pause = time.time(), threading.Event()
        for index in range(int(rate * seconds)):
            pause.wait(max(0.0, start + index / rate - time.time()))
            image, info = frame(1, size=vga)
            peer.send(image, info)
            sent.append(image.header.stamp.sec + 1e-9 * image.header.stamp.nanosec)
        rss_after = node.rss_mb
        peer.wait_until(lambda: peer.markers[-1][0] - start > seconds, "markers up to the end")
        heard = [(at, array.markers[0].header.stamp) for at, array in peer.markers[first:]]

    stamps = [stamp.sec + 1e-9 * stamp.nanosec for _, stamp in heard]
    latencies = np.array([at for at, _ in heard]) - stamps
    # Work on a frame begins right after the one before is done, so a newer frame, if there was one, had come by then.
    skipped = [
        sum(stamp < other < at - delay_s for other in sent) for stamp, (at, _) in zip(stamps, heard, strict=True)
    ]
    shown_text = f"{len(heard)} of {len(sent)} frames, latencies {np.round(latencies, 3)}, newer ones waiting {skipped}"
    assert 0.5 * seconds / delay_s <= len(heard) <= seconds / delay_s + 2, shown_text
    assert stamps == sorted(set(stamps)), shown_text
    assert np.median(latencies) < delay_s + 0.06, shown_text
    assert latencies.max() < 3 * delay_s, shown_text
    assert np.median(skipped) <= 1, shown_text
    # A queue would have grown by what was not worked on: some 160 frames of 0.9 MB.
    assert rss_after - rss_before < 30, (rss_before, rss_after)


def test_memory_is_given_back_when_the_frame_in_work_at_deactivation_is_done(domain: int) -> None:
    with fake_node(domain, delay_s=0.5) as node, PosePeer(domain) as peer:
        peer.wait_for_subscribers()
        peer.send_until(lambda: node.count("fake: working on"), *frame(1), "the engine's beginning")
        assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
        assert node.count("fake: done") == 0, "the engine is still at work, or this test shows nothing"
        node.wait_for("fake: memory released")
        assert node.count("fake: done") == 1


def test_nothing_of_a_frame_in_work_is_published_after_deactivation(domain: int) -> None:
    with fake_node(domain, delay_s=0.5) as node, PosePeer(domain) as peer:
        peer.wait_for_subscribers()
        late, late_info = frame(1)
        peer.send_until(lambda: node.count("fake: working on"), late, late_info, "the engine's beginning")
        asked = time.monotonic()
        assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
        assert time.monotonic() - asked < 0.5, "deactivation must not wait for the engine"
        assert node.count("fake: done") == 0, "the engine is still at work, or this test shows nothing"
        assert node.count("fake: memory released") == 0, "of a pipeline at work"
        assert peer.change_state(Transition.TRANSITION_ACTIVATE)
        peer.wait_for_subscribers()
        image, info = frame(1)
        peer.answer(image, info)
        # Markers come reliably and in order: what the first frame gave would stand between these two.
        kept = [array for _, array in peer.markers]
        assert actions(kept[0]) == {("", 0, Marker.DELETEALL)}
        assert kept[1].markers[0].header.stamp == image.header.stamp
        assert not peer.marker_arrays_of(late.header.stamp)


def test_time_that_goes_back_begins_new_tracks_with_a_warning(domain: int) -> None:
    with fake_node(domain) as node, PosePeer(domain) as peer:
        peer.wait_for_subscribers()
        peer.answer(*frame(1, header_at(100.0)))
        node.wait_for("fake: reset")
        assert node.count("fake: reset") == 1, "activation begins anew, once"
        peer.answer(*frame(1, header_at(101.0)))
        assert node.count("fake: reset") == 1
        peer.answer(*frame(1, header_at(50.0)))
        node.wait_for(r"stamps went back by 51\.000 s")
        node.wait_for("fake: reset", count=2)


# --- lifecycle --------------------------------------------------------------------------------------------------------


def test_the_lifecycle_with_and_without_possible_transitions(domain: int) -> None:
    with fake_node(domain, "-p", "autostart:=false") as node, PosePeer(domain) as peer:
        assert peer.state() == "unconfigured"
        assert not peer.change_state(99), "no such transition"
        assert not peer.change_state(Transition.TRANSITION_ACTIVATE), "not configured yet"
        node.wait_for("is not possible now", count=2)
        assert peer.state() == "unconfigured"

        assert peer.change_state(Transition.TRANSITION_CONFIGURE)
        assert peer.state() == "inactive"
        node.wait_for("fake: warm")
        assert peer.images.get_subscription_count() == 0

        for _ in range(2):
            assert peer.change_state(Transition.TRANSITION_ACTIVATE)
            assert peer.state() == "active"
            peer.wait_for_subscribers()
            assert actions(peer.answer(*frame(1))) == shown(1)
            assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
            peer.wait_until(lambda: peer.images.get_subscription_count() == 0, "the end of the subscription")
        node.wait_for("fake: memory released", count=2)
        assert node.count("fake: warm") == 3, "when configured, and each time it is activated"

        assert peer.change_state(Transition.TRANSITION_CLEANUP)
        node.wait_for("fake: closed")
        assert peer.state() == "unconfigured"
        assert peer.change_state(Transition.TRANSITION_CONFIGURE)
        assert peer.change_state(Transition.TRANSITION_ACTIVATE)
        assert peer.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
        node.wait_for("fake: closed", count=2)
        assert peer.state() == "finalized"
        assert node.interrupted() == 0


def test_what_cannot_be_configured_is_said_and_can_be_repaired(domain: int) -> None:
    with real_node(domain, "-p", "engine:=blazepose_ful") as node, PosePeer(domain) as peer:
        node.wait_for("Cannot configure: There is no engine named 'blazepose_ful'")
        assert peer.state() == "unconfigured"
        assert set_parameter(peer, "engine", "blazepose_full").successful
        assert peer.change_state(Transition.TRANSITION_CONFIGURE)
        assert peer.state() == "inactive"
        assert node.interrupted() == 0


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("engin:=x", "unknown key 'engin': did you mean 'engine'"),
        ("fov_deg:=wide", "fov_deg must be of type float, got str 'wide'"),
        ("marker_scale:=0.0", r"marker_scale must lie between 0\.01 and 100, got 0"),
    ],
)
def test_parameters_that_do_not_fit_leave_the_node_unconfigured(domain: int, given: str, sentence: str) -> None:
    with fake_node(domain, "-p", given) as node, PosePeer(domain) as peer:
        node.wait_for(f"Cannot configure: .*{sentence}")
        assert peer.state() == "unconfigured"


# --- bad input --------------------------------------------------------------------------------------------------------


def astronaut() -> np.ndarray:
    from skimage import data

    return data.astronaut()


def wrong_encoding(image: Image, info: CameraInfo) -> None:
    image.encoding = "jpeg"


def cut_off(image: Image, info: CameraInfo) -> None:
    image.data = image.data[:1000]


def zeros(image: Image, info: CameraInfo) -> None:
    info.k = np.zeros(9)


def not_a_number(image: Image, info: CameraInfo) -> None:
    info.k = np.full(9, np.nan)


def unknown_lens(image: Image, info: CameraInfo) -> None:
    info.distortion_model = "anamorphic"


def other_size(image: Image, info: CameraInfo) -> None:
    info.width, info.height = 1024, 768


def test_the_real_engine_sees_the_astronaut_and_outlives_bad_input(domain: int) -> None:
    picture = astronaut()
    camera = Camera.from_fov(50, (512, 512))
    bad_input = {
        wrong_encoding: "image encoding 'jpeg' is not known",
        cut_off: "needs 786432 bytes of data, got 1000",
        zeros: "K is all zeros",
        not_a_number: "K must hold finite numbers",
        unknown_lens: "lens model 'anamorphic' is not known",
        other_size: "calibrated for images of 1024x768, got one of 512x512",
    }

    def good_frame() -> tuple[Image, CameraInfo]:
        header = header_now()
        return image_to_msg(picture, header), camera_to_msg(camera, header)

    with real_node(domain) as node, PosePeer(domain) as peer:
        node.wait_for("Engine metrabs_base .* runs on openvino")
        peer.wait_for_subscribers()
        markers = peer.answer(*good_frame())
        assert actions(markers) == shown(1)
        joints = next(marker for marker in markers.markers if marker.ns == "joints")
        points = np.array([(p.x, p.y, p.z) for p in joints.points])
        assert (points[:, 2] > 0.3).all()
        peer.wait_until(lambda: peer.transforms, "transforms")
        names = [transform.child_frame_id for transform in peer.transforms[0][1].transforms]
        nose = camera.project(points[names.index("person_1/nose")])[0]
        assert np.linalg.norm(nose - [224, 107]) < 25, f"the nose is at {nose}"

        for spoil, sentence in bad_input.items():
            for _ in range(5):
                image, info = good_frame()
                spoil(image, info)
                peer.send(image, info)
            node.wait_for(sentence)
        # Whoever was away for so long may have a new id, and is looked for by two of the image's five views a frame.
        answers = [actions(peer.answer(*good_frame())) for _ in range(5)]
        assert ("joints", Marker.ADD) in {(namespace, action) for namespace, _, action in answers[-1]}
        for sentence in bad_input.values():
            assert node.count(sentence) == 1, "a warning is not repeated for every frame"
        assert node.interrupted() == 0
    assert "Traceback" not in node.output


def test_a_fault_in_the_pipeline_is_logged_and_survived(domain: int) -> None:
    with fake_node(domain) as node, PosePeer(domain) as peer:
        peer.wait_for_subscribers()
        peer.answer(*frame(1))
        peer.send(*frame(FAULT))
        node.wait_for("RuntimeError: a fault of the fake pipeline")
        assert actions(peer.answer(*frame(1))) == shown(1)


def test_a_parameter_file_holds_in_any_namespace(tmp_path: Path, domain: int) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("/**/pose_node:\n  ros__parameters:\n    marker_scale: 3\n    up: [0, -1, 0]\n")
    with fake_node(domain, "--params-file", str(file), "-r", "__ns:=/robot") as node:
        node.wait_for("Waiting for images on /robot/image")
