"""Inverses of 3×3 matrices by cofactors.

numpy.linalg took 1 to 5 ms a call for them beside a network that keeps all cores busy (docs/performance.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def inverse(matrices: ArrayLike) -> NDArray[np.float64]:
    """[...,3,3] -> [...,3,3]. For well-conditioned matrices, as intrinsics and covariances of positions are."""
    A = np.asarray(matrices, np.float64)
    (a, b, c), (d, e, f), (g, h, i) = ([A[..., row, column] for column in range(3)] for row in range(3))
    cofactors = [
        [e * i - f * h, c * h - b * i, b * f - c * e],
        [f * g - d * i, a * i - c * g, c * d - a * f],
        [d * h - e * g, b * g - a * h, a * e - b * d],
    ]
    determinant = a * cofactors[0][0] + b * cofactors[1][0] + c * cofactors[2][0]
    adjugate = np.stack([np.stack(row, -1) for row in cofactors], -2)
    return adjugate / np.asarray(determinant)[..., None, None]
