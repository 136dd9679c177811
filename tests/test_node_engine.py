"""What the node's settings do to real people, with the real engine over DDS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from networks_for_tests import pose_network, spec_with, write_spec
from pose_node_for_tests import real_node, set_parameter
from ros_support import PosePeer, header_at
from sensor_msgs.msg import PointCloud2

from metrabs_ros.camera import Camera
from metrabs_ros.conventions import conversion
from metrabs_ros.messages import camera_to_msg, image_to_msg
from metrabs_ros.model_spec import find_spec, load_spec

pytestmark = [pytest.mark.ros, pytest.mark.slow]

ENGINE = "blazepose_full"
SIZE, MARGIN = 512, 8
CAMERA = Camera.from_fov(50, (SIZE, SIZE))
FIELDS = np.dtype([("xyz", "<f4", 3), ("uncertainty", "<f4"), ("track_id", "<u4"), ("joint", "<u4")])


class Viewer(PosePeer):
    """Shows the astronaut, reads ~/joints."""

    def __init__(self, domain: int) -> None:
        from skimage import data

        super().__init__(domain)
        self.picture = np.pad(data.astronaut(), ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="edge")
        self.clouds: list[tuple[float, Any]] = self.listen(PointCloud2, "/pose_node/joints")

    def joints(self, stamp_s: float, shift: tuple[int, int] = (0, 0)) -> np.ndarray:
        """[people,joints] of FIELDS, of the picture moved by ``shift`` px."""
        header = header_at(stamp_s)
        y, x = MARGIN + shift[0], MARGIN + shift[1]
        image = image_to_msg(self.picture[y : y + SIZE, x : x + SIZE], header)
        if not self.clouds:
            self.send_until(lambda: self.clouds, image, camera_to_msg(CAMERA, header), "the first joints")
        else:
            # Once only: an image that came again after the next one would be a step back in time.
            self.send(image, camera_to_msg(CAMERA, header))
            self.wait_until(lambda: self._of(header.stamp), "joints")
        (cloud, *_) = self._of(header.stamp)
        return np.frombuffer(bytes(cloud.data), FIELDS).reshape(cloud.height, cloud.width)

    def _of(self, stamp: Any) -> list[PointCloud2]:
        return [cloud for _, cloud in self.clouds if cloud.header.stamp == stamp]


def given(*parameters: str) -> list[str]:
    reliable = [f"qos_overrides./{topic}.subscription.reliability:=reliable" for topic in ("image", "camera_info")]
    return [part for each in (f"engine:={ENGINE}", *reliable, *parameters) for part in ("-p", each)]


def test_a_convention_and_views_give_its_joints_with_their_uncertainty(domain: int) -> None:
    convention = "h36m_17"
    expected = conversion(load_spec(find_spec(ENGINE)).skeleton, convention).skeleton.joint_names
    with real_node(domain, *given(f"convention:={convention}", "num_aug:=3")), Viewer(domain) as viewer:
        viewer.wait_for_subscribers()
        people = viewer.joints(1.0)
        assert people.shape == (1, len(expected))
        assert people["joint"].tolist() == [list(range(len(expected)))]
        assert (people["uncertainty"] > 0).all()
        # Of one view the engine knows nothing.
        assert set_parameter(viewer, "num_aug", 1).successful
        assert np.isnan(viewer.joints(1.1)["uncertainty"]).all()


def test_the_log_says_what_auto_took_and_what_could_not_be_kept(
    domain: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the place of the cache's folder cannot be written into, not even by root."""
    options = ["-p", f"engine:={write_spec(tmp_path, spec_with(), pose_network())}", "-p", "backend:=auto"]
    took = r"\[INFO\].* Engine small .* auto took \w+ \(CPU\): .* ms a crop"
    monkeypatch.setenv("METRABS_ROS_CACHE", str(tmp_path / "cache"))
    with real_node(domain, *options) as node:
        node.wait_for(rf"{took}.*, kept in {tmp_path}/cache/backends/small-\w+\.json\.")
        assert "is not kept" not in node.output
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METRABS_ROS_CACHE", str(tmp_path / "file"))
    with real_node(domain, *options) as node:
        node.wait_for(took)
        node.wait_for(
            r"\[WARN\].* is not kept: Cannot write .*; make room there, or choose another folder with METRABS_"
        )


def test_cleanup_frees_what_configure_took(domain: int) -> None:
    with real_node(domain, *given("autostart:=false")) as node, PosePeer(domain) as peer:
        assert peer.state() == "unconfigured"
        start_mb, cleaned_mb, handles = node.rss_mb, [], []
        for _ in range(3):
            assert peer.change_state(Transition.TRANSITION_CONFIGURE)
            configured_mb = node.rss_mb
            assert peer.change_state(Transition.TRANSITION_ACTIVATE)
            assert peer.change_state(Transition.TRANSITION_DEACTIVATE)
            assert peer.change_state(Transition.TRANSITION_CLEANUP)
            cleaned_mb.append(node.rss_mb)
            handles.append(len(list(Path(f"/proc/{node.pid}/fd").iterdir())))
        # What a runtime keeps for the process is taken once.
        assert configured_mb - cleaned_mb[-1] > 0.4 * (configured_mb - start_mb), (start_mb, configured_mb, cleaned_mb)
        assert cleaned_mb[-1] - cleaned_mb[0] < 10, cleaned_mb
        assert handles[-1] == handles[0]


def test_who_stands_still_shakes_a_third_where_smoothing_is_on(domain: int) -> None:
    """The picture trembles by up to 3 px, as a camera or a detector's boxes do; off and on at run time."""
    method = "one_euro"
    with real_node(domain, *given()), Viewer(domain) as viewer:
        viewer.wait_for_subscribers()
        rng = np.random.default_rng(0)
        viewer.joints(0.0)
        stamp_s, shaking = 1.0, {}
        for setting, frames in (("none", 12), (method, 36)):
            assert set_parameter(viewer, "smoothing.method", setting).successful
            seen: list[np.ndarray] = []
            for _ in range(frames):
                stamp_s += 1 / 30
                up, left = rng.integers(-3, 4, 2).tolist()
                people = viewer.joints(stamp_s, (up, left))
                # The engine may see somebody in the background, too.
                places = people["xyz"]
                last = seen[-1] if seen else places[0]
                seen.append(places[np.linalg.norm(places - last, axis=-1).mean(-1).argmin()])
            steps = np.diff(np.array(seen)[-12:], axis=0)
            shaking[setting] = float(np.sqrt((steps**2).sum(-1).mean()))
        print(f"\nfrom frame to frame, m: {shaking}")
        assert shaking["none"] > 3 * shaking[method]
