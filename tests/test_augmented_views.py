"""The views of test-time augmentation: which they are, and that what is seen in them comes back to where it was."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from poses_for_tests import SKELETON, person

from metrabs_ros import crop, reconstruct
from metrabs_ros.augmented_views import MAX_VIEWS, AugmentedViews
from metrabs_ros.camera import Camera
from metrabs_ros.engine import EngineOutput
from metrabs_ros.errors import InputError

SIDE = 256
CAMERA = Camera.from_fov(60, (640, 480))
UP = (0.0, -1.0, 0.0)


def test_five_views_are_those_of_the_released_code() -> None:
    views = AugmentedViews.of(5)
    np.testing.assert_allclose(np.degrees(views.angles), [-25, -12.5, 0, 12.5, 25])
    np.testing.assert_allclose(views.scales, [0.8, 0.9, 1.0, 1.05, 1.1])
    np.testing.assert_allclose(views.gammas, [0.6, 0.7, 0.8, 0.9, 1.0])
    np.testing.assert_array_equal(views.mirrored, [False, True, False, True, False])


@given(st.integers(2, MAX_VIEWS))
def test_views_of_any_number(count: int) -> None:
    views = AugmentedViews.of(count)
    assert len(views) == count
    np.testing.assert_allclose(views.angles, -views.angles[::-1], atol=1e-12)
    np.testing.assert_allclose(np.degrees(views.angles[[0, -1]]), [-25, 25])
    assert views.scales[0] == 0.8
    assert views.scales[count // 2] == 1.0
    assert count == 2 or views.scales[-1] == pytest.approx(1.1)
    assert (np.diff(views.scales) > 0).all()
    np.testing.assert_allclose(views.gammas[[0, -1]], [0.6, 1.0])
    assert (views.mirrored[1:] != views.mirrored[:-1]).all()
    assert not views.mirrored[count // 2]


def test_one_view_is_the_crop_itself() -> None:
    virtual, _ = crop.virtual_cameras(CAMERA, [[100, 50, 80, 200], [400, 100, 200, 100]], SIDE, UP)
    views = AugmentedViews.of(1)
    cameras = views.cameras(virtual)
    np.testing.assert_array_equal(cameras.K, virtual.K)
    np.testing.assert_array_equal(cameras.R_crop_cam, virtual.R_crop_cam)
    np.testing.assert_array_equal(views.shown(cameras).K, virtual.K)
    assert views.gammas == 1.0


@pytest.mark.parametrize("count", [0, -1, 33, 1000, 2.0, True, "5", None, np.nan])
def test_a_number_that_is_none(count: object) -> None:
    with pytest.raises(InputError, match=r"^num_aug must be a .*1.* to 32, got .*\.$"):
        AugmentedViews.of(count)  # type: ignore[arg-type]


def perfect(points: np.ndarray, shown: crop.VirtualCameras, mirrored: np.ndarray) -> EngineOutput:
    """What a faultless network says of points [N·A,J,3] m in the real camera's frame: in a mirror, a left hand is a
    right one, and it is as far away as the hand itself."""
    counterparts = SKELETON.mirror
    in_crop = np.einsum("nrc,njc->njr", shown.R_crop_cam, points)
    flat = np.einsum("nrc,njc->njr", shown.K, in_crop)
    coords2d = flat[..., :2] / flat[..., 2:]
    metric = np.where(mirrored[:, None, None], in_crop * [-1, 1, 1], in_crop)
    seen_2d = np.where(mirrored[:, None, None], coords2d[:, counterparts], coords2d)
    seen_3d = np.where(mirrored[:, None, None], metric[:, counterparts], metric)
    # Joint j's confidence and spreads are its number: they have to come back to the joint they belong to.
    numbers = np.broadcast_to(np.arange(len(counterparts), dtype=float), points.shape[:2])
    numbers = np.where(mirrored[:, None], numbers[:, counterparts], numbers)
    return EngineOutput(seen_2d, seen_3d, numbers, np.ones(len(points)), numbers + 100, numbers + 200)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, MAX_VIEWS), seed=st.integers(0, 10**6), distance=st.floats(2, 8))
def test_what_a_faultless_network_sees_comes_back_to_where_it_was(count: int, seed: int, distance: float) -> None:
    rng = np.random.default_rng(seed)
    people = np.stack([person(rng) + [rng.uniform(-1, 1), rng.uniform(-0.5, 0.5), distance] for _ in range(3)])
    pixels, _ = CAMERA.project(people)
    low, high = pixels.min(1), pixels.max(1)
    virtual, _ = crop.virtual_cameras(CAMERA, np.concatenate([low, high - low], -1), SIDE, UP, 1.4)
    views = AugmentedViews.of(count)
    cameras = views.cameras(virtual)
    shown = views.shown(cameras)
    assert len(cameras) == len(shown) == 3 * count
    output = perfect(np.repeat(people, count, 0), shown, np.tile(views.mirrored, 3))
    back = views.unmirrored(output, cameras, SKELETON.mirror)
    inside = np.ones(back.confidence.shape, bool)
    found = reconstruct.absolute(back.coords2d, back.coords3d_rel, cameras.K, inside)
    in_camera = crop.to_camera_frame(found, cameras.R_crop_cam).reshape(3, count, -1, 3)
    np.testing.assert_allclose(in_camera, np.repeat(people[:, None], count, 1), atol=1e-6)
    numbers = np.broadcast_to(np.arange(len(SKELETON.joint_names)), inside.shape)
    np.testing.assert_array_equal(back.confidence, numbers)
    np.testing.assert_array_equal(back.spread2d, numbers + 100)
    np.testing.assert_array_equal(back.spread3d, numbers + 200)


@pytest.mark.parametrize("distorted", [False, True])
def test_mirrored_and_brightened_views_are_the_flipped_picture_with_a_gamma(distorted: bool) -> None:
    image = skimage.data.astronaut()
    camera = Camera.from_fov(50, (512, 512))
    if distorted:
        camera = Camera(camera.K, [-0.25, 0.08, 0.001, -0.001, 0.0], "plumb_bob", camera.size)
    virtual, _ = crop.virtual_cameras(camera, [[70, 10, 380, 500], [200, 30, 120, 150]], SIDE, UP, 1.25)
    views = AugmentedViews.of(5)
    cameras = views.cameras(virtual)
    seen = crop.warp(image, camera, views.shown(cameras), views.of_all(views.gammas, cameras))
    plain = crop.warp(image, camera, cameras)
    mirrored = np.tile(views.mirrored, 2)
    expected = np.where(mirrored[:, None, None, None], plain[:, :, ::-1], plain)
    gamma = np.tile(views.gammas, 2)[:, None, None, None]
    difference = np.abs(seen - expected**gamma)
    assert difference.mean() < 2e-3
    assert np.percentile(difference, 99) < 0.03
    # Rolled by 25° and shown at 0.8 of the size it is another picture.
    assert np.abs(plain[0] - plain[2]).mean() > 0.05
