"""Crops as virtual cameras: geometry there and back, and pixels against scenes of which every viewing ray is known."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lenses_for_tests import LENSES, SIZE, fisheye_cameras, polynomial_cameras
from scipy.spatial.transform import Rotation

from metrabs_ros import crop
from metrabs_ros.camera import Camera

UP = (0.0, -1.0, 0.0)
GAMMA = 2.2
SIDE = 128
BOXES = np.array([[250.0, 150, 140, 190], [20, 30, 120, 90], [420, 300, 170, 160], [300, 20, 60, 60]])


def scene(rays: np.ndarray) -> np.ndarray:
    """Linear light [...,3] in 0.1..0.9 that comes from each direction [...,3]: smooth, and the same nowhere."""
    x, y, z = np.moveaxis(rays / np.linalg.norm(rays, axis=-1, keepdims=True), -1, 0)
    waves = [np.sin(17 * x + 5 * y), np.sin(13 * y - 7 * z), np.sin(11 * z + 15 * x * y + 3)]
    return 0.5 + 0.4 * np.stack(waves, -1)


def rolled_by(degrees: float) -> np.ndarray:
    """R_world_cam of a camera that is rolled."""
    return Rotation.from_euler("z", degrees, degrees=True).as_matrix()


@functools.cache
def rays_of(camera: Camera) -> np.ndarray:
    """[H,W,3] the viewing ray of each pixel."""
    width, height = camera.size
    return camera.unproject(np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1))[0]


@functools.cache
def photo(camera: Camera, roll_deg: float = 0.0) -> np.ndarray:
    """What the camera sees of the scene when it is rolled: [H,W,3] uint8."""
    rays = rays_of(camera) @ rolled_by(roll_deg).T
    return np.rint(255 * np.nan_to_num(scene(rays)) ** (1 / GAMMA)).astype(np.uint8)


def ideal(virtual: crop.VirtualCameras, R_world_cam: np.ndarray | None = None) -> np.ndarray:
    """What the virtual cameras should see of the scene: [N,S,S,3] linear light."""
    u, v = np.meshgrid(np.arange(virtual.side), np.arange(virtual.side))
    pixels = np.stack([u, v, np.ones_like(u)], -1)
    return np.stack(
        [
            scene(pixels @ np.linalg.inv(K).T @ R @ (np.eye(3) if R_world_cam is None else R_world_cam).T)
            for K, R in zip(virtual.K, virtual.R_crop_cam, strict=True)
        ]
    )


def from_crop_to_image(virtual: crop.VirtualCameras, camera: Camera) -> np.ndarray:
    """[N,S*S,2] the image pixel of every crop pixel."""
    u, v = np.meshgrid(np.arange(virtual.side), np.arange(virtual.side))
    pixels = np.stack([u, v], -1).reshape(1, -1, 2).astype(float)
    return crop.to_image(np.repeat(pixels, len(virtual), 0), virtual, camera)[0]


@pytest.mark.parametrize("lens", LENSES)
def test_crop_pixels_come_back_from_the_image(lens: str) -> None:
    camera = LENSES[lens]
    virtual, seen = crop.virtual_cameras(camera, BOXES, SIDE, UP)
    assert seen.all()
    pixels = np.random.default_rng(0).uniform(0, SIDE, (len(BOXES), 50, 2))
    on_image, valid = crop.to_image(pixels, virtual, camera)
    back, in_front = crop.from_image(on_image, virtual, camera)
    assert valid.all()
    assert in_front.all()
    np.testing.assert_allclose(back, pixels, atol=2e-3)


@settings(deadline=None, max_examples=60)
@given(polynomial_cameras() | fisheye_cameras(), st.integers(0, 2**32 - 1))
def test_points_land_on_the_crop_where_the_virtual_camera_sees_them(camera: Camera, seed: int) -> None:
    rng = np.random.default_rng(seed)
    centers = np.array(camera.size) * rng.uniform(0.3, 0.7, (5, 2))
    extents = np.array(camera.size) * rng.uniform(0.05, 0.3, (5, 2))
    virtual, seen = crop.virtual_cameras(camera, np.concatenate([centers - extents / 2, extents], -1), SIDE, UP)
    rays = camera.unproject(centers[:, None] + extents[:, None] * rng.uniform(-0.5, 0.5, (5, 8, 2)))[0]
    points = rays[seen] * rng.uniform(1, 9, (seen.sum(), 8, 1))
    in_crop = np.einsum("nrc,npc->npr", virtual.K[seen] @ virtual.R_crop_cam[seen], points)
    known = np.isfinite(points).all(-1)
    chosen = crop.VirtualCameras(virtual.K[seen], virtual.R_crop_cam[seen], SIDE)
    landed, valid = crop.from_image(camera.project(points)[0], chosen, camera)
    assert valid[known].all()
    np.testing.assert_allclose(landed[known], (in_crop[..., :2] / in_crop[..., 2:])[known], atol=0.02)
    back = crop.to_camera_frame(np.einsum("nrc,npc->npr", chosen.R_crop_cam, points), chosen.R_crop_cam)
    np.testing.assert_allclose(back, points, atol=1e-9)


@pytest.mark.parametrize("lens", LENSES)
def test_every_pixel_shows_the_direction_in_which_it_looks(lens: str) -> None:
    camera = LENSES[lens]
    virtual, _ = crop.virtual_cameras(camera, BOXES, SIDE, UP, box_scale=1.2)
    crops = crop.warp(photo(camera), camera, virtual)
    assert crops.shape == (len(BOXES), SIDE, SIDE, 3)
    assert crops.dtype == np.float32
    well_inside = camera.contains(from_crop_to_image(virtual, camera), margin=3).reshape(crops.shape[:3])
    assert well_inside.mean() > 0.8
    error = np.abs(crops**GAMMA - ideal(virtual))[well_inside]
    # One 8-bit level is up to 0.009 of linear light.
    assert error.max() < 0.02
    assert error.mean() < 0.003


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("side", [40, 96, 250])
def test_a_bright_spot_lands_where_opencv_and_the_virtual_camera_put_it(lens: str, side: int) -> None:
    camera = LENSES[lens]
    point = np.array([0.31, -0.22, 1.0]) * 3
    if camera.distortion_model == "equidistant":
        at = cv2.fisheye.projectPoints(point[None, None], np.zeros(3), np.zeros(3), camera.K, camera.D)[0].ravel()
    else:
        at = cv2.projectPoints(point[None], np.zeros(3), np.zeros(3), camera.K, camera.D)[0].ravel()
    u, v = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    spot = np.exp(-((u - at[0]) ** 2 + (v - at[1]) ** 2) / (2 * 3.0**2))
    image = np.repeat(np.rint(255 * spot ** (1 / GAMMA)).astype(np.uint8)[..., None], 3, -1)
    box = [at[0] - 90, at[1] - 60, 150, 150]
    virtual, _ = crop.virtual_cameras(camera, box, side, UP)
    light = crop.warp(image, camera, virtual)[0, ..., 0] ** GAMMA
    u, v = np.meshgrid(np.arange(side), np.arange(side))
    found = np.array([(light * u).sum(), (light * v).sum()]) / light.sum()
    expected = virtual.K[0] @ virtual.R_crop_cam[0] @ point
    np.testing.assert_allclose(found, expected[:2] / expected[2], atol=0.1)


@pytest.mark.parametrize("lens", LENSES)
def test_the_crop_looks_at_the_middle_of_the_box_and_is_filled_by_it(lens: str) -> None:
    camera = LENSES[lens]
    virtual, _ = crop.virtual_cameras(camera, BOXES, SIDE, UP)
    np.testing.assert_allclose(
        virtual.R_crop_cam @ virtual.R_crop_cam.transpose(0, 2, 1), np.eye(3)[None] + 0 * virtual.K, atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(virtual.R_crop_cam), 1)
    middles = BOXES[:, None, :2] + BOXES[:, None, 2:] * np.array([[0.5, 0.5], [0, 0.5], [1, 0.5], [0.5, 0], [0.5, 1]])
    on_crop, _ = crop.from_image(middles, virtual, camera)
    np.testing.assert_allclose(on_crop[:, 0], SIDE / 2, atol=1e-3)
    width = np.linalg.norm(on_crop[:, 2] - on_crop[:, 1], axis=-1)
    height = np.linalg.norm(on_crop[:, 4] - on_crop[:, 3], axis=-1)
    np.testing.assert_allclose(np.maximum(width, height), SIDE, rtol=1e-6)
    wider, _ = crop.virtual_cameras(camera, BOXES, SIDE, UP, box_scale=1.25)
    np.testing.assert_allclose(wider.K[:, 0, 0] * 1.25, virtual.K[:, 0, 0])


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("up", [(0, -1, 0), (0.5, -0.8, 0.1), (1, 0, 0), (0, 7, 0)])
def test_up_is_up_on_the_crop(lens: str, up: tuple[float, float, float]) -> None:
    camera = LENSES[lens]
    virtual, _ = crop.virtual_cameras(camera, BOXES, SIDE, up)
    up_on_crop = virtual.R_crop_cam @ np.array(up)
    np.testing.assert_allclose(up_on_crop[:, 0], 0, atol=1e-9)
    assert (up_on_crop[:, 1] < 0).all()


def test_each_box_may_have_its_own_up() -> None:
    ups = np.array([[0, -1, 0], [1, 0, 0], [0, 1, 0], [-1, -1, 0.0]])
    virtual, _ = crop.virtual_cameras(LENSES["pinhole"], BOXES, SIDE, ups)
    for i, up in enumerate(ups):
        alone, _ = crop.virtual_cameras(LENSES["pinhole"], BOXES[i], SIDE, up)
        np.testing.assert_array_equal(virtual.R_crop_cam[i], alone.R_crop_cam[0])


@pytest.mark.parametrize("lens", ["pinhole", "rational 14", "equidistant"])
def test_a_rolled_camera_that_is_told_where_up_is_gives_the_same_crop(lens: str) -> None:
    """A lens without tangential parts is the same from all sides, so that the rolled image is the scene rolled."""
    level = LENSES[lens]
    R_world_cam = rolled_by(30)
    up = R_world_cam.T @ UP
    center = level.K[:2, 2]
    box = np.array([*(center - 70), 140, 140])
    upright, _ = crop.virtual_cameras(level, box, SIDE, UP)
    rolled, _ = crop.virtual_cameras(level, box, SIDE, up)
    np.testing.assert_allclose(rolled.R_crop_cam[0] @ R_world_cam.T, upright.R_crop_cam[0], atol=0.02)
    of_level = crop.warp(photo(level), level, upright) ** GAMMA
    of_rolled = crop.warp(photo(level, 30), level, rolled) ** GAMMA
    np.testing.assert_allclose(of_rolled, ideal(rolled, R_world_cam), atol=0.02)
    if lens != "rational 14":
        np.testing.assert_allclose(of_rolled, of_level, atol=0.03)
        assert np.abs(of_rolled - of_level).mean() < 0.003


@pytest.mark.parametrize("pitch", [90, -90, 89.99999])
def test_looking_straight_up_or_down_has_a_crop(pitch: float) -> None:
    """Up then lies on the viewing axis, and anything that is steady will do."""
    camera = LENSES["pinhole"]
    up = Rotation.from_euler("x", pitch, degrees=True).as_matrix() @ UP
    center = camera.K[:2, 2]
    virtual, seen = crop.virtual_cameras(camera, [*(center - 50), 100, 100], SIDE, up)
    assert seen.all()
    R = virtual.R_crop_cam[0]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(R[2], [0, 0, 1], atol=1e-9)
    assert np.isfinite(virtual.K).all()
    np.testing.assert_allclose(crop.warp(photo(camera), camera, virtual) ** GAMMA, ideal(virtual), atol=0.02)


@pytest.mark.parametrize("lens", ["pinhole", "plumb_bob 5", "equidistant"])
@pytest.mark.parametrize("shrink", [2.0, 2.9, 4.0, 5.3, 7.5])
def test_what_is_too_fine_for_the_crop_turns_into_the_grey_of_its_mean_light(lens: str, shrink: float) -> None:
    camera = LENSES[lens]
    u, v = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    image = np.repeat((255 * ((u + v) % 2)).astype(np.uint8)[..., None], 3, -1)
    virtual, _ = crop.virtual_cameras(camera, [180, 100, 270, 270], round(270 / shrink), UP)
    light = crop.warp(image, camera, virtual) ** GAMMA
    assert light.mean() == pytest.approx(0.5, abs=0.01)
    assert light.std() < 0.04


@pytest.mark.parametrize("lens", ["pinhole", "plumb_bob 5", "equidistant"])
@pytest.mark.parametrize("side", [40, 61, 96, 250])
def test_bands_of_a_crop_fit_together(lens: str, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many threads there are; noise shows a seam of a hundredth of a pixel."""
    camera = LENSES[lens]
    image = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    virtual, _ = crop.virtual_cameras(camera, [100, 50, 300, 340], side, (0.3, -1, 0))
    crops = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(crop, "_thread_count", lambda threads=threads: threads)
        crops.append(crop.warp(image, camera, virtual) ** GAMMA)
    for other in crops[1:]:
        # OpenCV reads at whole 1/32 px, which a rounding error may change.
        assert np.abs(other - crops[0]).mean() < 1e-4
        np.testing.assert_allclose(other, crops[0], atol=1 / 16)


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("side", [16, 64, 300])
def test_brightness_is_kept(lens: str, side: int) -> None:
    image = np.broadcast_to(np.array([200, 90, 17], np.uint8), (SIZE[1], SIZE[0], 3)).copy()
    virtual, _ = crop.virtual_cameras(LENSES[lens], [200, 120, 200, 200], side, UP)
    crops = crop.warp(image, LENSES[lens], virtual)
    np.testing.assert_allclose(crops[0] * 255, np.broadcast_to([200, 90, 17], crops[0].shape), atol=0.1)


def test_a_crop_of_the_image_as_it_is_gives_every_grey_back() -> None:
    side = 64
    camera = Camera([[500, 0, 32], [0, 500, 32], [0, 0, 1.0]], [], "plumb_bob", (side + 1, side + 1))
    greys = np.resize(np.arange(256), (side + 1, side + 1)).astype(np.uint8)
    image = np.repeat(greys[..., None], 3, -1)
    virtual, _ = crop.virtual_cameras(camera, [0, 0, side, side], side, UP)
    np.testing.assert_allclose(virtual.K[0], camera.K, atol=1e-9)
    crops = crop.warp(image, camera, virtual)
    np.testing.assert_array_equal(np.rint(crops[0] * 255), image[:side, :side])


@pytest.mark.parametrize("lens", LENSES)
def test_outside_the_image_is_black_and_inside_as_ever(lens: str) -> None:
    camera = LENSES[lens]
    image = np.full((SIZE[1], SIZE[0], 3), 200, np.uint8)
    corner, seen = crop.virtual_cameras(camera, [-60, -60, 120, 120], SIDE, UP)
    assert seen.all()
    pixels = from_crop_to_image(corner, camera).reshape(SIDE, SIDE, 2)
    crops = crop.warp(image, camera, corner)[0]
    assert (crops[~camera.contains(pixels, margin=-2)] < 1e-9).all()
    inside = camera.contains(pixels, margin=2)
    assert 0.1 < inside.mean() < 0.5
    np.testing.assert_allclose(crops[inside] * 255, 200, atol=0.1)


def test_a_box_wholly_outside_is_black() -> None:
    camera = LENSES["pinhole"]
    virtual, _ = crop.virtual_cameras(camera, [[-500, 100, 200, 200], [100, 900, 50, 50]], SIDE, UP)
    assert (crop.warp(np.full((480, 640, 3), 255, np.uint8), camera, virtual) < 1e-9).all()


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize(
    "box",
    [
        [100, 100, 0, 50],
        [100, 100, 50, 0],
        [100, 100, -5, 50],
        [np.nan, 100, 50, 50],
        [100, 100, np.nan, 50],
        [np.inf, 100, 50, 50],
    ],
)
def test_a_box_that_is_none_is_not_seen_but_does_no_harm_to_the_others(lens: str, box: list[float]) -> None:
    camera = LENSES[lens]
    virtual, seen = crop.virtual_cameras(camera, [box, BOXES[0]], SIDE, UP)
    assert seen.tolist() == [False, True]
    assert np.isfinite(virtual.K).all()
    assert np.isfinite(virtual.R_crop_cam).all()
    crops = crop.warp(photo(camera), camera, virtual)
    assert np.isfinite(crops).all()
    alone, _ = crop.virtual_cameras(camera, BOXES[0], SIDE, UP)
    np.testing.assert_allclose(crops[1:], crop.warp(photo(camera), camera, alone), atol=1e-3)


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("extent", [2e3, 1e5, 1e9])
def test_a_huge_box_stays_finite(lens: str, extent: float) -> None:
    camera = LENSES[lens]
    virtual, _ = crop.virtual_cameras(camera, [320 - extent / 2, 240 - extent / 2, extent, extent], SIDE, UP)
    crops = crop.warp(photo(camera), camera, virtual)
    assert np.isfinite(virtual.K).all()
    assert np.isfinite(crops).all()
    assert crops.min() >= 0
    assert crops.max() <= 1


def test_no_boxes_no_crops() -> None:
    virtual, seen = crop.virtual_cameras(LENSES["pinhole"], np.zeros((0, 4)), SIDE, UP)
    assert len(virtual) == len(seen) == 0
    assert crop.warp(photo(LENSES["pinhole"]), LENSES["pinhole"], virtual).shape == (0, SIDE, SIDE, 3)
    assert crop.to_camera_frame(np.zeros((0, 5, 3)), virtual.R_crop_cam).shape == (0, 5, 3)


@pytest.mark.parametrize("lens", LENSES)
def test_a_direction_in_the_image_is_found_in_space(lens: str) -> None:
    camera = LENSES[lens]
    centers = np.array([[320.0, 240], [100, 100], [500, 400]])
    directions = np.array([[0.6, -0.8], [-1, 0], [np.nan, np.nan]])
    up = crop.up_along(camera, centers, directions)
    assert np.isnan(up[2]).all()
    boxes = np.concatenate([centers - 30, np.full((3, 2), 60)], -1)[:2]
    virtual, _ = crop.virtual_cameras(camera, boxes, SIDE, up[:2])
    on_crop, _ = crop.from_image(np.stack([centers, centers + 2 * directions], 1)[:2], virtual, camera)
    tip = on_crop[:, 1] - on_crop[:, 0]
    assert (tip[:, 1] < 0).all()
    np.testing.assert_allclose(tip[:, 0] / tip[:, 1], 0, atol=0.02)
