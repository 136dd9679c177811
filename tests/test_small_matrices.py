"""Inverses and determinants of 3×3 matrices beside LAPACK's, cross products beside numpy's."""

from __future__ import annotations

import numpy as np

from metrabs_ros.small_matrices import cross, determinant, inverse


def test_inverses_and_determinants_are_lapacks() -> None:
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(50, 4, 3, 3))
    covariances = matrices @ matrices.transpose(0, 1, 3, 2) + np.eye(3)
    intrinsics = np.array([[700.0, 0.3, 320], [0, -710, 240], [0, 0, 1]])
    np.testing.assert_allclose(inverse(covariances), np.linalg.inv(covariances), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(determinant(matrices), np.linalg.det(matrices), atol=1e-12)
    np.testing.assert_allclose(inverse(intrinsics), np.linalg.inv(intrinsics), rtol=1e-12, atol=1e-15)
    assert inverse(np.zeros((0, 3, 3))).shape == (0, 3, 3)


def test_cross_products_are_numpys() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 6, 4, 3))
    np.testing.assert_allclose(cross(a, b), np.cross(a, b))
    np.testing.assert_allclose(cross([1, 0, 0], [0, 1, 0]), [0, 0, 1])
    assert cross(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)
