"""What the filters take away and what they cost: jitter, lag, gaps, and one joint after the other by the paper.

`python tests/test_smoothing.py` prints the figures.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from poses_for_tests import person
from walks_for_tests import BODY_NOISE_KEPT, noisy

from metrabs_ros.errors import InputError
from metrabs_ros.smoothing import Smoother, SmoothingParams

METHODS = ("one_euro", "kalman")
RATE_HZ = 30.0
JITTER_LESS, MOST_LAG_S = 3.0, 0.05
# What an engine says of its uncertainty, as a part of the distance; NaN: nothing.
UNCERTAINTIES = (math.nan, 0.03, 0.1)


def smoothed(params: SmoothingParams, stamps: np.ndarray, joints3d: np.ndarray, uncertainty: float = math.nan):
    """One person's joints [T,J,3] through a smoother."""
    smoother = Smoother(params)
    told = uncertainty * np.linalg.norm(joints3d, axis=-1)
    rows = zip(stamps, joints3d, told, strict=True)
    return np.stack([smoother.smoothed([1], joints[None], sigma[None], float(t))[0] for t, joints, sigma in rows])


def seen(truth: np.ndarray, seed: int = 0) -> np.ndarray:
    """Joints [T,J,3] with white noise on each and correlated noise on the whole body's depth."""
    rng = np.random.default_rng(seed)
    body = rng.normal(size=len(truth))
    for i in range(1, len(truth)):
        body[i] = BODY_NOISE_KEPT * body[i - 1] + math.sqrt(1 - BODY_NOISE_KEPT**2) * body[i]
    return noisy(truth, body, rng)


def walk(start: tuple[float, float, float], velocity: tuple[float, float, float], seconds: float = 8.0):
    """Stamps [T] and true joints [T,J,3]."""
    stamps = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return stamps, person() + np.array(start) + stamps[:, None, None] * np.array(velocity)


def jitter_m(joints3d: np.ndarray) -> float:
    """RMS distance of the joints from their mean over time, after two seconds."""
    later = joints3d[round(2 * RATE_HZ) :]
    return float(np.sqrt(((later - later.mean(0)) ** 2).sum(-1).mean()))


def shaking_m(joints3d: np.ndarray) -> float:
    """RMS distance from one frame to the next, after two seconds."""
    return float(np.sqrt((np.diff(joints3d[round(2 * RATE_HZ) :], axis=0) ** 2).sum(-1).mean()))


def standing(params: SmoothingParams, depth: float, uncertainty: float) -> tuple[np.ndarray, np.ndarray]:
    stamps, truth = walk((0, 0, depth), (0, 0, 0), 20.0)
    raw = seen(truth)
    return raw, smoothed(params, stamps, raw, uncertainty)


def lag_s(params: SmoothingParams, direction: tuple[float, float, float], uncertainty: float) -> float:
    """How far behind somebody who walks at 1 m/s is shown, after two seconds."""
    way = np.array(direction) / np.linalg.norm(direction)
    start = np.array((0, 0, 5.0)) - 4 * way * [1, 1, 0.5]
    stamps, truth = walk(tuple(start), tuple(way))
    behind = (truth - smoothed(params, stamps, seen(truth), uncertainty)) @ way
    return float(behind[round(2 * RATE_HZ) :].mean())


DIRECTIONS = ((1, 0, 0), (0, 0, 1), (0.7, 0, 0.7))


@pytest.mark.parametrize("uncertainty", UNCERTAINTIES)
@pytest.mark.parametrize("depth", [2.0, 4.0, 7.0])
@pytest.mark.parametrize("method", METHODS)
def test_who_stands_still_jitters_a_third(method: str, depth: float, uncertainty: float) -> None:
    raw, calm = standing(SmoothingParams(method), depth, uncertainty)
    assert jitter_m(raw) > JITTER_LESS * jitter_m(calm)
    assert shaking_m(raw) > JITTER_LESS * shaking_m(calm)
    assert np.linalg.norm((calm - raw).mean((0, 1))) < 0.01


@pytest.mark.parametrize("uncertainty", UNCERTAINTIES)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("method", METHODS)
def test_who_walks_is_shown_less_than_50_ms_late(
    method: str, direction: tuple[float, float, float], uncertainty: float
) -> None:
    assert abs(lag_s(SmoothingParams(method), direction, uncertainty)) < MOST_LAG_S


@pytest.mark.parametrize("method", METHODS)
def test_who_starts_and_stops_is_followed(method: str) -> None:
    stamps, truth = walk((-1, 0, 4), (0, 0, 0), 9.0)
    truth = truth + np.clip(stamps - 3, 0, 3)[:, None, None] * [1.0, 0, 0]
    off = (smoothed(SmoothingParams(method), stamps, seen(truth)) - truth)[..., 0].mean(1)
    assert np.abs(off).max() < 0.15
    assert np.abs(off[round(8 * RATE_HZ) :]).max() < 0.02


def test_one_euro_is_the_papers_algorithm() -> None:
    """Algorithm 1 of Casiez et al. 2012 written out for one coordinate; the joint moves along it only."""
    rng = np.random.default_rng(0)
    stamps = np.cumsum(rng.uniform(0.01, 0.1, 60))
    signal = np.cumsum(rng.normal(0, 0.05, 60)) + 3
    params = SmoothingParams("one_euro", min_cutoff_hz=0.7, beta=1.3, speed_cutoff_hz=0.9)

    def alpha(rate: float, cutoff: float) -> float:
        tau, te = 1 / (2 * math.pi * cutoff), 1 / rate
        return 1 / (1 + tau / te)

    expected, hat, hat_d = [], signal[0], 0.0
    expected.append(hat)
    for i in range(1, 60):
        rate = 1 / (stamps[i] - stamps[i - 1])
        d = (signal[i] - hat) * rate
        hat_d += alpha(rate, params.speed_cutoff_hz) * (d - hat_d)
        hat += alpha(rate, params.min_cutoff_hz + params.beta * abs(hat_d)) * (signal[i] - hat)
        expected.append(hat)
    joints3d = np.zeros((60, 1, 3))
    joints3d[:, 0, 2] = signal
    np.testing.assert_allclose(smoothed(params, stamps, joints3d)[:, 0, 2], expected, rtol=1e-12)


def test_kalman_trusts_the_uncertain_less() -> None:
    """Two joints with the same noise, of which one says that it is uncertain."""
    rng = np.random.default_rng(0)
    stamps = np.arange(300) / RATE_HZ
    raw = np.array([0, 0, 4.0]) + rng.normal(0, 0.02, (300, 2, 3))
    smoother = Smoother(SmoothingParams("kalman"))
    told = np.array([[0.02, 0.2]])
    calm = np.stack([smoother.smoothed([1], raw[i][None], told, float(stamps[i]))[0] for i in range(300)])
    assert jitter_m(calm[:, 1:]) < 0.7 * jitter_m(calm[:, :1])


@pytest.mark.parametrize("method", METHODS)
def test_irregular_frames_are_no_worse(method: str) -> None:
    """Somebody at constant speed, seen at 10 to 90 Hz."""
    rng = np.random.default_rng(1)
    stamps = np.cumsum(np.exp(rng.uniform(math.log(1 / 90), math.log(1 / 10), 300)))
    truth = person() + np.array([-3, 0, 4]) + 0.5 * stamps[:, None, None] * np.array([1.0, 0, 0])
    calm = smoothed(SmoothingParams(method), stamps, seen(truth))
    assert np.abs((truth - calm)[60:, :, 0].mean(1)).max() < 0.1
    assert np.abs((truth - calm)[60:, :, 0].mean()) / 0.5 < 0.08


@pytest.mark.parametrize("method", METHODS)
def test_a_stamp_that_repeats_changes_nothing(method: str) -> None:
    stamps, truth = walk((0, 0, 4), (0.5, 0, 0), 2.0)
    raw = seen(truth)
    twice = smoothed(SmoothingParams(method), np.repeat(stamps, 2), np.repeat(raw, 2, axis=0) + 0.0)
    np.testing.assert_array_equal(twice[0::2], twice[1::2])
    np.testing.assert_array_equal(twice[0::2], smoothed(SmoothingParams(method), stamps, raw))


@pytest.mark.parametrize("method", METHODS)
def test_a_joint_that_is_missing_for_a_while(method: str) -> None:
    """Missing in, missing out; the others do not notice; back soon it goes on, back late it starts anew."""
    stamps, truth = walk((0, 0, 4), (0, 0, 0), 4.0)
    raw = seen(truth)
    whole = smoothed(SmoothingParams(method), stamps, raw)
    for frames, goes_on in ((6, True), (30, False)):
        holed = raw.copy()
        holed[60 : 60 + frames, 3] = np.nan
        calm = smoothed(SmoothingParams(method), stamps, holed)
        assert np.isnan(calm[60 : 60 + frames, 3]).all()
        others = np.arange(raw.shape[1]) != 3
        np.testing.assert_array_equal(calm[:, others], whole[:, others])
        back = calm[60 + frames, 3] - holed[60 + frames, 3]
        assert bool(np.any(back)) == goes_on
        assert np.isfinite(calm[60 + frames :]).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_joint_that_is_first_missing_starts_when_it_is_seen(method: str) -> None:
    raw = np.repeat(person()[None] + [0, 0, 3], 5, axis=0)
    raw[:2, 0] = np.nan
    calm = smoothed(SmoothingParams(method), np.arange(5) / RATE_HZ, raw)
    np.testing.assert_allclose(calm, raw, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_people_are_filtered_each_by_themselves(method: str) -> None:
    """Whoever else is there, in whatever order, who leaves and comes."""
    stamps, truth = walk((0, 0, 4), (0.3, 0, 0), 1.0)
    alone = {i: smoothed(SmoothingParams(method), stamps, seen(truth, i) + i) for i in (1, 2, 3)}
    together = Smoother(SmoothingParams(method))
    rng = np.random.default_rng(0)
    for frame, stamp_s in enumerate(stamps):
        present = rng.permutation([1, 2, 3] if frame < 20 else [1, 3])
        joints3d = np.stack([(seen(truth, i) + i)[frame] for i in present])
        calm = together.smoothed(present.tolist(), joints3d, np.full(joints3d.shape[:2], np.nan), float(stamp_s))
        for row, track_id in enumerate(present):
            np.testing.assert_array_equal(calm[row], alone[int(track_id)][frame])


@pytest.mark.parametrize("method", METHODS)
def test_after_a_gap_a_reset_or_a_step_back_in_time_everything_starts_anew(method: str) -> None:
    here, there = person()[None] + [0, 0, 3], person()[None] + [2, 0, 5]
    unknown = np.full(here.shape[:2], np.nan)
    for stamp_s in (1.0 + SmoothingParams().restart_s + 0.01, 0.5):
        smoother = Smoother(SmoothingParams(method))
        smoother.smoothed([1], here, unknown, 1.0)
        np.testing.assert_allclose(smoother.smoothed([1], there, unknown, stamp_s), there)
    smoother = Smoother(SmoothingParams(method))
    smoother.smoothed([1], here, unknown, 1.0)
    smoother.reset()
    np.testing.assert_allclose(smoother.smoothed([1], there, unknown, 1.03), there)


def test_off_hands_back_what_came() -> None:
    joints3d = person()[None]
    smoother = Smoother(SmoothingParams("none"))
    for stamp_s in (0.0, 0.03):
        assert smoother.smoothed([1], joints3d, np.zeros((1, 16)), stamp_s) is joints3d
    for method in METHODS:
        assert Smoother(SmoothingParams(method)).smoothed([], joints3d[:0], np.zeros((0, 16)), 0.0).shape == (0, 16, 3)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(METHODS), st.integers(0, 2**32 - 1))
def test_whatever_comes_joints_are_where_they_were_seen_or_missing(method: str, seed: int) -> None:
    """Gaps, missing joints, standing stamps, leaps: nothing but finite joints within what was seen so far, or NaN."""
    rng = np.random.default_rng(seed)
    smoother = Smoother(SmoothingParams(method))
    stamp_s = 0.0
    for _ in range(25):
        stamp_s += rng.choice([0.0, 1e-6, 0.03, 0.4, 3.0])
        joints3d = rng.normal(0, 1, (2, 5, 3)) + [0, 0, 4]
        missing = rng.uniform(size=(2, 5)) < 0.3
        joints3d[missing] = np.nan
        told = np.where(rng.uniform(size=(2, 5)) < 0.5, np.nan, rng.uniform(0, 1, (2, 5)))
        calm = smoother.smoothed([1, 2], joints3d, told, stamp_s)
        assert (np.isnan(calm).all(-1) == missing).all()
        assert np.isfinite(calm[~missing]).all()
        assert np.abs(calm[~missing] - [0, 0, 4]).max() < 50


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"method": "average"}, "must be one of none, one_euro, kalman, got 'average'"),
        ({"min_cutoff_hz": 0.0}, "min_cutoff_hz must be a number from 0.001 to 1000, got 0.0"),
        ({"beta": float("inf")}, "beta must be a number"),
    ],
)
def test_parameters_out_of_range_are_refused(values: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SmoothingParams(**values)  # type: ignore[arg-type]


def figures() -> None:
    print("method    uncertainty  distance  jitter mm  smoothed mm  less by  frame to frame less by")
    for method in METHODS:
        for uncertainty in UNCERTAINTIES:
            for depth in (2.0, 4.0, 7.0):
                raw, calm = standing(SmoothingParams(method), depth, uncertainty)
                print(
                    f"{method:8}  {uncertainty:11.2f}  {depth:6.0f} m  {1e3 * jitter_m(raw):9.1f}  "
                    f"{1e3 * jitter_m(calm):11.1f}  {jitter_m(raw) / jitter_m(calm):7.1f}  "
                    f"{shaking_m(raw) / shaking_m(calm):22.1f}"
                )
            lags = ", ".join(f"{1e3 * lag_s(SmoothingParams(method), way, uncertainty):.0f}" for way in DIRECTIONS)
            print(f"{method:8}  {uncertainty:11.2f}  lag at 1 m/s across, away, both: {lags} ms")


if __name__ == "__main__":
    figures()
