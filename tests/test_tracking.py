"""Track ids over time: who crosses, hides, leaves and comes back; births and deaths; time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from poses_for_tests import pose_at
from walks_for_tests import Seen, Walker, crossing, crowd, every, hidden, id_switches, seen_by_camera, straight

from metrabs_ros.errors import InputError
from metrabs_ros.pose import Pose3D
from metrabs_ros.tracking import Tracker, TrackingParams

Place = tuple[float, float, float]
SEEDS = range(6)


def ids(tracker: Tracker, places: Sequence[Place], stamp_s: float, score: float = 0.9) -> list[int]:
    poses = [pose_at(place, score) for place in places]
    tracked = tracker.update(poses, stamp_s)
    kept = [pose.joints3d for pose in poses]
    assert all(any(pose.joints3d is joints3d for joints3d in kept) for pose in tracked)
    return [pose.track_id for pose in tracked]


def ids_of_people(frames: Sequence[Seen], tracker: Tracker) -> dict[int, set[int]]:
    """All ids that each person ever had."""
    found: dict[int, set[int]] = {}
    for frame in frames:
        for tracked in tracker.update(frame.poses, frame.stamp_s):
            (who,) = [w for w, p in zip(frame.who, frame.poses, strict=True) if p.joints3d is tracked.joints3d]
            found.setdefault(who, set()).add(tracked.track_id)
    return found


# --- who is who -------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rate_hz", [8, 30])
def test_two_people_cross_one_behind_the_other(seed: int, rate_hz: float) -> None:
    """The farther one is hidden for a moment; noise of a real engine, intervals that vary, a tenth not found."""
    rng = np.random.default_rng(seed)
    frames = seen_by_camera(crossing(rng), every(rate_hz, 3, rng), rng, missed=0.1)
    assert any(len(frame.who) == 1 for frame in frames)
    found = ids_of_people(frames, Tracker())
    assert [len(found[who]) for who in (0, 1)] == [1, 1]


@pytest.mark.parametrize("seed", SEEDS)
def test_two_people_hide_for_a_second_while_they_walk_on(seed: int) -> None:
    rng = np.random.default_rng(seed)
    speeds = rng.uniform([0.5, -0.4], [1.2, 0.4])
    people = [
        Walker(hidden(straight((-1.2, 0, 4), (speeds[0], 0, 0.2)), 0.8, 1.8), np.pi / 2, 1.0),
        Walker(hidden(straight((0.4, 0, 5.5), (speeds[1], 0, 0)), 1.0, 2.0)),
    ]
    found = ids_of_people(seen_by_camera(people, every(30, 3, rng), rng), Tracker())
    assert found == {0: found[0], 1: found[1]}
    assert [len(found[who]) for who in (0, 1)] == [1, 1]


def leaving_and_coming_back(away_s: float) -> Walker:
    def place(t: float) -> Place | None:
        if t < 1.5:
            return 0.5 + t, 0.0, 3.5
        return None if t < 1.5 + away_s else (2.0 - (t - 1.5 - away_s), 0.0, 3.5)

    return Walker(place, np.pi / 2, 1.0)


@pytest.mark.parametrize(("forget_s", "is_same"), [(3.0, True), (1.5, False)])
def test_who_leaves_and_comes_back_within_the_time_is_the_same(forget_s: float, is_same: bool) -> None:
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        people = [leaving_and_coming_back(2.2), Walker(straight((-1, 0, 4), (0.1, 0, 0)))]
        found = ids_of_people(seen_by_camera(people, every(30, 5), rng), Tracker(TrackingParams(forget_s=forget_s)))
        assert len(found[0]) == (1 if is_same else 2)
        assert len(found[1]) == 1


def test_a_crowd_with_ghosts_and_irregular_frames() -> None:
    """Five people for 10 s who hide each other, frames at 7 to 60 Hz, 5 % not found, a ghost in every tenth frame.

    The tracker that went by the nearest pose alone changed ids or named ghosts 29 to 38 times in each of these.
    """
    switches = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        frames = seen_by_camera(crowd(rng, 5, 10), every(20, 10, rng), rng, missed=0.05, ghosts=0.1)
        assert sum(who < 0 for frame in frames for who in frame.who) > 10
        switches.append(id_switches(frames, Tracker().update))
    print("id switches per room:", switches)
    assert np.mean(switches) <= 2


def test_depth_may_jump_where_the_place_across_may_not() -> None:
    """One camera's depth is several times less certain, and the more the farther somebody is."""
    along, across = Tracker(), Tracker()
    assert ids(along, [(0, 0, 6)], 0.0) == ids(across, [(0, 0, 6)], 0.0) == [1]
    assert ids(along, [(0, 0, 6.9)], 0.03) == [1]
    assert ids(across, [(0.9, 0, 6)], 0.03) == [2]
    near = Tracker()
    assert ids(near, [(0, 0, 1.5)], 0.0) == [1]
    assert ids(near, [(0, 0, 2.4)], 0.03) == [2]


def test_the_sure_one_wins_over_one_who_could_be_anywhere() -> None:
    """One walks on; of another, who has been away for two seconds, a larger area is left that holds the same place."""
    tracker = Tracker()
    assert ids(tracker, [(0, 0, 4), (0.6, 0, 4)], 0.0) == [1, 2]
    for frame in range(1, 60):
        assert ids(tracker, [(0, 0, 4)], frame / 30) == [1]
    assert ids(tracker, [(0.25, 0, 4)], 2.0) == [1]


def test_the_gate_grows_with_the_time_unseen() -> None:
    for gap_s, expected in ((0.03, 2), (1.0, 1)):
        tracker = Tracker()
        assert ids(tracker, [(0, 0, 4)], 0.0) == [1]
        assert ids(tracker, [(1.2, 0, 4)], gap_s) == [expected]


def test_the_gate_grows_with_a_poses_own_uncertainty() -> None:
    def seen(z: float, uncertainty: float) -> Pose3D:
        pose = pose_at((0, 0, z))
        return Pose3D(pose.box, pose.score, pose.joints3d, pose.joints2d, np.full(len(pose.joints3d), uncertainty))

    for uncertainty, expected in ((0.02, 2), (0.5, 1)):
        tracker = Tracker()
        assert tracker.update([seen(4, uncertainty)], 0.0)[0].track_id == 1
        assert tracker.update([seen(6, uncertainty)], 0.03)[0].track_id == expected


def test_nobody_jumps_across_the_room() -> None:
    tracker = Tracker()
    assert ids(tracker, [(-2, 0, 3)], 0.0) == [1]
    assert ids(tracker, [(2, 0, 3)], 0.033) == [2]
    assert ids(tracker, [(-2, 0, 3), (2, 0, 3)], 0.066) == [1, 2]


def test_missing_joints_do_not_matter() -> None:
    """Each joint is missing in three frames of ten; somebody of whom none is there is left out."""
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        frames = seen_by_camera(crossing(rng), every(30, 3), rng, missing_joints=0.3)
        found = ids_of_people(frames, Tracker())
        assert [len(found[who]) for who in (0, 1)] == [1, 1]
    tracker = Tracker()
    nobody = pose_at((0, 0, 3))
    nobody.joints3d[:] = np.nan
    assert tracker.update([nobody], 0.0) == []
    assert [pose.track_id for pose in tracker.update([nobody, pose_at((0, 0, 3))], 0.1)] == [1]


def test_sixty_people_keep_their_ids() -> None:
    places = np.array([(x, 0.0, z) for x in np.linspace(-6, 6, 10) for z in np.linspace(3, 13, 6)])
    rng = np.random.default_rng(0)
    tracker = Tracker()
    first = ids(tracker, [tuple(place) for place in places], 0.0)
    assert first == list(range(1, 61))
    for frame in range(1, 6):
        order = rng.permutation(60)
        moved = places + [0.03 * frame, 0, 0]
        assert ids(tracker, [tuple(moved[i]) for i in order], frame / 30) == [first[i] for i in order]


# --- births and deaths ------------------------------------------------------------------------------------------------


def test_a_ghost_of_one_frame_never_has_an_id_and_uses_none_up() -> None:
    tracker = Tracker()
    assert ids(tracker, [(0, 0, 3)], 0.0, score=0.6) == []
    assert ids(tracker, [], 0.03) == []
    assert ids(tracker, [(0, 0, 3)], 0.5, score=0.6) == []
    assert ids(tracker, [(2, 0, 3)], 0.6) == [1]


def test_somebody_of_a_low_score_has_an_id_after_three_frames_at_any_rate() -> None:
    for interval_s in (0.02, 1.0):
        tracker = Tracker()
        found = [ids(tracker, [(0, 0, 3)], i * interval_s, score=0.6) for i in range(4)]
        assert found == [[], [], [1], [1]]


def test_who_has_an_id_keeps_it_however_low_the_score() -> None:
    tracker = Tracker()
    assert ids(tracker, [(0, 0, 3)], 0.0) == [1]
    assert [ids(tracker, [(0, 0, 3)], 0.03 * i, score=0.3) for i in range(1, 5)] == [[1]] * 4
    assert [ids(tracker, [(0, 0, 3)], 1.0 * i, score=0.3) for i in range(1, 5)] == [[1]] * 4


def test_a_ghost_is_not_somebody_who_is_hidden() -> None:
    """Near where somebody left: only one who is seen for long enough is them again."""
    tracker = Tracker()
    assert ids(tracker, [(0, 0, 3)], 0.0) == [1]
    assert ids(tracker, [], 0.5) == []
    assert ids(tracker, [(0.3, 0, 3)], 1.0, score=0.6) == []
    assert ids(tracker, [(0.3, 0, 3)], 1.1, score=0.6) == []
    assert ids(tracker, [(0.3, 0, 3)], 1.2, score=0.6) == [1]


def test_without_hysteresis_everybody_has_an_id_at_once() -> None:
    assert ids(Tracker(TrackingParams(confirm_score=0.0)), [(0, 0, 3)], 0.0, score=0.01) == [1]
    assert ids(Tracker(TrackingParams(confirm_frames=1)), [(0, 0, 3)], 0.0, score=0.01) == [1]


def test_a_person_who_was_away_for_long_is_new() -> None:
    tracker = Tracker(TrackingParams(forget_s=1.0))
    assert ids(tracker, [(0, 0, 3), (2, 0, 3)], 0.0) == [1, 2]
    assert ids(tracker, [(2, 0, 3)], 0.5) == [2]
    assert ids(tracker, [(0, 0, 3), (2, 0, 3)], 1.01) == [3, 2]


def test_parameters_may_change_while_people_are_there() -> None:
    tracker = Tracker()
    assert ids(tracker, [(0, 0, 3)], 0.0) == [1]
    tracker.params = TrackingParams(forget_s=10.0)
    assert ids(tracker, [(0, 0, 3)], 9.0) == [1]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"forget_s": -1.0}, "forget_s must be a number from 0 to 600, got -1.0. It is: Seconds"),
        ({"forget_s": float("nan")}, "forget_s must be a number"),
        ({"confirm_frames": 0}, "confirm_frames must be a whole number from 1"),
        ({"confirm_frames": 2.5}, "whole number"),
        ({"confirm_score": "high"}, "got 'high'"),
        ({"persistence_s": True}, "got True"),
    ],
)
def test_parameters_out_of_range_are_refused(values: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        TrackingParams(**values)  # type: ignore[arg-type]


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_stamp_that_goes_back_starts_anew_and_can_be_known() -> None:
    tracker = Tracker()
    assert tracker.seconds_back(-100.0) == 0
    assert ids(tracker, [(0, 0, 3)], 5.0) == [1]
    assert tracker.seconds_back(5.0) == 0
    assert tracker.seconds_back(2.0) == 3.0
    assert ids(tracker, [(0, 0, 3)], 2.0) == [2]
    assert tracker.seconds_back(2.1) == 0
    assert ids(tracker, [(0, 0, 3)], 2.1) == [2]


def test_a_stamp_that_repeats_is_no_reason_to_forget() -> None:
    tracker = Tracker()
    assert ids(tracker, [(0, 0, 3)], 5.0) == ids(tracker, [(0.01, 0, 3)], 5.0) == [1]


@pytest.mark.parametrize("stamp_s", [float("nan"), float("inf")])
def test_a_stamp_that_is_none_is_refused(stamp_s: float) -> None:
    with pytest.raises(InputError, match="A stamp must be a finite number of seconds"):
        Tracker().update([], stamp_s)


def test_after_a_reset_everybody_is_new_and_no_id_is_used_twice() -> None:
    tracker = Tracker()
    assert ids(tracker, [(0, 0, 3), (1, 0, 3)], 5.0) == [1, 2]
    tracker.reset()
    last = tracker.seen_since(-1.0)
    assert len(last.poses) == len(last.is_named) == len(last.is_current) == 0
    assert ids(tracker, [(0, 0, 3)], 0.0) == [3]


def test_who_was_seen_lately_with_and_without_an_id() -> None:
    tracker = Tracker()
    ids(tracker, [(0, 0, 3), (2, 0, 3)], 0.0)
    tracker.update([pose_at((2, 0, 3)), pose_at((-2, 0, 5), 0.6)], 0.5)
    assert len(tracker.seen_since(0.0).poses) == 3
    last = tracker.seen_since(0.3)
    assert [pose.score for pose in last.poses] == [0.9, 0.6]
    assert list(last.is_named) == [True, False]
    assert list(last.is_current) == [True, True]
    tracker.update([pose_at((2, 0, 3))], 0.6)
    last = tracker.seen_since(0.3)
    assert dict(zip(last.is_named, last.is_current, strict=True)) == {True: True, False: False}


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_a_second_look_at_somebody_known_has_no_id_in_one_frame(scale: float) -> None:
    """The same body, taken for one nearer or farther: sure of itself and outside every gate."""
    tracker = Tracker()
    assert ids(tracker, [(0, 0, 6)], 0.0) == [1]
    assert ids(tracker, [(0, 0, 6), (0.1 * scale, 0, 6 * scale)], 0.1) == [1]
    assert ids(tracker, [(0, 0, 6)], 0.2) == [1]


def test_who_steps_out_from_behind_somebody_has_an_id_after_a_few_frames() -> None:
    tracker = Tracker()
    assert ids(tracker, [(0, 0, 3)], 0.0) == [1]
    steps = [ids(tracker, [(0, 0, 3), (0.1 + 0.05 * k, 0, 4.5)], 0.1 * (k + 1)) for k in range(4)]
    assert steps == [[1], [1], [1, 2], [1, 2]]


def test_somebody_new_beside_somebody_known_has_an_id_at_once() -> None:
    tracker = Tracker()
    assert ids(tracker, [(0, 0, 3)], 0.0) == [1]
    assert ids(tracker, [(0, 0, 3), (0.7, 0, 3)], 0.1) == [1, 2]


def test_two_who_are_new_together_have_ids_at_once_even_one_before_the_other() -> None:
    assert ids(Tracker(), [(0, 0, 3), (0.2, 0, 4.5)], 0.0) == [1, 2]


def test_who_is_missing_since_when() -> None:
    tracker = Tracker()
    assert tracker.missing_since(-1.0) == []
    tracker.update([pose_at((0, 0, 3)), pose_at((2, 0, 3), 0.8), pose_at((-2, 0, 5), 0.6)], 0.0)
    assert tracker.missing_since(-1.0) == []
    tracker.update([pose_at((0, 0, 3))], 0.1)
    assert [pose.score for pose in tracker.missing_since(0.0)] == [0.8]
    assert tracker.missing_since(0.05) == []


NOT_VOUCHED = np.zeros(1, bool)


def test_what_only_a_last_pose_speaks_for_is_nobody_new() -> None:
    tracker = Tracker()
    assert tracker.update([pose_at((0, 0, 6))], 0.0, NOT_VOUCHED) == []
    assert ids(tracker, [(0, 0, 6)], 0.1) == [1]
    assert tracker.update([pose_at((0, 0, 1.5))], 0.2, NOT_VOUCHED) == []
    assert len(tracker.seen_since(0.0).poses) == 1
    assert [tracked.track_id for tracked in tracker.update([pose_at((0, 0, 6))], 0.3, NOT_VOUCHED)] == [1]


@pytest.mark.parametrize("factor", [0.93, 1.08])
def test_nobody_drifts_off_unless_vouched_for(factor: float) -> None:
    """Each step is within the gate; a pose that is too large asks for a crop that is too large, and so on."""
    drifting, vouched = Tracker(), Tracker()
    ids(drifting, [(0, 0, 6)], 0.0)
    ids(vouched, [(0, 0, 6)], 0.0)
    kept, alive = [], []
    for step in range(1, 11):
        pose = pose_at((0, 0, 6 * factor**step))
        kept += [bool(drifting.update([pose], step / 30, NOT_VOUCHED))]
        alive += [bool(vouched.update([pose], step / 30))]
    assert all(alive)
    assert kept[0]
    assert not any(kept[6:])


def test_who_walks_up_to_the_camera_unseen_by_the_detector_keeps_their_id() -> None:
    tracker = Tracker()
    ids(tracker, [(0, 0, 6)], 0.0)
    for frame in range(1, 46):
        pose = pose_at((0, 0, 6 - 1.4 * frame / 15))
        assert [tracked.track_id for tracked in tracker.update([pose], frame / 15, NOT_VOUCHED)] == [1]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_no_two_people_share_an_id_whatever_comes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tracker = Tracker()
    ever: set[int] = set()
    stamp_s = 0.0
    for _ in range(10):
        places = [tuple(place) for place in rng.uniform([-2, -1, 1], [2, 1, 6], (rng.integers(0, 6), 3))]
        poses = [pose_at(place, rng.uniform(0.3, 1)) for place in places]
        for pose in poses:
            pose.joints3d[rng.uniform(size=len(pose.joints3d)) < rng.choice([0, 0.5, 1])] = np.nan
        before = tracker.seconds_back(stamp_s) > 0
        found = [pose.track_id for pose in tracker.update(poses, stamp_s)]
        assert len(set(found)) == len(found)
        assert all(track_id > 0 for track_id in found)
        assert not (before and ever & set(found))
        ever |= set(found)
        stamp_s += rng.choice([0.0, 0.03, 0.5, 4.0, -1.0])
