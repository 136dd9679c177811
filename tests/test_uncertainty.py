"""Uncertainty against errors that are known: drawn around people at 2 to 8 m, as poses, views and heatmaps.

Predicted is the root mean square of the uncertainties, true that of the distances from where the joints really are.
"""

from __future__ import annotations

import numpy as np
import pytest
from poses_for_tests import person

from metrabs_ros import reconstruct, uncertainty
from metrabs_ros.errors import InputError
from metrabs_ros.uncertainty import Calibration

SIDE = 256
DISTANCES = (2.0, 4.0, 8.0)
TRIALS = 1500


def seen(distance: float, span_m: float = 2.2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A person [J,3] m at a distance, who fills their crop, its K, and their joints' pixels on it."""
    joints = person(np.random.default_rng(1), bend_deg=30) + [0.0, 0.0, distance]
    joints[:, :2] -= joints[:, :2].mean(0)
    focal = SIDE * distance / span_m
    K = np.array([[focal, 0, SIDE / 2], [0, focal, SIDE / 2], [0, 0, 1]])
    return joints, K, joints[:, :2] / joints[:, 2:] * focal + SIDE / 2


def root_mean_square(values: np.ndarray) -> np.ndarray:
    """Over the trials: [T,...] -> [...]."""
    return np.sqrt((values**2).mean(0))


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("perspective", ["full", "weak"])
@pytest.mark.parametrize(("mix_3d", "outside"), [(0.0, 0), (0.5, 0), (0.0, 5), (1.0, 3)])
@pytest.mark.parametrize(("pixels", "metres"), [(3.0, 0.0), (0.0, 0.05), (2.0, 0.03)])
def test_errors_of_the_predictions_become_those_of_the_joints(
    distance: float, perspective: str, mix_3d: float, outside: int, pixels: float, metres: float
) -> None:
    joints, K, coords2d = seen(distance)
    rng = np.random.default_rng(0)
    count = len(joints)
    trust = rng.uniform(0.3, 1.0, count)
    # Errors in proportion to these, so that joints differ.
    sizes = rng.uniform(0.5, 1.5, count)
    inside = np.tile(np.arange(count) >= outside, (TRIALS, 1))
    drawn2d = coords2d + rng.normal(size=(TRIALS, count, 2)) * pixels * sizes[:, None] / np.sqrt(2)
    drawn3d = joints - [0.5, 0.2, 1] + rng.normal(size=(TRIALS, count, 3)) * metres * sizes[:, None] / np.sqrt(3)
    fit = (np.tile(K, (TRIALS, 1, 1)), inside, np.tile(trust, (TRIALS, 1)), perspective, mix_3d)
    found = reconstruct.absolute(drawn2d, drawn3d, *fit)
    # Weak perspective is off by itself: compared with where it puts the person without noise.
    clean = reconstruct.absolute(coords2d[None], (joints - [0.5, 0.2, 1])[None], *(_first(part) for part in fit))
    error = root_mean_square(np.linalg.norm(found - clean, axis=-1))
    spread2d, spread3d = (np.tile(size * sizes, (TRIALS, 1)) for size in (pixels, metres))
    said = reconstruct.absolute_deviation(spread2d, spread3d, drawn2d, found[..., 2], *fit)
    ratio = root_mean_square(said) / error
    assert (ratio > 0.75).all()
    assert (ratio < 1.35).all()


def _first(part: object) -> object:
    return part[:1] if isinstance(part, np.ndarray) else part


def test_the_smaller_a_person_looks_the_less_certain_is_their_distance() -> None:
    def deviation(distance: float) -> float:
        joints, _, _ = seen(distance)
        K = np.array([[[300.0, 0, 128], [0, 300, 128], [0, 0, 1]]])
        coords2d = joints[None, :, :2] / joints[None, :, 2:] * 300 + 128
        spread = np.full((1, len(joints)), 2.0)
        inside = np.ones((1, len(joints)), bool)
        said = reconstruct.absolute_deviation(spread, 0 * spread, coords2d, joints[None, :, 2], K, inside)
        return float(said.mean())

    # The distance's error grows with its square.
    assert deviation(8.0) / deviation(4.0) == pytest.approx(4, rel=0.15)


def test_unknown_spreads_stay_unknown() -> None:
    joints, K, coords2d = seen(4.0)
    unknown = np.full((1, len(joints)), np.nan)
    inside = np.ones((1, len(joints)), bool)
    deviation = reconstruct.absolute_deviation(unknown, unknown, coords2d[None], joints[None, :, 2], K[None], inside)
    assert np.isnan(deviation).all()
    distance = np.linalg.norm(joints, axis=-1)[None]
    assert np.isnan(uncertainty.of_heatmaps(deviation, distance, Calibration(distance=0.1))).all()


def drawn_views(shared: float, views: int, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Views [T,A,J,3] m of a person [J,3] m at a distance: a view's error is 3 % of it and more along the ray, and of
    its variance the part ``shared`` is the same in all views."""
    joints, _, _ = seen(distance)
    rng = np.random.default_rng(2)
    size = 0.03 * distance * np.array([0.3, 0.3, 1.0])
    common, own = rng.normal(size=(TRIALS, 1, len(joints), 3)), rng.normal(size=(TRIALS, views, len(joints), 3))
    return joints + size * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own), joints


def ratio_of_views(shared: float, views: int, distance: float, calibration: Calibration) -> np.ndarray:
    poses, joints = drawn_views(shared, views, distance)
    error = root_mean_square(np.linalg.norm(poses.mean(1) - joints, axis=-1))
    far = np.linalg.norm(poses.mean(1), axis=-1)
    said = uncertainty.of_views(uncertainty.spread_of_views(poses), views, far, calibration)
    return root_mean_square(said) / error


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("views", [2, 5, 16])
@pytest.mark.parametrize("shared", [0.2, 0.5, 0.8])
def test_views_without_a_measured_calibration_are_within_a_factor_of_two(
    shared: float, views: int, distance: float
) -> None:
    ratio = ratio_of_views(shared, views, distance, Calibration())
    assert (ratio > 0.5).all()
    assert (ratio < 2).all()


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("views", [2, 5, 16])
@pytest.mark.parametrize("shared", [0.0, 0.3, 0.9])
def test_views_with_a_measured_calibration_are_right(shared: float, views: int, distance: float) -> None:
    measured = Calibration(views=float(np.sqrt(shared / (1 - shared))))
    np.testing.assert_allclose(ratio_of_views(shared, views, distance, measured), 1, atol=0.08)


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_person_of_unknown_height_is_at_an_uncertain_distance(distance: float) -> None:
    """What no spread shows: the whole person nearer or farther by a tenth."""
    joints, _, _ = seen(distance)
    rng = np.random.default_rng(3)
    nearer = 1 + 0.1 * rng.normal(size=(TRIALS, 1, 1, 1))
    poses = nearer * (joints + rng.normal(size=(TRIALS, 5, len(joints), 3)) * 0.01)
    error = root_mean_square(np.linalg.norm(poses.mean(1) - joints, axis=-1))
    far = np.linalg.norm(poses.mean(1), axis=-1)
    spread = uncertainty.spread_of_views(poses)
    said = uncertainty.of_views(spread, 5, far, Calibration(views=0.0, distance=0.1))
    np.testing.assert_allclose(root_mean_square(said) / error, 1, atol=0.08)
    assert (root_mean_square(uncertainty.of_views(spread, 5, far, Calibration())) / error < 0.5).all()


def test_how_much_larger_somebody_of_known_height_is() -> None:
    assert Calibration(height=1.6).size_of(0) == Calibration().size_of(0) == 1
    assert Calibration(height=1.6).size_of(1.2) == pytest.approx(0.75)
    with pytest.raises(InputError, match="does not say how tall it takes people to be"):
        Calibration().size_of(1.7)
    for height in (0.2, 170.0, -1.7, float("nan")):
        with pytest.raises(InputError, match=r"must be 0 \(unknown\) or a height from 0\.4 to 2\.6 m, got"):
            Calibration(height=1.6).size_of(height)


def test_spread_is_unbiased_for_two_views() -> None:
    poses, _ = drawn_views(0.0, 2, 4.0)
    many, _ = drawn_views(0.0, 32, 4.0)
    few = root_mean_square(uncertainty.spread_of_views(poses))
    np.testing.assert_allclose(few, root_mean_square(uncertainty.spread_of_views(many)), rtol=0.08)


@pytest.mark.parametrize("key", ["heatmap", "views", "distance", "height"])
def test_a_negative_calibration_is_refused(key: str) -> None:
    with pytest.raises(InputError, match=f"calibration: {key} must not be negative, got -0.1"):
        Calibration(**{key: -0.1})


@pytest.mark.parametrize("distance", DISTANCES)
def test_heatmaps_are_calibrated_where_they_are_as_wide_as_their_errors(distance: float) -> None:
    """Noisy heatmaps, decoded by what decodes a network's: each is the Gaussian of a joint's error around where the
    joint was taken to be."""
    torch = pytest.importorskip("torch", reason="training/ needs torch: see requirements/training.txt")
    from training.heatmap import Grid, cell_positions
    from training.model.heads import decoded

    # Cells fine enough for Gaussians of this width; a network learns to place its own means between coarser ones.
    grid, trials = Grid(stride=8, depth=24), 60
    sigma2d, sigma3d = 6.0, 0.06
    joints, K, coords2d = seen(distance, span_m=3.0)
    joints_in_box = (joints - joints.mean(0)) * [1, 1, 1] + [grid.box / 2, grid.box / 2, grid.box / 2]
    generator = torch.Generator().manual_seed(4)
    shape = (trials, len(joints))
    centre2d = torch.tensor(coords2d) + sigma2d * torch.randn((*shape, 2), generator=generator)
    centre3d = torch.tensor(joints_in_box) + sigma3d * torch.randn((*shape, 3), generator=generator)
    flat, volume = (
        cell_positions((grid.depth, grid.cells, grid.cells)[first:], torch.device("cpu")) for first in (1, 0)
    )
    off2d = (grid.pixels(flat) - centre2d[:, :, None]) / sigma2d
    off3d = (grid.metres(volume) - centre3d[:, :, None].float()) / sigma3d
    planes = (-off2d.square().sum(-1) / 2).reshape(*shape, grid.cells, grid.cells)
    volumes = (-off3d.square().sum(-1) / 2).reshape(*shape, grid.depth, grid.cells, grid.cells)
    found = decoded(planes, volumes, grid)
    np.testing.assert_allclose(found.spread2d, sigma2d * np.sqrt(2), rtol=0.1)
    np.testing.assert_allclose(found.spread3d, sigma3d * np.sqrt(3), rtol=0.1)
    fit = (np.tile(K, (trials, 1, 1)), np.ones(shape, bool))
    pose = reconstruct.absolute(found.coords2d, found.coords3d_rel, *fit)
    error = np.linalg.norm(pose - joints, axis=-1)
    deviation = reconstruct.absolute_deviation(found.spread2d, found.spread3d, found.coords2d, pose[..., 2], *fit)
    said = uncertainty.of_heatmaps(deviation, np.linalg.norm(pose, axis=-1), Calibration())
    ratio = root_mean_square(said) / root_mean_square(error)
    assert (ratio > 0.5).all()
    assert (ratio < 2).all()
    assert root_mean_square(said.ravel()) / root_mean_square(error.ravel()) == pytest.approx(1, abs=0.3)
