"""Track ids over time: crossing, absence, memory."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from poses_for_tests import pose_at

from metrabs_ros.tracking import Tracker


def ids(tracker: Tracker, places: list[tuple[float, float, float]], stamp_s: float) -> list[int]:
    tracked = tracker.update([pose_at(place) for place in places], stamp_s)
    for pose, place in zip(tracked, places, strict=True):
        np.testing.assert_array_equal(pose.joints3d, pose_at(place).joints3d)
    return [pose.track_id for pose in tracked]


def test_ids_count_from_one_in_the_order_of_the_poses() -> None:
    assert ids(Tracker(), [(0, 0, 3), (2, 0, 4), (-2, 0, 5)], 0.0) == [1, 2, 3]


def test_ids_survive_a_crossing_and_a_shuffled_order() -> None:
    tracker = Tracker()
    assert ids(tracker, [(-2, 0, 3), (2, 0, 4.5)], 0.0) == [1, 2]
    for frame in range(1, 40):
        x = -2 + 0.1 * frame
        walkers = [(x, 0.0, 3.0), (-x, 0.0, 4.5)]
        order = [0, 1] if frame % 3 else [1, 0]
        assert ids(tracker, [walkers[i] for i in order], frame / 30) == [i + 1 for i in order]


def test_a_person_who_was_away_for_a_moment_keeps_their_id() -> None:
    tracker = Tracker(memory_s=1.0)
    assert ids(tracker, [(0, 0, 3), (2, 0, 3)], 0.0) == [1, 2]
    assert ids(tracker, [(2.1, 0, 3)], 0.4) == [2]
    assert ids(tracker, [(0.2, 0, 3), (2.2, 0, 3)], 0.9) == [1, 2]


def test_a_person_who_was_away_for_long_is_new() -> None:
    tracker = Tracker(memory_s=1.0)
    assert ids(tracker, [(0, 0, 3)], 0.0) == [1]
    assert ids(tracker, [], 0.5) == []
    assert ids(tracker, [(0, 0, 3)], 1.01) == [2]


def test_nobody_jumps_across_the_room() -> None:
    tracker = Tracker()
    assert ids(tracker, [(-2, 0, 3)], 0.0) == [1]
    assert ids(tracker, [(2, 0, 3)], 0.033) == [2]
    assert ids(tracker, [(-2, 0, 3), (2, 0, 3)], 0.066) == [1, 2]


def test_after_a_reset_everybody_is_new_and_no_id_is_used_twice() -> None:
    tracker = Tracker()
    assert ids(tracker, [(0, 0, 3), (1, 0, 3)], 5.0) == [1, 2]
    tracker.reset()
    assert tracker.seen_since(-1.0) == []
    assert ids(tracker, [(0, 0, 3)], 0.0) == [3]


def test_who_was_seen_lately() -> None:
    tracker = Tracker(memory_s=1.0)
    ids(tracker, [(0, 0, 3), (2, 0, 3)], 0.0)
    ids(tracker, [(2, 0, 3)], 0.5)
    assert [pose.track_id for pose in tracker.seen_since(0.0)] == [1, 2]
    assert [pose.track_id for pose in tracker.seen_since(0.3)] == [2]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_no_two_people_share_an_id(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tracker = Tracker()
    for frame in range(10):
        places = [tuple(place) for place in rng.uniform([-2, -1, 1], [2, 1, 6], (rng.integers(0, 6), 3))]
        found = ids(tracker, places, frame / 10)
        assert len(set(found)) == len(found)
        assert all(track_id > 0 for track_id in found)
