"""Which of the poses in a frame continues which track: likelihoods, gates, optimal assignment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from metrabs_ros.small_matrices import determinant, inverse

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

# Posture changes by about this much from frame to frame (RMS over the joints), and by so much more a second later, up
# to the difference between any two postures. Measured of BlazePose on a clip: 0.05 m median, 0.1 to 0.4 m at the 95th
# percentile (walking, a somersault).
_POSTURE_M = 0.15
_POSTURE_M_PER_S = 1.0
_ANY_POSTURE_M = 0.4


def offsets(poses: Floats, postures: Floats) -> tuple[Floats, Floats]:
    """Poses [N,J,3] m and tracks' joints around their centres [T,J,3] m, NaN where missing -> [N,T,3] m: where each
    pose puts each track's centre; [N,T] m: RMS by which the postures then still differ.

    Over the joints that both have; NaN where there are none.
    """
    ours, theirs = (np.isfinite(joints).all(-1).astype(float) for joints in (poses, postures))
    a, b = (np.where(np.isfinite(joints), joints, 0.0) for joints in (poses, postures))
    a, b = a * ours[..., None], b * theirs[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        count = ours @ theirs.T
        place = (np.einsum("njc,tj->ntc", a, theirs) - np.einsum("nj,tjc->ntc", ours, b)) / count[..., None]
        squared = (
            np.einsum("njc,tj->nt", a**2, theirs)
            + np.einsum("nj,tjc->nt", ours, b**2)
            - 2 * np.einsum("njc,tjc->nt", a, b)
        ) / count
    return place, np.sqrt(np.maximum(squared - (place**2).sum(-1), 0.0))


@dataclass(frozen=True, eq=False)
class Affinity:
    """[N,T] of each pose and track: squared Mahalanobis distance, and minus the log-likelihood of being the same."""

    mahalanobis2: Floats
    cost: Floats


def affinity(innovation: Floats, covariance: Floats, posture_m: Floats, age_s: Floats) -> Affinity:
    """From innovations [N,T,3] m and their covariances [N,T,3,3], posture differences [N,T] m and ages [T] s.

    The place is normally distributed (so that the sure track wins over one that could be anywhere); posture with the
    heavy tail of a Student distribution, as arms may do anything.
    """
    known = np.isfinite(innovation).all(-1)
    innovation = np.where(known[..., None], innovation, 0.0)
    solved = (inverse(covariance) @ innovation[..., None])[..., 0]
    mahalanobis2 = np.where(known, (innovation * solved).sum(-1), np.inf)
    place = (mahalanobis2 + np.log(determinant(covariance)) + 3 * np.log(2 * np.pi)) / 2
    return Affinity(mahalanobis2, place + _posture_cost(np.where(known, posture_m, 0.0), age_s))


def cost_of_somebody_new(people_per_m3: float) -> float:
    """Minus the log-likelihood of a pose that continues no track, where new people appear at this density."""
    return float(_posture_cost(np.array(_ANY_POSTURE_M), np.array(np.inf)) - np.log(people_per_m3))


def assigned(cost: Floats, allowed: NDArray[np.bool_], price: float) -> Indices:
    """[N]: the track of each pose by costs [N,T], -1 for nobody's: the cheapest assignment of all at once.

    A pose without a track costs ``price``: so no pair does that costs more, even if it would leave more people matched.
    """
    worth = allowed & (cost < price)
    rows, columns = linear_sum_assignment(np.where(worth, cost - price, 0.0))
    good = worth[rows, columns]
    tracks = np.full(len(cost), -1, np.intp)
    tracks[rows[good]] = columns[good]
    return tracks


def _posture_cost(posture_m: Floats, age_s: Floats) -> Floats:
    variance = np.minimum(_POSTURE_M + _POSTURE_M_PER_S * age_s, _ANY_POSTURE_M) ** 2
    return 1.5 * (np.log(variance) + np.log1p(posture_m**2 / (3 * variance)))
