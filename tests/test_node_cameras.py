"""Several cameras in one process, over real DDS: topics and tracks of their own, one engine, one batch."""

from __future__ import annotations

import contextlib
import threading
import time
from itertools import chain

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from pose_node_for_tests import actions, fake_node, frame, real_node, set_parameter, shown
from ros_fake_node import FAULT
from ros_support import PATIENCE_S, RESEND_S, Peer, header_at
from sensor_msgs.msg import CameraInfo, Image
from visualization_msgs.msg import MarkerArray

from metrabs_ros.camera import Camera
from metrabs_ros.camera_pipelines import CameraPipelines
from metrabs_ros.messages import camera_to_msg, image_to_msg
from metrabs_ros.pipeline import PosePipeline
from metrabs_ros.pose import TrackedPose

pytestmark = pytest.mark.ros


class CamerasPeer(Peer):
    """Publishes `<camera>/image` and `<camera>/camera_info`, hears `~/<camera>/markers`."""

    def __init__(self, domain: int, *names: str) -> None:
        super().__init__(domain)
        self.names = names
        self.images = {name: self.node.create_publisher(Image, f"{name}/image", 5) for name in names}
        self.infos = {name: self.node.create_publisher(CameraInfo, f"{name}/camera_info", 5) for name in names}
        self.markers = {name: self.listen(MarkerArray, f"/pose_node/{name}/markers") for name in names}

    def wait_for_subscribers(self) -> None:
        self.wait_until(
            lambda: all(
                self.images[name].get_subscription_count() and self.node.count_publishers(f"/pose_node/{name}/markers")
                for name in self.names
            ),
            "pose_node's subscriptions",
        )

    def send(self, name: str, image: Image, info: CameraInfo) -> None:
        self.infos[name].publish(info)
        self.images[name].publish(image)

    def of(self, name: str, image: Image) -> list[MarkerArray]:
        stamp = image.header.stamp
        return [array for _, array in self.markers[name] if array.markers and array.markers[0].header.stamp == stamp]

    def answers(self, **people: int) -> dict[str, MarkerArray]:
        """The markers of one frame of each of these cameras, all of one stamp."""
        stamp_s = time.time()
        frames = {name: frame(count, header_at(stamp_s, f"{name}_optical")) for name, count in people.items()}
        deadline = time.monotonic() + PATIENCE_S
        while missing := [name for name, (image, _) in frames.items() if not self.of(name, image)]:
            assert time.monotonic() < deadline, f"No markers of {missing}."
            for name in missing:
                self.send(name, *frames[name])
            try:
                self.wait_until(lambda: all(self.of(name, frames[name][0]) for name in frames), "markers", RESEND_S)
            except AssertionError:
                continue
        return {name: self.of(name, image)[0] for name, (image, _) in frames.items()}


def test_each_camera_has_its_own_topics_frames_and_ids(domain: int) -> None:
    with fake_node(domain, "-p", "cameras:=[front, left]") as node, CamerasPeer(domain, "front", "left") as peer:
        node.wait_for("Waiting for images on /front/image with /front/camera_info")
        node.wait_for("Waiting for images on /left/image with /left/camera_info")
        peer.wait_for_subscribers()
        heard = peer.answers(front=2, left=1)
        assert actions(heard["front"]) == shown(1, 3)
        assert actions(heard["left"]) == shown(2)
        assert heard["front"].markers[0].header.frame_id == "front_optical"
        assert heard["left"].markers[0].header.frame_id == "left_optical"


def test_a_cameras_own_parameters_go_before_the_nodes(domain: int) -> None:
    arguments = ("-p", "cameras:=[front, left]", "-p", "fov_deg:=60.0", "-p", "up:=[0.0, 0.0, 1.0]")
    own = ("-p", "left.fov_deg:=90.0", "-p", "left.up:=[1.0, 0.0, 0.0]")
    with fake_node(domain, *arguments, *own) as node, CamerasPeer(domain, "front", "left") as peer:
        node.wait_for("on /front/image with a field of view of 60 degrees")
        node.wait_for("on /left/image with a field of view of 90 degrees")
        peer.wait_for_subscribers()
        peer.answers(front=1, left=1)
        node.wait_for(r"up \[0\.0, 0\.0, 1\.0\]")
        node.wait_for(r"up \[1\.0, 0\.0, 0\.0\]")
        assert set_parameter(peer, "left.up", [0.0, -1.0, 0.0]).successful
        peer.answers(front=1, left=1)
        node.wait_for(r"up \[0\.0, -1\.0, 0\.0\]")
        refused = set_parameter(peer, "left.fov_deg", 50.0)
        assert not refused.successful
        assert "left.fov_deg can only change while" in refused.reason


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("left.fov_deg:=wide", "pose_node, left: fov_deg must be of type float, got str 'wide'"),
        ("left.fov_deb:=60.0", "unknown key 'fov_deb': did you mean 'fov_deg'"),
        ("right.fov_deg:=60.0", "unknown key 'right'"),
        ("cameras:=[front, front]", "must name each camera once"),
        ("cameras:=[front-left]", "letters, digits and underscores after a letter, got 'front-left'"),
    ],
)
def test_what_is_wrong_with_a_camera_is_said(domain: int, given: str, sentence: str) -> None:
    cameras = () if given.startswith("cameras") else ("-p", "cameras:=[front, left]")
    with fake_node(domain, *cameras, "-p", given) as node:
        node.wait_for(f"Cannot configure: .*{sentence}")


def test_a_silent_camera_holds_nobody_and_a_bad_frame_harms_no_other_camera(domain: int) -> None:
    arguments = ("-p", "cameras:=[front, left]", "-p", "batch_wait_s:=0.05")
    with fake_node(domain, *arguments) as node, CamerasPeer(domain, "front", "left") as peer:
        peer.wait_for_subscribers()
        assert actions(peer.answers(front=1)["front"]) == shown(1), "left never spoke"
        peer.answers(front=1, left=1)
        latencies = []
        for _ in range(5):
            start = time.monotonic()
            peer.answers(front=1)
            latencies.append(time.monotonic() - start)
        assert min(latencies) < 0.4, latencies
        stop = threading.Event()

        def faults() -> None:
            while not stop.wait(0.02):
                peer.send("left", *frame(FAULT))

        faulty = threading.Thread(target=faults)
        faulty.start()
        try:
            node.wait_for("a fault of the fake pipeline")
            for _ in range(5):
                assert actions(peer.answers(front=1)["front"]) == shown(1)
        finally:
            stop.set()
            faulty.join()


def test_frames_of_two_cameras_are_worked_on_at_the_same_time(domain: int) -> None:
    arguments = ("-p", "cameras:=[front, left]", "-p", "batch_wait_s:=1.0")
    with fake_node(domain, *arguments, delay_s=0.3) as node, CamerasPeer(domain, "front", "left") as peer:
        peer.wait_for_subscribers()
        peer.answers(front=1, left=1)
        stamp_s = float(int(time.time()) + 10)
        for name in ("front", "left"):
            peer.send(name, *frame(1, header_at(stamp_s, name)))
        node.wait_for(f"fake: working on {stamp_s:.6f}", count=2)
        # Both begin before either is done.
        lines = [line for line in node.output.splitlines() if line.startswith(("fake: working", "fake: done"))]
        begun = [line.split()[1] for line in lines if f"{stamp_s:.6f}" in line]
        assert begun[:2] == ["working", "working"], lines


def test_every_camera_stands_in_the_diagnostics_and_deactivation_empties_all(domain: int) -> None:
    with fake_node(domain, "-p", "cameras:=[front, left]"), CamerasPeer(domain, "front", "left") as peer:
        heard = peer.listen(DiagnosticArray, "/diagnostics")
        peer.wait_for_subscribers()
        peer.answers(front=2, left=1)

        def people() -> dict[str, str]:
            status = heard[-1][1].status if heard else []
            values = {s.name: {p.key: p.value for p in s.values} for s in status if ": camera" in s.name}
            return {name.split()[-1]: each["people"] for name, each in values.items()}

        peer.wait_until(lambda: people() == {"front": "2", "left": "1"}, "both cameras in /diagnostics")
        assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
        for name in peer.names:
            peer.wait_until(
                lambda name=name: actions(peer.markers[name][-1][1]) == {("", 0, 3)}, f"the deletion of {name}'s"
            )


# --- the real engine --------------------------------------------------------------------------------------------------


def of_astronaut() -> tuple[np.ndarray, Camera]:
    from skimage import data

    image = data.astronaut()
    return image, Camera.from_fov(50, (image.shape[1], image.shape[0]))


def test_the_node_batches_what_two_cameras_see_at_the_same_time(domain: int) -> None:
    """Over DDS. Prints how much later people are published for a second camera (pytest -s)."""
    pixels, camera = of_astronaut()
    arguments = ("-p", "cameras:=[front, left]", "-p", "batch_wait_s:=0.05", "-p", "engine:=blazepose_full")
    with real_node(domain, *arguments) as node, CamerasPeer(domain, "front", "left") as peer:
        heard = peer.listen(DiagnosticArray, "/diagnostics")
        peer.wait_for_subscribers()
        latencies = {names: median_latency(peer, names, pixels, camera) for names in (("front",), ("front", "left"))}
        count = len(heard)
        peer.wait_until(lambda: len(heard) > count + 1, "/diagnostics")
        engine = next(s for s in heard[-1][1].status if s.name.endswith("engine"))
        values = {pair.key: pair.value for pair in engine.values}
        calls, joined = int(values["batches"]), int(values["batches of several cameras"])
        print(f"\nmedian latency of front alone, and with left, s: {latencies}; {joined} of {calls} batches of both")
        # Half the frames were of both cameras, and each takes a call or two.
        assert joined > 0.25 * calls
        assert node.interrupted() == 0


def median_latency(peer: CamerasPeer, names: tuple[str, ...], pixels: np.ndarray, camera: Camera) -> float:
    """From the sending of a frame of each camera to the last of their markers, s; of eight frames, after three."""
    taken = []
    for _ in range(11):
        header = header_at(time.time(), "optical")
        sent, start = (image_to_msg(pixels, header), camera_to_msg(camera, header)), time.monotonic()
        deadline = start + PATIENCE_S
        for name in names:
            peer.send(name, *sent)
        while missing := [name for name in names if not peer.of(name, sent[0])]:
            assert time.monotonic() < deadline, f"No markers of {missing}."
            with contextlib.suppress(AssertionError):
                peer.wait_until(lambda: all(peer.of(name, sent[0]) for name in names), "markers", RESEND_S)  # noqa: B023
                break
            start = time.monotonic()
            for name in missing:
                peer.send(name, *sent)
        taken.append(time.monotonic() - start)
    return float(np.median(taken[3:]))


def test_cameras_that_share_the_engine_see_what_each_sees_alone() -> None:
    """Frames of three cameras, of which one shows nobody, batched; ids differ."""
    image, camera = of_astronaut()
    frames = [image, np.ascontiguousarray(image[:, ::-1]), np.zeros_like(image)]
    alone = PosePipeline.from_engine()
    expected = []
    for pixels in frames:
        alone.reset()
        expected.append([alone.process(pixels, camera, stamp) for stamp in (0.0, 0.1, 0.2)])
    alone.close()

    together = CameraPipelines.from_engine(cameras=3)
    batches: list[int] = []
    network = together._owners[0].engine._network
    run = network.run
    network.run = lambda batch: (batches.append(len(batch)), run(batch))[1]  # type: ignore[method-assign]
    seen: list[list[list[TrackedPose]]] = [[], [], []]

    def look(index: int, stamp: float, pipeline: PosePipeline) -> None:
        seen[index].append(pipeline.process(frames[index], camera, stamp))

    for stamp in (0.0, 0.1, 0.2):
        together.run({i: lambda pipeline, i=i, stamp=stamp: look(i, stamp, pipeline) for i in range(3)})  # type: ignore[misc]
    together.close()
    assert max(batches) >= 2, "crops of two cameras went through the engine at once"
    for ours, theirs in zip(seen, expected, strict=True):
        assert [len(poses) for poses in ours] == [len(poses) for poses in theirs]
        for mine, his in zip(chain(*ours), chain(*theirs), strict=True):
            np.testing.assert_allclose(mine.joints3d, his.joints3d, atol=1e-4)
    ids = [{pose.track_id for poses in each for pose in poses} for each in seen]
    assert (ids[0], ids[1], ids[2]) == ({1}, {2}, set())
