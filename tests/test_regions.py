"""Squares around people: as the detector gives them, bounded where legs are close to the camera, quiet about nobody."""

import warnings

import numpy as np
import pytest

from metrabs_ros.camera import Camera
from metrabs_ros.regions import Regions
from metrabs_ros.skeleton import Skeleton

NAMES = ("left_hip", "right_hip", "left_ankle", "right_ankle", "nose")
CAMERA = Camera.from_fov(55, (640, 480))
REGIONS = Regions(Skeleton.from_names(NAMES, ()))


def joints(*points: tuple[float, float]) -> np.ndarray:
    return np.array([points], float)


def test_a_square_reaches_the_farthest_joint_from_the_hips() -> None:
    seen = joints((290, 200), (310, 200), (280, 400), (320, 400), (300, 50))
    x, y, width, height = REGIONS.squares(seen, CAMERA)[0]
    assert width == height
    assert (x + width / 2, y + height / 2) == pytest.approx((300, 200))
    assert width / 2 == pytest.approx(1.06 * np.hypot(20, 200))


def test_legs_close_to_the_camera_do_not_blow_it_up() -> None:
    """Ankles 10 cm in front of the camera's plane are thousands of pixels below the image."""
    seen = joints((290, 400), (310, 400), (-9000, 30000), (9000, 30000), (300, 50))
    square = REGIONS.squares(seen, CAMERA)[0]
    assert square[2] < 2 * 1.06 * np.hypot(1.5 * 640, 1.5 * 480)
    inside = joints((290, 400), (310, 400), (-320, 720), (960, 720), (300, 50))
    np.testing.assert_allclose(square, REGIONS.squares(inside, CAMERA)[0])


@pytest.mark.parametrize("regions", [REGIONS, Regions(Skeleton.from_names(("nose", "chin"), ()))])
def test_nobody_has_no_square_and_no_warning(regions: Regions) -> None:
    count = 5 if regions is REGIONS else 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(regions.squares(np.full((1, count, 2), np.nan), CAMERA)).any()


def test_joints_without_an_image_do_not_count() -> None:
    seen = joints((290, 200), (310, 200), (280, 400), (np.nan, np.nan), (300, 50))
    assert REGIONS.squares(seen, CAMERA)[0, 2] == pytest.approx(2 * 1.06 * np.hypot(20, 200))
