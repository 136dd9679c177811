"""Filters over time for the joints of tracked people.

Both filters work on every joint by itself, on all joints of all people at once, in the camera's optical frame. Each
joint has its own clock: a joint that was missing (NaN) for a while goes on with the interval since it was last seen,
and starts anew after ``restart_s``. A missing joint stays missing in the result; nothing is made up. A stamp that
repeats changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.errors import InputError
from metrabs_ros.ranges import check_ranges, ranged

Floats = NDArray[np.float64]

METHODS = ("none", "one_euro", "kalman")


@dataclass(frozen=True)
class SmoothingParams:
    """How joints are smoothed. Raises InputError for values outside their range.

    kalman suits people who move fast; one_euro is calmer, but a jump's arms trail behind by half their length.
    The defaults of both filters meet, at 30 frames/s, a third of the jitter of somebody who stands still and less than
    50 ms of lag at 1 m/s, on the noise that was measured of an engine (tests/test_smoothing.py prints the figures).
    """

    method: str = "none"
    restart_s: float = ranged(0.5, 0.0, 60.0, "Seconds after which a joint that was not seen starts anew.")
    min_cutoff_hz: float = ranged(0.15, 1e-3, 1e3, "One Euro: cut-off frequency of a joint at rest, Hz.")
    beta: float = ranged(1.5, 0.0, 1e3, "One Euro: Hz by which the cut-off rises with each m/s.")
    speed_cutoff_hz: float = ranged(0.25, 1e-3, 1e3, "One Euro: cut-off frequency of the speed, Hz.")
    acceleration: float = ranged(
        0.01, 1e-3, 1e3, "Kalman: what a calm joint's velocity changes by within a second, m/s."
    )
    agility_s: float = ranged(
        0.1, 1e-3, 10.0, "Kalman: seconds over which a joint must differ from its prediction to be followed faster."
    )
    jitter_share: float = ranged(
        0.6, 1e-3, 1.0, "Kalman: part of the uncertainty that changes from frame to frame; the rest is lasting bias."
    )
    unknown_uncertainty: float = ranged(
        0.02, 1e-4, 1.0, "Kalman: uncertainty of a joint that comes without, as a part of its distance, m/m."
    )
    most_uncertainty: float = ranged(
        0.05, 1e-4, 1.0, "Kalman: what an uncertainty has above this part of the distance is lasting bias, m/m."
    )

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"The smoothing method must be one of {', '.join(METHODS)}, got {self.method!r}.")
        check_ranges(self)


@dataclass(frozen=True, eq=False)
class Measured:
    """N people with J joints at one moment: joints3d [N,J,3] m, NaN where missing; uncertainty [N,J] m, NaN unknown."""

    joints3d: Floats
    uncertainty: Floats
    stamp_s: float


class Filter(Protocol):
    """State arrays in, state arrays out; the first is the filtered joints [N,J,3], ``stamps`` [N,J] their clocks."""

    def begun(self, now: Measured) -> dict[str, Floats]:
        """The state of joints that are seen for the first time."""

    def advanced(self, state: dict[str, Floats], dt: Floats, now: Measured) -> dict[str, Floats]:
        """The state after a measurement dt [N,J,1] s later."""


@dataclass(frozen=True)
class OneEuro:
    """Casiez, Roussel, Vogel 2012, "1€ Filter", algorithm 1, with one cut-off for the three coordinates of a joint.

    The cut-off follows the joint's speed, the length of the filtered derivative, so that paths are not bent.
    """

    params: SmoothingParams

    def begun(self, now: Measured) -> dict[str, Floats]:
        return {"joints3d": now.joints3d, "velocity": np.zeros_like(now.joints3d)}

    def advanced(self, state: dict[str, Floats], dt: Floats, now: Measured) -> dict[str, Floats]:
        step = now.joints3d - state["joints3d"]
        with np.errstate(divide="ignore", invalid="ignore"):
            derivative = np.where(dt > 0, step / dt, 0.0)
        velocity = state["velocity"] + _weight(dt, self.params.speed_cutoff_hz) * (derivative - state["velocity"])
        speed = np.linalg.norm(velocity, axis=-1, keepdims=True)
        cutoff_hz = self.params.min_cutoff_hz + self.params.beta * speed
        return {"joints3d": state["joints3d"] + _weight(dt, cutoff_hz) * step, "velocity": velocity}


# Depth along the viewing ray is so many times less certain than place across it.
_DEPTH_RATIO = 3.0
# A calm joint's squared innovation is 1 on average; from here on it is not noise.
_SURPRISE = 2.0


@dataclass(frozen=True)
class Kalman:
    """A constant-velocity Kalman filter per joint: white acceleration, Bar-Shalom et al. 2001, section 6.2.2.

    A joint's uncertainty is what its depth is uncertain by; across the viewing ray it is a third of that. So every
    joint has two covariances, along and across, of position and velocity [N,J,2], and the ray is taken as fixed from
    one frame to the next. Where the innovations of a joint stay larger than its covariance explains, the predicted
    covariance is raised until it does (strong tracking: Zhou and Frank 1996): a calm joint is smoothed much, and one
    that starts to move is followed.
    """

    params: SmoothingParams

    def begun(self, now: Measured) -> dict[str, Floats]:
        noise = self._noise(now)
        return {
            "joints3d": now.joints3d,
            "velocity": np.zeros_like(now.joints3d),
            "P_xx": noise,
            "P_xv": np.zeros_like(noise),
            "P_vv": np.ones_like(noise),
            "surprise": np.ones_like(noise),
        }

    def advanced(self, state: dict[str, Floats], dt: Floats, now: Measured) -> dict[str, Floats]:
        noise = self._noise(now)
        q = self.params.acceleration**2
        predicted = state["joints3d"] + dt * state["velocity"]
        P_xx = state["P_xx"] + 2 * dt * state["P_xv"] + dt**2 * state["P_vv"] + q * dt**3 / 3
        P_xv = state["P_xv"] + dt * state["P_vv"] + q * dt**2 / 2
        P_vv = state["P_vv"] + q * dt

        innovation = now.joints3d - predicted
        ray = predicted / np.maximum(np.linalg.norm(predicted, axis=-1, keepdims=True), 1e-9)
        depth = (innovation * ray).sum(-1, keepdims=True)
        along, across = depth * ray, innovation - depth * ray
        squared = np.concatenate([depth**2, (across**2).sum(-1, keepdims=True) / 2], -1)
        S = P_xx + noise
        surprise = state["surprise"] + (1 - np.exp(-dt / self.params.agility_s)) * (squared / S - state["surprise"])
        raised = np.maximum(1.0, (surprise / _SURPRISE * S - noise) / P_xx)
        P_xx, P_xv, P_vv = raised * P_xx, raised * P_xv, raised * P_vv

        gain_x, gain_v = P_xx / (P_xx + noise), P_xv / (P_xx + noise)
        return {
            "joints3d": predicted + gain_x[..., :1] * along + gain_x[..., 1:] * across,
            "velocity": state["velocity"] + gain_v[..., :1] * along + gain_v[..., 1:] * across,
            "P_xx": (1 - gain_x) * P_xx,
            "P_xv": (1 - gain_x) * P_xv,
            "P_vv": P_vv - gain_v * P_xv,
            "surprise": surprise,
        }

    def _noise(self, now: Measured) -> Floats:
        """[N,J,2] m², along and across the ray."""
        distance = np.linalg.norm(now.joints3d, axis=-1)
        unknown = self.params.unknown_uncertainty * distance
        told = np.minimum(now.uncertainty, self.params.most_uncertainty * distance)
        sigma = self.params.jitter_share * np.where(np.isfinite(told), told, unknown)
        return np.maximum(np.stack([sigma, sigma / _DEPTH_RATIO], -1), 1e-4) ** 2


_FILTERS: dict[str, type[OneEuro] | type[Kalman]] = {"one_euro": OneEuro, "kalman": Kalman}


class Smoother:
    """Filters the joints of people by their track ids; ``method`` none hands them back as they are."""

    def __init__(self, params: SmoothingParams | None = None) -> None:
        self.params = params or SmoothingParams()
        self._filter = _FILTERS[self.params.method](self.params) if self.params.method != "none" else None
        self._known: dict[int, dict[str, Floats]] = {}

    def smoothed(self, track_ids: Sequence[int], joints3d: Floats, uncertainty: Floats, stamp_s: float) -> Floats:
        """The joints [N,J,3] m of N people, NaN where missing, filtered; uncertainty [N,J] m, NaN where unknown.

        The result is float64 and new; with method none it is ``joints3d`` itself.
        """
        if self._filter is None or not len(joints3d):
            return joints3d
        now = Measured(np.asarray(joints3d, np.float64), np.asarray(uncertainty, np.float64), stamp_s)
        first = self._filter.begun(now)
        first["stamp_s"] = np.full(now.joints3d.shape[:2] + (1,), stamp_s)
        nothing = {name: np.full(values.shape[1:], np.nan) for name, values in first.items()}
        people = [self._known.get(track_id, nothing) for track_id in track_ids]
        before = {name: np.stack([person[name] for person in people]) for name in first}

        dt = stamp_s - before["stamp_s"]
        seen = np.isfinite(now.joints3d).all(-1, keepdims=True)
        known = (dt >= 0) & (dt <= self.params.restart_s)
        after = self._filter.advanced(before, dt, now) | {"stamp_s": first["stamp_s"]}
        state = {
            name: np.where(seen & ~known, first[name], np.where(seen & (dt > 0), after[name], before[name]))
            for name in first
        }
        for row, track_id in enumerate(track_ids):
            self._known[track_id] = {name: values[row] for name, values in state.items()}
        self._forget(stamp_s)
        return np.where(seen, state["joints3d"], np.nan)

    def reset(self) -> None:
        """Forget everybody."""
        self._known.clear()

    def _forget(self, stamp_s: float) -> None:
        oldest = stamp_s - self.params.restart_s
        self._known = {i: state for i, state in self._known.items() if np.nanmax(state["stamp_s"]) >= oldest}


def _weight(dt: Floats, cutoff_hz: float | Floats) -> Floats:
    """The weight of a new sample in an exponential low-pass, 1 / (1 + tau / dt) with tau = 1 / (2 pi f)."""
    turns = 2 * np.pi * cutoff_hz * dt
    return turns / (1 + turns)
