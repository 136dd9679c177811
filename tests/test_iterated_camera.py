"""The released code's way through a lens: OpenCV takes the same five steps, and crops come out as the authors' do."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lenses_for_tests import LENSES, SIZE, K, pixel_grid

from metrabs_ros import crop
from metrabs_ros.camera import Camera
from metrabs_ros.iterated_camera import IteratedCamera

UP = [0, -1, 0]
SIDE = 256
KNOWN_LENSES = ["pinhole", "plumb_bob 4", "plumb_bob 5", "rational 8", "rational 12"]
# In the middle, across the right border, and far beyond the lower left corner.
BOXES = [[200, 60, 180, 360], [500, 150, 240, 320], [-200, 150, 420, 480]]
# What _get_new_rotation_and_scale of the authors' code (isarandi/metrabs 8b2b116) makes of BOXES: where the crops'
# cameras look, and by how much focal lengths are scaled for 256 px.
AUTHORS = {
    "plumb_bob 4": (
        [[-0.07914, 0.00962, 0.99682], [0.64926, 0.15871, 0.74382], [-0.65291, 0.31725, 0.6878]],
        [0.67315, 0.88406, 0.64509],
    ),
    "plumb_bob 5": (
        [[-0.07916, 0.00962, 0.99682], [0.66479, 0.16271, 0.72909], [-0.67356, 0.32775, 0.66249]],
        [0.66705, 0.84396, 0.67742],
    ),
    "rational 8": (
        [[-0.07919, 0.00963, 0.99681], [0.65765, 0.16127, 0.73586], [-0.66882, 0.3253, 0.66848]],
        [0.66591, 0.85148, 0.55884],
    ),
    "rational 12": (
        [[-0.07921, 0.00965, 0.99681], [0.65616, 0.16298, 0.73681], [-0.66988, 0.32692, 0.66662]],
        [0.66587, 0.85066, 0.55974],
    ),
}


@pytest.mark.parametrize("name", AUTHORS)
def test_crops_are_the_authors_where_the_lens_is_strong(name: str) -> None:
    forward, scales = AUTHORS[name]
    virtual, seen = crop.virtual_cameras(IteratedCamera.of(LENSES[name]), BOXES, SIDE, UP, focal="camera")
    assert seen.all()
    np.testing.assert_allclose(virtual.R_crop_cam[:, 2], forward, atol=1e-5)
    np.testing.assert_allclose(virtual.K[:, 0, 0] / K[0, 0], scales, atol=1e-5)
    np.testing.assert_allclose(virtual.K[:, 1, 1] / K[1, 1], scales, atol=1e-5)


@pytest.mark.parametrize("name", KNOWN_LENSES)
def test_the_lens_is_undone_by_the_steps_that_opencv_takes(name: str) -> None:
    camera = LENSES[name]
    # Farther out than this OpenCV stops where a step leads through the axis.
    pixels = pixel_grid(camera) + [15, -10]
    five_steps = (cv2.TERM_CRITERIA_COUNT, 5, 0)
    expected = cv2.undistortPointsIter(pixels[:, None], camera.K, camera.D, None, None, five_steps)[:, 0]
    rays, seen = IteratedCamera.of(camera).unproject(pixels)
    assert seen.all()
    np.testing.assert_allclose(rays[:, :2] / rays[:, 2:], expected, atol=1e-9)


@pytest.mark.parametrize("name", KNOWN_LENSES)
def test_the_lens_is_followed_beyond_its_range_and_behind_the_camera(name: str) -> None:
    camera = LENSES[name]
    points = np.random.default_rng(0).uniform([-4, -4, -1], [4, 4, 1], (50, 3))
    expected = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.K, camera.D)[0][:, 0]
    pixels, valid = IteratedCamera.of(camera).project(points)
    assert valid.all()
    np.testing.assert_allclose(pixels, expected, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("name", ["equidistant", "rational 14"])
def test_a_lens_that_the_released_code_does_not_know_keeps_its_inverse(name: str) -> None:
    assert IteratedCamera.of(LENSES[name]) is LENSES[name]


def test_side_points_behind_the_virtual_camera_count_as_the_authors_count_them() -> None:
    """The scale that the same code gives where the steps put the upper side's middle 117 degrees from the box's."""
    camera = Camera(np.array([[800.0, 0, 965], [0, 804, 538], [0, 0, 1]]), LENSES["plumb_bob 5"].D, "plumb_bob", SIZE)
    box = [969, -190, 1024, 972]
    virtual, seen = crop.virtual_cameras(IteratedCamera.of(camera), box, SIDE, UP, focal="camera")
    assert seen.all()
    np.testing.assert_allclose(virtual.K[0, 0, 0] / 800, 0.125674, rtol=1e-4)


@settings(max_examples=50)
@given(st.lists(st.floats(-1e3, 1e3), min_size=12, max_size=12), st.integers(0, 10**6))
def test_steps_that_run_away_make_no_crop_fail(D: list[float], seed: int) -> None:
    camera = IteratedCamera.of(Camera(K, D, "rational_polynomial", SIZE))
    image = np.full((*SIZE[::-1], 3), 255, np.uint8)
    boxes = np.random.default_rng(seed).uniform([-500, -500, 1, 1], [1000, 1000, 900, 900], (4, 4))
    virtual, _ = crop.virtual_cameras(camera, boxes, 16, UP, focal="camera")
    crops = crop.warp(image, camera, virtual, 1.0, "pyramid")
    assert np.isfinite(virtual.K).all()
    assert np.isfinite(crops).all()
