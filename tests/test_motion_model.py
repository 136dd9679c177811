"""The algebra of the motion model: time composes, measurements combine, rays have directions."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from metrabs_ros.motion_model import begun, corrected, predicted, viewing_noise

SPEED, PERSISTENCE = 1.0, 2.0


def some_people(rng: np.random.Generator, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    places = rng.uniform([-2, -1, 2], [2, 1, 8], (count, 3))
    state, covariance = begun(places, viewing_noise(places, np.full(count, 0.05), np.full(count, 0.3)), SPEED)
    state[:, 3:] = rng.normal(0, 1, (count, 3))
    return state, covariance


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0, 5), st.floats(0, 5))
def test_two_intervals_are_one(seed: int, first_s: float, second_s: float) -> None:
    state, covariance = some_people(np.random.default_rng(seed))
    first, second = np.full(3, first_s), np.full(3, second_s)
    steps = predicted(*predicted(state, covariance, first, SPEED, PERSISTENCE), second, SPEED, PERSISTENCE)
    once = predicted(state, covariance, first + second, SPEED, PERSISTENCE)
    for a, b in zip(steps, once, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_no_time_changes_nothing() -> None:
    state, covariance = some_people(np.random.default_rng(0))
    for a, b in zip(predicted(state, covariance, np.zeros(3), SPEED, PERSISTENCE), (state, covariance), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-15)


def test_over_a_few_frames_velocity_is_constant_and_over_long_it_is_forgotten() -> None:
    state, covariance = some_people(np.random.default_rng(0))
    soon, _ = predicted(state, covariance, np.full(3, 0.1), SPEED, PERSISTENCE)
    np.testing.assert_allclose(soon[:, :3], state[:, :3] + 0.1 * state[:, 3:], atol=0.01)
    late, spread = predicted(state, covariance, np.full(3, 60.0), SPEED, PERSISTENCE)
    np.testing.assert_allclose(late[:, :3], state[:, :3] + PERSISTENCE * state[:, 3:], atol=1e-9)
    np.testing.assert_allclose(late[:, 3:], 0, atol=1e-9)
    np.testing.assert_allclose(spread[:, 3:, 3:], np.broadcast_to(SPEED**2 * np.eye(3), (3, 3, 3)), atol=1e-9)


def test_the_covariance_is_that_of_people_who_walk_so() -> None:
    """Ten thousand simulated walks of 1.5 s in small steps."""
    rng = np.random.default_rng(0)
    place, velocity = np.zeros(10_000), rng.normal(0, SPEED, 10_000)
    step = 0.005
    for _ in range(300):
        place += step * velocity
        velocity += -velocity * step / PERSISTENCE + SPEED * np.sqrt(2 * step / PERSISTENCE) * rng.normal(size=10_000)
    state, covariance = begun(np.zeros((1, 3)), np.zeros((1, 3, 3)), SPEED)
    _, covariance = predicted(state, covariance, np.array([1.5]), SPEED, PERSISTENCE)
    np.testing.assert_allclose(covariance[0, 0, 0], place.var(), rtol=0.05)
    np.testing.assert_allclose(covariance[0, 0, 3], np.cov(place, velocity)[0, 1], rtol=0.05)


def test_a_measurement_is_combined_by_the_inverse_covariances() -> None:
    rng = np.random.default_rng(0)
    state, covariance = predicted(*some_people(rng), np.full(3, 0.3), SPEED, PERSISTENCE)
    places = state[:, :3] + rng.normal(0, 0.1, (3, 3))
    noise = viewing_noise(places, np.full(3, 0.1), np.full(3, 0.4))
    H = np.concatenate([np.eye(3), np.zeros((3, 3))], 1)
    precision = np.linalg.inv(covariance) + H.T @ np.linalg.inv(noise) @ H
    expected = np.linalg.solve(
        precision,
        (np.linalg.inv(covariance) @ state[..., None]) + H.T @ np.linalg.inv(noise) @ places[..., None],
    )[..., 0]
    after, spread = corrected(state, covariance, places, noise)
    np.testing.assert_allclose(after, expected, atol=1e-9)
    np.testing.assert_allclose(spread, np.linalg.inv(precision), atol=1e-9)


def test_depth_is_the_direction_of_the_ray() -> None:
    places = np.array([[0.0, 0, 4], [3, 0, 3]])
    noise = viewing_noise(places, np.array([0.1, 0.1]), np.array([0.5, 0.5]))
    np.testing.assert_allclose(noise[0], np.diag([0.01, 0.01, 0.25]), atol=1e-12)
    ray = np.array([1, 0, 1]) / np.sqrt(2)
    np.testing.assert_allclose(ray @ noise[1] @ ray, 0.25)
    np.testing.assert_allclose(noise[1, 1, 1], 0.01)
