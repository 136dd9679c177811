"""How a person's place moves between two sightings, and how well one camera knows it.

The state of a person is place and velocity [6] with covariance [6,6], m and m/s in the camera's optical frame. The
velocity is constant but for a random change that makes it forget itself over ``persistence_s`` (an integrated
Ornstein-Uhlenbeck process; Singer 1970 is the same one derivative higher): over a few frames this is the
constant-velocity model, and somebody unseen for long is looked for around where walking on would have led, not ever
farther away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.small_matrices import inverse

Floats = NDArray[np.float64]


def begun(places: Floats, noise: Floats, speed_m_s: float) -> tuple[Floats, Floats]:
    """States [N,6] and covariances [N,6,6] of people seen for the first time at places [N,3] with noise [N,3,3]."""
    state = np.concatenate([places, np.zeros_like(places)], -1)
    covariance = np.zeros((len(places), 6, 6))
    covariance[:, :3, :3] = noise
    covariance[:, 3:, 3:] = speed_m_s**2 * np.eye(3)
    return state, covariance


def predicted(
    state: Floats, covariance: Floats, dt: Floats, speed_m_s: float, persistence_s: float
) -> tuple[Floats, Floats]:
    """States [T,6] and covariances [T,6,6] dt [T] s later. Exact: two steps give what one over both intervals gives."""
    kept = np.exp(-dt / persistence_s)
    travel = persistence_s * (1 - kept)
    F = _blocks(np.ones_like(dt), travel, np.zeros_like(dt), kept)
    variance = speed_m_s**2
    # Catastrophic cancellation below a millisecond or so may leave a tiny negative number.
    place = np.maximum(persistence_s**2 * (2 * dt / persistence_s - 3 + 4 * kept - kept**2), 0.0)
    Q = variance * _blocks(place, travel * (1 - kept), travel * (1 - kept), 1 - kept**2)
    return np.einsum("tij,tj->ti", F, state), F @ covariance @ F.transpose(0, 2, 1) + Q


def corrected(state: Floats, covariance: Floats, places: Floats, noise: Floats) -> tuple[Floats, Floats]:
    """Predicted states [T,6] after people were seen at places [T,3] with noise [T,3,3] (Kalman; Joseph form)."""
    S = covariance[:, :3, :3] + noise
    gain = (inverse(S) @ covariance[:, :3, :]).transpose(0, 2, 1)
    left = np.broadcast_to(np.eye(6), covariance.shape).copy()
    left[:, :, :3] -= gain
    state = state + np.einsum("tij,tj->ti", gain, places - state[:, :3])
    return state, left @ covariance @ left.transpose(0, 2, 1) + gain @ noise @ gain.transpose(0, 2, 1)


def viewing_noise(places: Floats, lateral: Floats, depth: Floats) -> Floats:
    """Covariances [N,3,3] m² of places [N,3] m known to depth [N] m along the viewing ray and lateral [N] m across."""
    rays = places / np.maximum(np.linalg.norm(places, axis=-1, keepdims=True), 1e-9)
    along = rays[:, :, None] * rays[:, None, :]
    return (lateral**2)[:, None, None] * (np.eye(3) - along) + (depth**2)[:, None, None] * along


def _blocks(xx: Floats, xv: Floats, vx: Floats, vv: Floats) -> Floats:
    """[T,6,6] of four multiples of the 3x3 identity."""
    matrices = np.zeros((len(xx), 6, 6))
    place, velocity = np.arange(3), np.arange(3, 6)
    matrices[:, place, place] = xx[:, None]
    matrices[:, place, velocity] = xv[:, None]
    matrices[:, velocity, place] = vx[:, None]
    matrices[:, velocity, velocity] = vv[:, None]
    return matrices
