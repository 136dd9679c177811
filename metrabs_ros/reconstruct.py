"""2D and metric poses to absolute ones: where before the camera must the metric pose stand to look like the 2D one?

Source: paper section 4 (full perspective), Mehta et al.'s weak perspective beside it, and the border rule of 4.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrabs_ros.small_matrices import inverse

Floats = NDArray[np.float64]

# Joints outside the image, and those the network is unsure of, keep this much weight, so that a person of whom
# nothing is inside still has a solution.
_LEAST_WEIGHT = 1e-4


def in_fov(coords2d: ArrayLike, side: float, border: float, border_far: float | None = None) -> NDArray[np.bool_]:
    """[...,2] px of a crop of ``side`` px -> whether the joint is ``border`` px or more inside its edges (P 4.2);
    ``border_far`` from the right and bottom ones where that is another."""
    coords2d = np.asarray(coords2d)
    far = border if border_far is None else border_far
    return ((coords2d >= border) & (coords2d <= side - far)).all(-1)


def absolute(
    coords2d: ArrayLike,
    coords3d_rel: ArrayLike,
    K: ArrayLike,
    inside: ArrayLike,
    confidence: ArrayLike | None = None,
    perspective: str = "full",
    mix_3d: float = 0.0,
    ridge: float = 0.0,
    coupled: int = 1,
) -> Floats:
    """Absolute poses [N,J,3] m in the frame of each crop's camera.

    coords2d [N,J,2] px; coords3d_rel [N,J,3] m, up to translation; K [N,3,3] px; inside [N,J] bool, the joints whose 2D
    prediction lies inside the image; confidence [N,J] in 0..1 weights the joints in the fit. Joints inside are the
    back-projected 2D prediction at the depth found, mixed with the translated metric pose by ``mix_3d`` (the released
    code: 0.5); joints outside are the translated metric pose. ``ridge`` is that of full perspective (the released code:
    0.01), and ``coupled`` how many crops in a row share its measure: with 1 people do not influence each other.
    """
    coords2d, coords3d_rel, K = (np.asarray(array, np.float64) for array in (coords2d, coords3d_rel, K))
    inside = np.asarray(inside, bool)
    weights = _weights(inside, confidence)
    normalized = _normalized(coords2d, K)
    if perspective == "weak":
        reference_point = weak_perspective(normalized, coords3d_rel, weights)
    elif ridge:
        reference_point = ridged_full_perspective(normalized, coords3d_rel, weights, ridge, coupled)
    else:
        reference_point = full_perspective(normalized, coords3d_rel, weights)
    translated = coords3d_rel + reference_point[:, None]
    depth = translated[..., 2:]
    back_projected = np.concatenate([normalized * depth, depth], -1)
    mixed = mix_3d * translated + (1 - mix_3d) * back_projected
    return np.where(inside[..., None], mixed, translated)


def absolute_deviation(
    spread2d: ArrayLike,
    spread3d: ArrayLike,
    coords2d: ArrayLike,
    depth: ArrayLike,
    K: ArrayLike,
    inside: ArrayLike,
    confidence: ArrayLike | None = None,
    perspective: str = "full",
    mix_3d: float = 0.0,
) -> Floats:
    """What independent errors of the predictions make of the joints that ``absolute`` gives: [N,J] m, root mean square.

    spread2d [N,J] px and spread3d [N,J] m: root mean square distances of coords2d and coords3d_rel from their true
    places, alike in all directions; depth [N,J] m: the z that ``absolute`` found; NaN spreads give NaN.

    To first order: let e (2 axes) and h = (h_xy, h_z) be a joint's errors in n and in the metric pose. The equations
    of full_perspective are then off by r = -e Z - n h_z + h_xy, and with shares s and d = n - mean(n) the reference
    point by

        dZ0 = sum(s d.r) / sum(s |d|^2),   (dX0, dY0) = mean(n) dZ0 - mean(r),

    so var Z0 = sum(s^2 var(d.r)) / sum(s |d|^2)^2: the distance is the less certain the smaller the person looks. Weak
    perspective has the same dZ0 with Z taken at the mean. A joint mixed with share m of the 3D head (1 outside the
    image) errs by m (h_xy + dXY0) + (1 - m)(e Z + n (h_z + dZ0)) across and h_z + dZ0 along the axis; what is left out
    are correlations of a joint's own error with those of the reference point, of the order of 1/J.
    """
    spread2d, spread3d, depth = (np.asarray(array, np.float64) for array in (spread2d, spread3d, depth))
    K, inside = np.asarray(K, np.float64), np.asarray(inside, bool)
    weights = _weights(inside, confidence)
    share = _shares(weights**2 if perspective == "full" else weights)
    normalized = _normalized(np.asarray(coords2d, np.float64), K)
    mean_n = _mean(normalized, share)
    off_mean = normalized - mean_n[:, None]
    squared = np.einsum("njc,njc->nj", normalized, normalized)
    # Variances along one axis: of e Z and of h.
    across = (spread2d * depth / K[:, None, 0, 0]) ** 2 / 2
    metric = spread3d**2 / 3
    lever = np.einsum("njc,njc->nj", off_mean, off_mean)
    along_n = np.einsum("njc,njc->nj", off_mean, normalized) ** 2
    moment = np.einsum("nj,nj->n", share, lever)
    depth_variance = np.einsum("nj,nj->n", share**2, lever * (across + metric) + along_n * metric)
    depth_variance /= np.maximum(moment, 1e-12) ** 2
    shift_variance = np.einsum("nj,nj->n", share**2, 2 * (across + metric) + squared * metric)
    mix = np.where(inside, mix_3d, 1.0)
    towards = mix[..., None] * mean_n[:, None] + (1 - mix[..., None]) * normalized
    variance = (
        metric * (1 + (1 - mix) ** 2 * squared + 2 * mix**2)
        + depth_variance[:, None] * (1 + np.einsum("njc,njc->nj", towards, towards))
        + 2 * (1 - mix) ** 2 * across
        + mix**2 * shift_variance[:, None]
    )
    return np.sqrt(variance)


def full_perspective(normalized: Floats, coords3d_rel: Floats, weights: Floats) -> Floats:
    """The translation [N,3] m that minimises the weighted squared error of (P eq. 4)

    X0 - n_x Z0 = n_x dZ - dX,  Y0 - n_y Z0 = n_y dZ - dY

    for normalized image points [N,J,2], metric poses [N,J,3] m and row weights [N,J]. X0 and Y0 are eliminated, which
    leaves one division a person: Z0 is a regression of the right sides' deviations on those of the image points.
    """
    share = _shares(weights**2)
    right = normalized * coords3d_rel[..., 2:] - coords3d_rel[..., :2]
    mean_n, mean_right = _mean(normalized, share), _mean(right, share)
    spread_n, spread_right = normalized - mean_n[:, None], right - mean_right[:, None]
    covariance = np.einsum("nj,njc,njc->n", share, spread_n, spread_right)
    variance = np.einsum("nj,njc,njc->n", share, spread_n, spread_n)
    depth = -covariance / np.maximum(variance, 1e-12)
    return np.concatenate([mean_right + mean_n * depth[:, None], depth[:, None]], -1)


def ridged_full_perspective(
    normalized: Floats, coords3d_rel: Floats, weights: Floats, ridge: float, coupled: int = 1
) -> Floats:
    """The translation of full_perspective, pulled to the camera: [N,3] m that minimises (released code)

    sum(w^2 |X0 - n_x Z0 - b_x, Y0 - n_y Z0 - b_y|^2) + ridge (X0^2 + Y0^2 + s^2 Z0^2),  b = n dZ - dXY

    with s the root mean square of n over ``coupled`` crops: the released code adds the ridge after both sides were
    divided by their root mean squares over a batch, and only that of n does not cancel out.
    """
    square = (normalized**2).mean((1, 2))
    batches = np.arange(len(square)) // coupled
    square = (np.bincount(batches, square) / np.maximum(np.bincount(batches), 1))[batches]
    squared = weights**2
    right = normalized * coords3d_rel[..., 2:] - coords3d_rel[..., :2]
    total = squared.sum(1)[:, None] + ridge
    sum_n = np.einsum("nj,njc->nc", squared, normalized)
    sum_right = np.einsum("nj,njc->nc", squared, right)
    moment = np.einsum("nj,njc,njc->n", squared, normalized, normalized) + ridge * square
    product = np.einsum("nj,njc,njc->n", squared, normalized, right)
    moment -= (sum_n**2 / total).sum(1)
    depth = ((sum_n * sum_right / total).sum(1) - product) / np.maximum(moment, 1e-12)
    return np.concatenate([(sum_right + sum_n * depth[:, None]) / total, depth[:, None]], -1)


def weak_perspective(normalized: Floats, coords3d_rel: Floats, weights: Floats) -> Floats:
    """The translation [N,3] m by the ratio of spreads: in metres over that on the image plane (P 4.1)."""
    share = _shares(weights)
    mean_n, mean_metric = _mean(normalized, share), _mean(coords3d_rel, share)
    spread_n, spread_metric = normalized - mean_n[:, None], (coords3d_rel - mean_metric[:, None])[..., :2]
    variance_n = np.einsum("nj,njc,njc->n", share, spread_n, spread_n)
    variance_metric = np.einsum("nj,njc,njc->n", share, spread_metric, spread_metric)
    mean_depth = np.sqrt(variance_metric / np.maximum(variance_n, 1e-12))
    mean_point = np.concatenate([mean_n * mean_depth[:, None], mean_depth[:, None]], -1)
    return mean_point - mean_metric


def _normalized(coords2d: Floats, K: Floats) -> Floats:
    homogeneous = np.concatenate([coords2d, np.ones_like(coords2d[..., :1])], -1)
    return np.einsum("nrc,njc->njr", inverse(K), homogeneous)[..., :2]


def _weights(inside: NDArray[np.bool_], confidence: ArrayLike | None) -> Floats:
    return inside * (1.0 if confidence is None else np.asarray(confidence, np.float64)) + _LEAST_WEIGHT


def _shares(weights: Floats) -> Floats:
    return weights / weights.sum(1, keepdims=True)


def _mean(points: Floats, share: Floats) -> Floats:
    return np.einsum("nj,njc->nc", share, points)
