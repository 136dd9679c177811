"""A person's segment lengths: measured, steady, completed by proportions that are flagged as such."""

from __future__ import annotations

import numpy as np
import pytest
from urdf_for_tests import SEEN, joints_of, links_through_urdf

from metrabs_ros.body_model import JOINT_NAMES
from metrabs_ros.errors import InputError
from metrabs_ros.segment_lengths import SEGMENTS, LengthEstimator, SegmentLengths, segment_samples

TALL = SegmentLengths.from_height(1.9)


def standing(lengths: SegmentLengths = TALL) -> np.ndarray:
    return joints_of(links_through_urdf(lengths, np.zeros(len(JOINT_NAMES)), np.eye(4)))


def sample(joints: np.ndarray) -> np.ndarray:
    return segment_samples(joints[None], SEEN)[0]


def test_a_standing_person_has_the_lengths_they_were_built_with() -> None:
    found = SegmentLengths.from_joints(standing(), SEEN)
    assert found.measured == set(SEGMENTS)
    np.testing.assert_allclose(found.as_array(), TALL.as_array(), atol=2e-3)


def test_what_is_not_seen_follows_from_the_height_that_the_rest_tells() -> None:
    joints = standing()
    for name in ("left_ankle", "right_ankle", "left_wrist", "left_ear"):
        joints[SEEN.index(name)] = np.nan
    found = SegmentLengths.from_joints(joints, SEEN)
    assert set(SEGMENTS) - found.measured == {"shank", "neck", "head_up", "head_forward"}
    np.testing.assert_allclose(found.as_array(), TALL.as_array(), rtol=0.01)


def test_nobody_seen_is_an_adult_of_whom_nothing_was_measured() -> None:
    found = SegmentLengths.from_joints(np.full((4, len(SEEN), 3), np.nan), SEEN)
    assert found == SegmentLengths.from_height(1.65)
    assert SegmentLengths.from_joints(np.zeros((0, len(SEEN), 3)), SEEN) == found
    assert LengthEstimator().lengths == found


def test_wild_frames_do_not_move_the_median() -> None:
    rng = np.random.default_rng(0)
    frames = standing() + rng.normal(0, 0.01, (60, len(SEEN), 3))
    frames[::4] *= rng.uniform(0.3, 3, (15, 1, 1))
    found = SegmentLengths.from_joints(frames, SEEN)
    np.testing.assert_allclose(found.as_array(), TALL.as_array(), atol=0.015)


def test_lengths_stay_the_same_object_until_they_are_off_by_more_than_the_tolerance() -> None:
    rng = np.random.default_rng(1)
    estimator = LengthEstimator(memory=50, tolerance=0.015)
    changes = 0
    for _ in range(100):
        before = estimator.lengths
        changes += estimator.update(sample(standing() + rng.normal(0, 0.008, (len(SEEN), 3)))) is not before
    assert 1 <= changes <= 3
    np.testing.assert_allclose(estimator.lengths.as_array(), TALL.as_array(), atol=0.03)
    short = SegmentLengths.from_height(1.5)
    for _ in range(60):
        estimator.update(sample(standing(short)))
    np.testing.assert_allclose(estimator.lengths.as_array(), short.as_array(), atol=0.016)


def test_weights_decide_and_nothing_weighs_nothing() -> None:
    estimator = LengthEstimator(tolerance=0)
    for _ in range(5):
        estimator.update(sample(standing(SegmentLengths.from_height(1.5))), weight=0.1)
    estimator.update(sample(standing()), weight=1.0)
    np.testing.assert_allclose(estimator.lengths.as_array(), TALL.as_array(), atol=2e-3)
    kept = estimator.lengths
    estimator.update(sample(standing(SegmentLengths.from_height(0.8))), weight=0.0)
    estimator.update(sample(np.full((len(SEEN), 3), np.nan)))
    assert estimator.lengths is kept


def test_joints_on_one_point_measure_nothing() -> None:
    assert np.isnan(segment_samples(np.zeros((1, len(SEEN), 3)), SEEN)).all()


def test_what_cannot_be_used_is_refused_with_a_sentence() -> None:
    with pytest.raises(InputError, match="positive length"):
        SegmentLengths.from_height(-1)
    with pytest.raises(InputError, match="at least 1 frame"):
        LengthEstimator(memory=0)
    with pytest.raises(InputError, match="weight of a frame"):
        LengthEstimator().update(sample(standing()), weight=float("nan"))
    with pytest.raises(InputError, match="16 joints x 3"):
        SegmentLengths.from_joints(np.zeros((5, 7, 3)), SEEN)
