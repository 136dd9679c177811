"""Where an image's camera comes from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from std_msgs.msg import Header

from metrabs_ros.calibration_source import CalibrationSource, path_of_url
from metrabs_ros.camera import Camera, CameraError
from metrabs_ros.errors import InputError
from metrabs_ros.messages import camera_to_msg
from metrabs_ros.params import CameraParams

pytestmark = pytest.mark.ros

K = np.array([[500.0, 0, 319.5], [0, 510.0, 239.5], [0, 0, 1]])
CALIBRATION = """
image_width: 640
image_height: 480
camera_matrix: {rows: 3, cols: 3, data: [500, 0, 319.5, 0, 510, 239.5, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.2, 0.05, 0.001, -0.002, 0]}
"""
PROJECTION = "projection_matrix: {rows: 3, cols: 4, data: [450, 0, 300, 0, 0, 450, 200, 0, 0, 0, 1, 0]}\n"


def test_urls_are_those_of_camera_info_manager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    marker = tmp_path / "share/ament_index/resource_index/packages/my_robot"
    marker.parent.mkdir(parents=True)
    marker.touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.setenv("CALIBRATIONS", "/somewhere")
    assert path_of_url("file:///a/b%20c.yaml") == Path("/a/b c.yaml")
    assert path_of_url("file://localhost/a.yaml") == Path("/a.yaml")
    assert path_of_url("file://${CALIBRATIONS}/left.yaml") == Path("/somewhere/left.yaml")
    assert path_of_url("package://my_robot/config/left.yaml") == tmp_path / "share/my_robot/config/left.yaml"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("/a/b.yaml", "must be file:///DIR/FILE.yaml or package://PACKAGE/FILE.yaml, got '/a/b.yaml'"),
        ("file://host/a.yaml", "must be file:///"),
        ("package://rclpy", "must be file:///"),
        ("package:///a.yaml", "must be file:///"),
        ("package://no such package/a.yaml", "is not installed"),
        ("file://${NO_SUCH_VARIABLE}/a.yaml", "variable NO_SUCH_VARIABLE .* is not set"),
    ],
)
def test_urls_that_lead_nowhere_are_refused_in_a_sentence(url: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        path_of_url(url)


def test_a_file_is_the_camera_of_every_image(tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(CALIBRATION)
    source = CalibrationSource(CameraParams(camera_info_url=path.as_uri()))
    assert not source.needs_info
    camera = source.camera(None, (640, 480))
    np.testing.assert_array_equal(camera.K, K)
    assert camera.is_distorted
    with pytest.raises(CameraError, match="no projection_matrix of 3x4"):
        CalibrationSource(CameraParams(camera_info_url=path.as_uri(), rectified=True))
    path.write_text(CALIBRATION + PROJECTION)
    rectified = CalibrationSource(CameraParams(camera_info_url=path.as_uri(), rectified=True)).camera(None, (640, 480))
    np.testing.assert_array_equal(rectified.K, [[450, 0, 300], [0, 450, 200], [0, 0, 1]])
    assert not rectified.is_distorted


def test_a_field_of_view_follows_the_size_of_the_image() -> None:
    source = CalibrationSource(CameraParams(fov_deg=60.0))
    assert not source.needs_info
    for size in ((64, 48), (48, 64), (64, 48)):
        camera, expected = source.camera(None, size), Camera.from_fov(60.0, size)
        assert camera.size == size
        np.testing.assert_array_equal(camera.K, expected.K)


def test_a_camera_is_made_anew_only_where_camera_info_says_something_else() -> None:
    source = CalibrationSource(CameraParams())
    assert source.needs_info
    info = camera_to_msg(Camera(K, np.array([-0.2, 0.05, 1e-3, -2e-3, 0.0]), "plumb_bob", (640, 480)), Header())
    first = source.camera(info, (640, 480))
    info.header.frame_id = "another_header"
    assert source.camera(info, (640, 480)) is first
    for name, value in {
        "k": np.array([400.0, 0, 319.5, 0, 400.0, 239.5, 0, 0, 1]),
        "d": [0.1, 0.0, 0.0, 0.0, 0.0],
        "binning_x": 2,
        "distortion_model": "rational_polynomial",
    }.items():
        before = source.camera(info, (640, 480))
        setattr(info, name, value)
        assert source.camera(info, (640, 480)) is not before, name
    info.roi.x_offset, info.roi.width, info.roi.height = 100, 200, 480
    assert source.camera(info, (100, 480)).size == (100, 480)
