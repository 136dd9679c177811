"""The lens formulas by themselves: identity, limits, inverses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrabs_ros.distortion import (
    distortion_limit,
    fisheye_angle,
    inverted_radius,
    polynomial_distorted,
    polynomial_undistorted,
)

POINTS = np.random.default_rng(0).uniform(-1, 1, (50, 2))


@pytest.mark.parametrize("count", [0, 4, 5, 8, 12, 14])
def test_zero_coefficients_change_nothing(count: int) -> None:
    np.testing.assert_allclose(polynomial_distorted(POINTS, np.zeros(count)), POINTS, atol=1e-15)
    undistorted, valid = polynomial_undistorted(POINTS, np.zeros(count), math.inf if count == 0 else 573.0)
    assert valid.all()
    np.testing.assert_allclose(undistorted, POINTS, atol=1e-9)


def test_the_centre_stays_the_centre() -> None:
    D = np.array([-0.3, 0.1, 0.001, 0.001, 0.02, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.01, 0.0, 0.0])
    np.testing.assert_array_equal(polynomial_distorted(np.zeros(2), D), [0, 0])
    undistorted, valid = polynomial_undistorted(np.zeros((1, 2)), D, distortion_limit("rational_polynomial", D))
    assert valid.all()
    np.testing.assert_allclose(undistorted, 0, atol=1e-12)


def test_a_radial_lens_bends_towards_the_centre_by_its_formula() -> None:
    np.testing.assert_allclose(polynomial_distorted(np.array([0.6, 0.8]), np.array([-0.2, 0.05, 0, 0])), [0.51, 0.68])


@pytest.mark.parametrize(
    ("model", "D", "limit"),
    [
        ("plumb_bob", [], math.inf),
        ("plumb_bob", [0.2, 0.1, 0, 0], math.tan(math.radians(89.9))),
        ("plumb_bob", [-0.3, 0, 0, 0], math.sqrt(1 / 0.9)),
        # The derivative of r - 0.4 r³ + 0.05 r⁵ is zero here.
        ("plumb_bob", [-0.4, 0.05, 0, 0], math.sqrt((1.2 - math.sqrt(1.44 - 1)) / 0.5)),
        # r / (1 - 0.25 r²) has a pole.
        ("rational_polynomial", [0, 0, 0, 0, 0, -0.25, 0, 0], 2.0),
        ("equidistant", [0, 0, 0, 0], math.pi),
        ("equidistant", [-0.1, 0, 0, 0], math.sqrt(1 / 0.3)),
    ],
)
def test_a_lens_ends_where_its_radius_stops_growing(model: str, D: list[float], limit: float) -> None:
    found = distortion_limit(model, np.array(D))
    assert found == limit or found == pytest.approx(limit, rel=3e-3)


@settings(deadline=None, max_examples=60)
@given(st.floats(-0.05, 0.05), st.floats(-0.02, 0.02), st.floats(-0.005, 0.005))
def test_the_fisheye_angle_is_inverted(k1: float, k2: float, k3: float) -> None:
    D = np.array([k1, k2, k3, 0.0])
    limit = distortion_limit("equidistant", D)
    angles = np.linspace(0, 0.97 * limit, 50)
    found, valid = inverted_radius(fisheye_angle(angles, D), lambda angle: fisheye_angle(angle, D), limit)
    assert valid.all()
    np.testing.assert_allclose(found, angles, atol=1e-9)


def test_no_angle_has_a_radius_beyond_the_limit() -> None:
    _, valid = inverted_radius(np.array([3.0, 3.3, np.nan]), lambda angle: angle, math.pi)
    assert valid.tolist() == [True, False, False]


def test_a_tilted_sensor_does_not_lead_the_search_astray() -> None:
    """Far out, a growing polynomial takes a step's end beyond the tilted sensor's horizon."""
    D = np.zeros(14)
    D[[4, 13]] = 0.03
    points = np.array([[2.0, 0.5], [-2.0, 0.3], [0.1, 1.9]])
    limit = distortion_limit("rational_polynomial", D)
    undistorted, valid = polynomial_undistorted(polynomial_distorted(points, D), D, limit)
    assert valid.all()
    np.testing.assert_allclose(undistorted, points, atol=1e-6)


def test_what_no_point_is_distorted_to_is_invalid() -> None:
    D = np.array([-0.3, 0, 0, 0])
    limit = distortion_limit("plumb_bob", D)
    highest = limit * (1 - 0.3 * limit**2)
    distorted = np.array([[highest * 0.999, 0], [highest * 1.01, 0], [5.0, 0], [np.nan, 0], [np.inf, 0]])
    _, valid = polynomial_undistorted(distorted, D, limit)
    assert valid.tolist() == [True, False, False, False, False]
