"""Inverses and determinants of 3×3 matrices and cross products, for few of them at a time.

numpy.linalg took 1 to 5 ms a call for inverses beside a network that keeps all cores busy, and numpy.cross is mostly
bookkeeping (docs/performance.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_NEXT, _AFTER_NEXT = np.array([1, 2, 0]), np.array([2, 0, 1])


def inverse(matrices: ArrayLike) -> Floats:
    """[...,3,3] -> [...,3,3]. For well-conditioned matrices, as intrinsics and covariances of positions are."""
    A = np.asarray(matrices, np.float64)
    flat = A.reshape(*A.shape[:-2], 9)
    adjugate = flat.take(_FIRST, -1) * flat.take(_SECOND, -1) - flat.take(_THIRD, -1) * flat.take(_FOURTH, -1)
    determinant = np.einsum("...i,...i->...", flat[..., :3], adjugate[..., ::3])
    return (adjugate / determinant[..., None]).reshape(A.shape)


def determinant(matrices: ArrayLike) -> Floats:
    """[...,3,3] -> [...]."""
    A = np.asarray(matrices, np.float64)
    return np.einsum("...i,...i->...", A[..., 0, :], cross(A[..., 1, :], A[..., 2, :]))


def cross(a: ArrayLike, b: ArrayLike) -> Floats:
    """The cross products of vectors [...,3]."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return a.take(_NEXT, -1) * b.take(_AFTER_NEXT, -1) - a.take(_AFTER_NEXT, -1) * b.take(_NEXT, -1)


def _entries(row: NDArray[np.intp], column: NDArray[np.intp]) -> NDArray[np.intp]:
    """Where, in a matrix row by row, the entries are that go into each entry of the adjugate."""
    return (3 * row[:, None] + column).T.ravel()


_FIRST, _SECOND = _entries(_NEXT, _NEXT), _entries(_AFTER_NEXT, _AFTER_NEXT)
_THIRD, _FOURTH = _entries(_NEXT, _AFTER_NEXT), _entries(_AFTER_NEXT, _NEXT)
