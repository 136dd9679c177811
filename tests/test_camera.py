"""The camera as algebra: projecting and unprojecting undo each other, OpenCV agrees, what is no camera is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lenses_for_tests import LENSES, SIZE, WIDE_K, K, fisheye_cameras, pixel_grid, polynomial_cameras

from metrabs_ros.camera import Camera, CameraError

CALIBRATION = """\
image_width: 640
image_height: 480
camera_name: head_front
camera_matrix:
  rows: 3
  cols: 3
  data: [410.0, 0.0, 322.5, 0.0, 415.0, 236.0, 0.0, 0.0, 1.0]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.32, 0.12, 0.0006, -0.0009, -0.02]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
projection_matrix:
  rows: 3
  cols: 4
  data: [380.0, 0.0, 320.0, 0.0, 0.0, 400.0, 236.0, 0.0, 0.0, 0.0, 1.0, 0.0]
"""


def opencv_pixels(camera: Camera, points: np.ndarray) -> np.ndarray:
    """The independent oracle; the intrinsics come after it, because OpenCV ignores a skew in them."""
    project = cv2.fisheye.projectPoints if camera.distortion_model == "equidistant" else cv2.projectPoints
    distorted, _ = project(points[:, None], np.zeros(3), np.zeros(3), np.eye(3), camera.D)
    return distorted[:, 0] @ camera.K[:2, :2].T + camera.K[:2, 2]


def rays_at(angles: np.ndarray, azimuths: np.ndarray) -> np.ndarray:
    """Unit rays [N,3] at ``angles`` from the optical axis, rad."""
    return np.stack([np.sin(angles) * np.cos(azimuths), np.sin(angles) * np.sin(azimuths), np.cos(angles)], -1)


def reach(camera: Camera) -> float:
    """The angle, rad, up to which test rays go: 100 degrees for fisheyes, 65 for polynomials, if the lens does.

    Where its radial part hardly grows any more, the other coefficients fold the image of a random lens onto itself, and
    where it runs off to a pole, no image is large enough.
    """
    if camera.distortion_model == "equidistant":
        return min(0.9 * camera._limit, math.radians(100))
    radial = Camera(
        np.eye(3),
        np.where(np.isin(np.arange(len(camera.D)), [0, 1, 4, 5, 6, 7]), camera.D, 0),
        camera.distortion_model,
        SIZE,
    )
    grid = np.tan(np.linspace(0, math.radians(65), 200))
    slopes = np.diff(opencv_pixels(radial, np.stack([grid, 0 * grid, 0 * grid + 1], -1))[:, 0]) / np.diff(grid)
    unusable = np.flatnonzero((slopes < 0.3) | (slopes > 10))
    return float(np.arctan(grid[unusable[0]])) if len(unusable) else math.radians(65)


@pytest.mark.parametrize("lens", LENSES)
def test_every_pixel_of_the_image_comes_back(lens: str) -> None:
    camera = LENSES[lens]
    pixels = pixel_grid(camera)
    rays, seen = camera.unproject(pixels)
    back, valid = camera.project(rays)
    assert seen.all()
    assert valid.all()
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1, atol=1e-12)
    np.testing.assert_allclose(back, pixels, atol=1e-3)


@settings(deadline=None, max_examples=150)
@given(polynomial_cameras() | fisheye_cameras(), st.integers(0, 2**32 - 1))
def test_points_come_back_through_any_lens(camera: Camera, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rays = rays_at(rng.uniform(0, reach(camera), 40), rng.uniform(-math.pi, math.pi, 40))
    points = rays * rng.uniform(0.1, 50, (40, 1))
    pixels, valid = camera.project(points)
    assert valid.all()
    back, seen = camera.unproject(pixels)
    assert seen.all()
    np.testing.assert_allclose(back, rays, atol=2e-5)


@settings(deadline=None, max_examples=100)
@given(polynomial_cameras() | fisheye_cameras(), st.integers(0, 2**32 - 1))
def test_whatever_is_called_valid_comes_back_to_its_pixel(camera: Camera, seed: int) -> None:
    pixels = np.random.default_rng(seed).uniform(-0.5, 1.5, (60, 2)) * camera.size
    rays, seen = camera.unproject(pixels)
    assert np.isnan(rays[~seen]).all()
    back, valid = camera.project(rays[seen])
    assert valid.all()
    np.testing.assert_allclose(back, pixels[seen], atol=2e-6 * camera.K[0, 0] + 1e-6)


@settings(deadline=None, max_examples=150)
@given(polynomial_cameras(), st.integers(0, 2**32 - 1))
def test_polynomial_lenses_are_opencvs(camera: Camera, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rays_at(rng.uniform(0, reach(camera), 40), rng.uniform(-math.pi, math.pi, 40)) * 3
    pixels, valid = camera.project(points)
    assert valid.all()
    np.testing.assert_allclose(pixels, opencv_pixels(camera, points), rtol=1e-9, atol=1e-6)


@settings(deadline=None, max_examples=100)
@given(fisheye_cameras(), st.integers(0, 2**32 - 1))
def test_the_fisheye_is_opencvs(camera: Camera, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # OpenCV's own stops at a right angle from the axis.
    points = rays_at(rng.uniform(0, min(reach(camera), 1.5), 40), rng.uniform(-math.pi, math.pi, 40)) * 3
    pixels, _ = camera.project(points)
    np.testing.assert_allclose(pixels, opencv_pixels(camera, points), rtol=1e-9, atol=1e-5)


def test_a_fisheye_sees_two_hundred_degrees() -> None:
    camera = Camera(WIDE_K, np.zeros(4), "equidistant", SIZE)
    rays = rays_at(np.radians([0, 45, 89, 91, 100]), np.radians([0, 30, 120, 200, 300]))
    pixels, valid = camera.project(rays * 4)
    assert valid.all()
    radii = np.linalg.norm((pixels - camera.K[:2, 2]) / [205, 207], axis=-1)
    np.testing.assert_allclose(np.degrees(radii), [0, 45, 89, 91, 100], atol=1e-9)
    back, seen = camera.unproject(pixels)
    assert seen.all()
    np.testing.assert_allclose(back, rays, atol=1e-9)


@pytest.mark.parametrize("index", range(14))
def test_no_coefficient_is_dropped(index: int) -> None:
    camera = LENSES["rational 14"]
    point = [[0.4, -0.7, 1.5]]
    without = np.where(np.arange(14) == index, 0, camera.D)
    changed = Camera(K, without, "rational_polynomial", SIZE)
    moved = np.linalg.norm(changed.project(point)[0] - camera.project(point)[0])
    assert moved > 1e-3
    np.testing.assert_allclose(changed.project(point)[0], opencv_pixels(changed, np.array(point)), atol=1e-7)


@pytest.mark.parametrize("index", range(4))
def test_no_fisheye_coefficient_is_dropped(index: int) -> None:
    camera = LENSES["equidistant"]
    changed = Camera(WIDE_K, np.where(np.arange(4) == index, 0, camera.D), "equidistant", SIZE)
    point = [2.0, -1.5, -0.3]
    assert np.linalg.norm(changed.project(point)[0] - camera.project(point)[0]) > 0.1


@pytest.mark.parametrize("count", [4, 5, 8, 12, 14])
@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial"])
def test_either_name_takes_any_of_opencvs_counts(model: str, count: int) -> None:
    D = LENSES["rational 14"].D[:count]
    points = np.array([[0.3, 0.2, 1.0], [-0.5, 0.4, 1.2]])
    camera = Camera(K, D, model, SIZE)
    np.testing.assert_allclose(camera.project(points)[0], opencv_pixels(camera, points), atol=1e-7)


@pytest.mark.parametrize("lens", [name for name in LENSES if name != "equidistant"])
def test_points_behind_have_no_image(lens: str) -> None:
    pixels, valid = LENSES[lens].project([[0.1, 0.1, -1], [0, 0, -2], [0.1, 0, 0], [0, 0, 0], [0.1, 0.1, 1]])
    assert valid.tolist() == [False, False, False, False, True]
    assert np.isnan(pixels[:4]).all()
    assert np.isfinite(pixels[4]).all()


def test_the_fisheye_has_no_image_of_itself_nor_of_the_axis_behind() -> None:
    pixels, valid = LENSES["equidistant"].project([[0, 0, -1], [0, 0, 0], [np.nan, 0, 1], [0, 0, 1]])
    assert valid.tolist() == [False, False, False, True]
    assert np.isnan(pixels[:3]).all()
    np.testing.assert_allclose(pixels[3], LENSES["equidistant"].K[:2, 2])


def test_beyond_the_angle_where_the_polynomial_turns_back_nothing_is_seen() -> None:
    camera = Camera(K, [-0.3, 0, 0, 0], "plumb_bob", SIZE)
    turning = math.sqrt(1 / 0.9)  # where r (1 - 0.3 r²) is steepest
    pixels, valid = camera.project([[turning * 0.99, 0, 1], [turning * 1.01, 0, 1], [3, 0, 1]])
    assert valid.tolist() == [True, False, False]
    highest = pixels[0, 0]
    rays, seen = camera.unproject([[highest, 236.0], [K[0, 2] + K[0, 0] * turning * 0.7, 236.0], [1e5, 1e5]])
    assert seen.tolist() == [True, False, False]
    assert np.isnan(rays[1:]).all()


def test_beyond_the_angle_where_the_fisheye_turns_back_nothing_is_seen() -> None:
    camera = Camera(WIDE_K, [-0.1, 0, 0, 0], "equidistant", SIZE)
    turning = math.sqrt(1 / 0.3)
    points = rays_at(np.array([turning * 0.99, turning * 1.01]), np.zeros(2))
    assert camera.project(points)[1].tolist() == [True, False]
    beyond = K[0, 2] + WIDE_K[0, 0] * turning  # its largest radius is two thirds of this
    assert not camera.unproject([beyond, 236.0])[1]


def test_a_shape_of_any_rank_keeps_it() -> None:
    camera = LENSES["rational 14"]
    points = np.array([0.1, 0.2, 2.0]) + np.zeros((2, 3, 4, 1))
    pixels, valid = camera.project(points)
    assert pixels.shape == (2, 3, 4, 2)
    assert valid.shape == (2, 3, 4)
    rays, seen = camera.unproject(pixels)
    assert rays.shape == (2, 3, 4, 3)
    assert seen.all()
    assert camera.project(np.zeros((0, 3)))[0].shape == (0, 2)
    assert camera.unproject(np.zeros((0, 2)))[0].shape == (0, 3)


@pytest.mark.parametrize("lens", LENSES)
def test_cropping_commutes_with_projecting(lens: str) -> None:
    camera = LENSES[lens]
    points = camera.unproject(pixel_grid(camera, 7))[0] * 3
    cropped = camera.cropped(100, 40, (200, 300))
    assert cropped.size == (200, 300)
    np.testing.assert_allclose(cropped.project(points)[0], camera.project(points)[0] - [100, 40], atol=1e-9)


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("factors", [(0.5, 0.5), (2.0, 2.0), (0.25, 0.5)])
def test_zooming_commutes_with_projecting(lens: str, factors: tuple[float, float]) -> None:
    camera = LENSES[lens]
    points = camera.unproject(pixel_grid(camera, 7))[0] * 3
    zoomed = camera.zoomed(*factors)
    assert zoomed.size == (round(640 * factors[0]), round(480 * factors[1]))
    expected = (camera.project(points)[0] + 0.5) * factors - 0.5
    np.testing.assert_allclose(zoomed.project(points)[0], expected, atol=1e-9)


def test_zooming_is_what_averaging_pixels_does() -> None:
    image = np.zeros((480, 640), np.float32)
    image[200:210, 300:316] = 1
    v, u = (axis.mean() for axis in np.nonzero(image))
    ray = LENSES["pinhole"].unproject([u, v])[0]
    small = cv2.resize(image, (320, 240), interpolation=cv2.INTER_AREA)
    v_small, u_small = (axis.mean() for axis in np.nonzero(small))
    np.testing.assert_allclose(LENSES["pinhole"].zoomed(0.5).project(ray)[0], [u_small, v_small], atol=1e-9)


def test_the_image_reaches_half_a_pixel_beyond_its_pixels_centres() -> None:
    camera = LENSES["pinhole"]
    pixels = [[-0.5, -0.5], [639.5, 479.5], [-0.6, 5], [5, 479.6], [np.nan, 5], [0, 0]]
    assert camera.contains(pixels).tolist() == [True, True, False, False, False, True]
    assert camera.contains(pixels, margin=1.0).tolist() == [False] * 6
    assert camera.contains([0.5, 0.5], margin=1.0)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (501, 333)])
def test_the_field_of_view_spans_the_longer_side(size: tuple[int, int]) -> None:
    camera = Camera.from_fov(70, size)
    middle = (np.array(size) - 1) / 2
    longer = int(np.argmax(size))
    ends = np.stack([middle, middle])
    ends[:, longer] = [-0.5, size[longer] - 0.5]
    (first, last), _ = camera.unproject(ends)
    assert math.degrees(math.acos(first @ last)) == pytest.approx(70)
    assert camera.K[0, 0] == camera.K[1, 1]


@pytest.mark.parametrize("fov", [0, 180, -5, 400, math.nan, math.inf])
def test_no_lens_has_such_a_field_of_view(fov: float) -> None:
    with pytest.raises(CameraError, match=r"between 0 and 180 degrees, got .*give"):
        Camera.from_fov(fov, SIZE)


def test_a_camera_does_not_change() -> None:
    K_given, D_given = K.copy(), np.array([-0.3, 0.1, 0, 0])
    camera = Camera(K_given, D_given, "plumb_bob", SIZE)
    K_given[0, 0] = D_given[0] = 0
    assert camera.K[0, 0] == 410
    assert camera.D[0] == -0.3
    with pytest.raises(ValueError, match="read-only"):
        camera.K[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        camera.D[0] = 1
    with pytest.raises(AttributeError):
        camera.size = (1, 1)  # type: ignore[misc]


def test_undistorting_keeps_the_intrinsics_only() -> None:
    camera = LENSES["rational 14"]
    flat = camera.undistorted()
    assert not flat.is_distorted
    assert camera.is_distorted
    np.testing.assert_allclose(flat.project([0.3, -0.2, 2.0])[0], K[:2] @ [0.15, -0.1, 1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda K: K * 0, "uncalibrated"),
        (lambda K: np.where(K == 410, np.nan, K), "finite"),
        (lambda K: np.where(K == 236, np.inf, K), "finite"),
        (lambda K: np.where(K == 410, -410, K), "positive focal lengths"),
        (lambda K: np.where(K == 415, 0, K), "positive focal lengths"),
        (lambda K: K[:2], "3x3"),
        (lambda K: K.T, "upper triangular"),
        (lambda K: K * 2, "last row of 0 0 1"),
    ],
)
def test_what_is_no_intrinsic_matrix_is_refused(change: Callable[[np.ndarray], np.ndarray], words: str) -> None:
    with pytest.raises(CameraError, match=f"{words}.*(--fov)"):
        Camera(change(K), np.zeros(0), "plumb_bob", SIZE)


@pytest.mark.parametrize("size", [(0, 480), (640, -1)])
def test_an_image_without_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(CameraError, match=f"must be positive, got {size[0]}x{size[1]}"):
        Camera(K, np.zeros(0), "plumb_bob", size)


@pytest.mark.parametrize("model", ["fisheye", "thin_prism_fisheye", "Plumb_Bob", "none"])
def test_an_unknown_lens_model_is_refused(model: str) -> None:
    with pytest.raises(CameraError, match=f"'{model}' is not known: expected plumb_bob, rational_polynomial or equi"):
        Camera(K, np.zeros(5), model, SIZE)


@pytest.mark.parametrize(("model", "count"), [("plumb_bob", 3), ("rational_polynomial", 6), ("equidistant", 5)])
def test_a_wrong_number_of_coefficients_is_refused(model: str, count: int) -> None:
    with pytest.raises(CameraError, match=f"got {count}: check D"):
        Camera(K, np.full(count, 0.1), model, SIZE)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_coefficients_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(CameraError, match="D must be finite"):
        Camera(K, [bad, 0, 0, 0], "plumb_bob", SIZE)


def test_a_camera_without_a_lens_model_is_a_pinhole_only_if_nothing_is_bent() -> None:
    assert not Camera(K, [], "", SIZE).is_distorted
    assert not Camera(K, np.zeros(5), "", SIZE).is_distorted
    with pytest.raises(CameraError, match="not known"):
        Camera(K, [0.1, 0, 0, 0], "", SIZE)


def test_the_file_that_camera_calibration_writes(tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(CALIBRATION)
    camera = Camera.from_yaml(path)
    assert camera.size == SIZE
    assert camera.distortion_model == "plumb_bob"
    np.testing.assert_array_equal(camera.K, K)
    np.testing.assert_array_equal(camera.D, LENSES["plumb_bob 5"].D)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no calibration"),
        ("just words", "holds no calibration"),
        ("a: [1, 2", "is not valid YAML"),
        ("image_width: 640\nimage_height: 480\n", "lacks camera_matrix"),
        ("{}", "lacks image_width, image_height, camera_matrix"),
        (CALIBRATION.replace("410.0, 0.0,", "410.0,"), "expected 9 numbers, got 8"),
        (CALIBRATION.replace("410.0", "wide"), "not as camera_calibration writes it"),
        (CALIBRATION.replace("image_width: 640", "image_width: full"), "not as camera_calibration writes it"),
        (CALIBRATION.replace("image_width: 640", "image_width:"), "not as camera_calibration writes it"),
        (CALIBRATION.replace("image_width: 640", "image_width: .inf"), "not as camera_calibration writes it"),
        (CALIBRATION.replace("  data: [-0.32", "  dat: [-0.32"), "not as camera_calibration writes it"),
        (CALIBRATION.replace("plumb_bob", "omnidir"), "'omnidir' is not known"),
        (CALIBRATION.replace("[-0.32, 0.12, ", "["), "got 3"),
        (CALIBRATION.replace("410.0", ".nan"), "finite"),
        (CALIBRATION.replace("image_height: 480", "image_height: 0"), "640x0"),
    ],
)
def test_a_malformed_file_is_refused_with_what_was_expected(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(text)
    with pytest.raises(CameraError, match=words):
        Camera.from_yaml(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match=r"Cannot read the calibration file .*nowhere\.yaml"):
        Camera.from_yaml(tmp_path / "nowhere.yaml")
    binary = tmp_path / "camera.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(CameraError, match="Cannot read"):
        Camera.from_yaml(binary)
    with pytest.raises(CameraError, match="Cannot read"):
        Camera.from_yaml(tmp_path)
