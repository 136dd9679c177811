"""What is no pose, and who is there twice: each rule on both sides of its threshold."""

from __future__ import annotations

import numpy as np
import pytest
from poses_for_tests import SKELETON, person, pose_at

from metrabs_ros.model_spec import find_spec, load_spec
from metrabs_ros.plausibility import bones_possible, covers_box, in_front, kept_by_nms, views_agree
from metrabs_ros.pose import Pose3D
from metrabs_ros.skeleton import Skeleton
from metrabs_ros.typical_body import bone_lengths


def kept(*poses: Pose3D, is_known: list[bool] | None = None, is_doubtful: list[bool] | None = None) -> list[int]:
    joints3d, joints2d = (np.stack([getattr(pose, name) for pose in poses]) for name in ("joints3d", "joints2d"))
    known, doubtful = (None if flags is None else np.array(flags) for flags in (is_known, is_doubtful))
    return kept_by_nms(joints3d, joints2d, np.array([pose.score for pose in poses]), known, doubtful).tolist()


# --- one pose by itself -----------------------------------------------------------------------------------------------


def test_a_body_is_before_the_camera_and_finite() -> None:
    ahead, behind = person() + [0, 0, 3], person() - [0, 0, 3]
    broken = ahead.copy()
    broken[3, 1] = np.nan
    endless = ahead.copy()
    endless[0, 2] = np.inf
    assert in_front(np.stack([ahead, behind, broken, endless, person()])).tolist() == [True, False, False, False, False]
    assert in_front(np.zeros((0, 16, 3))).shape == (0,)


@pytest.mark.parametrize(
    ("typical_m", "length_m", "is_possible"),
    [
        (0.4, 0.4, True),
        (0.4, 1.19, True),
        (0.4, 1.21, False),
        (0.4, 0.041, True),
        (0.4, 0.039, False),
        # Three times, but not off by more than 0.3 m; a tenth, but a short bone to begin with.
        (0.1, 0.39, True),
        (0.1, 0.41, False),
        (0.3, 0.0, True),
        (0.34, 0.0, False),
        (np.nan, 9.0, True),
    ],
)
def test_bones_have_possible_lengths(typical_m: float, length_m: float, is_possible: bool) -> None:
    joints3d = np.zeros((2, 3, 3)) + [0, 0, 3]
    joints3d[1, 1, 0] = length_m
    joints3d[0, 1, 0] = 0.4 if np.isnan(typical_m) else typical_m
    joints3d[:, 2] = joints3d[:, 1] + [0, 0.3, 0]
    edges = np.array([[0, 1], [1, 2]])
    assert bones_possible(joints3d, edges, np.array([typical_m, 0.3])).tolist() == [True, is_possible]
    assert bones_possible(joints3d[:0], edges, np.array([typical_m, 0.3])).shape == (0,)


def test_people_of_all_sizes_have_possible_bones_and_stretched_ones_do_not() -> None:
    edges, typical = np.array(SKELETON.edges), bone_lengths(SKELETON)
    assert np.isfinite(typical).all()
    rng = np.random.default_rng(0)
    people = np.stack([person(rng) * size for size in (0.5, 1.0, 1.3) for _ in range(20)])
    assert bones_possible(people, edges, typical).all()
    assert not bones_possible(people * 8, edges, typical).any()


def test_typical_bones_are_known_of_every_engine_that_comes_along_and_are_a_bodys() -> None:
    skeleton = load_spec(find_spec("blazepose_full")).skeleton
    lengths = dict(zip(skeleton.edges, bone_lengths(skeleton), strict=True))
    assert np.isfinite(list(lengths.values())).all()
    named = {(skeleton.joint_names[a], skeleton.joint_names[b]): length for (a, b), length in lengths.items()}
    for pair, expected in {("left_hip", "left_knee"): 0.42, ("right_shoulder", "right_elbow"): 0.31}.items():
        assert named[pair] == pytest.approx(expected, abs=0.02)
    assert np.isnan(bone_lengths(Skeleton.from_names(["tail", "left_hip"], [("tail", "left_hip")]))).all()


def test_views_agree_on_a_quarter_of_the_joints() -> None:
    spread = np.full((5, 16), 0.21)
    spread[1, :4] = 0.19
    spread[2, :3] = 0.19
    spread[3] = np.nan
    spread[4, :8] = np.nan
    spread[4, 8:10] = 0.19
    assert views_agree(spread).tolist() == [False, True, False, True, True]


def test_a_pose_covers_half_of_the_box_that_was_looked_into() -> None:
    box = np.array([[100.0, 100, 200, 400]])
    for pose_box, is_covered in (
        ([100, 100, 200, 201], True),
        ([100, 100, 200, 199], False),
        ([0, 0, 900, 900], True),
        ([100, 310, 200, 400], False),
        ([400, 100, 200, 400], False),
        ([np.nan, 100, 200, 400], True),
    ):
        assert covers_box(np.array([pose_box], float), box).tolist() == [is_covered]
    assert covers_box(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0,)


# --- two poses --------------------------------------------------------------------------------------------------------


def test_of_two_looks_at_one_person_the_better_stays() -> None:
    assert kept(pose_at((0, 0, 3), 0.6), pose_at((0.03, 0.02, 3.05), 0.9)) == [1]


def apart(distance_m: float) -> tuple[Pose3D, Pose3D]:
    """Two people of whom the image shows nothing, so that only space tells them apart."""
    first, second = pose_at((0, 0, 3)), pose_at((distance_m, 0, 3))
    unseen = np.full_like(first.joints2d, np.nan)
    return tuple(Pose3D(p.box, p.score, p.joints3d, unseen, p.uncertainty) for p in (first, second))  # type: ignore[return-value]


def test_in_space_the_threshold_is_a_similarity_of_04() -> None:
    """1 - d / 0.3 m = 0.4 at 0.18 m."""
    assert kept(*apart(0.179)) == [0]
    assert kept(*apart(0.181)) == [0, 1]


def test_in_space_the_quarter_of_the_joints_that_differ_most_decides() -> None:
    first, second = apart(0.0)
    second.joints3d[:4] += [0.5, 0, 0]
    assert kept(first, second) == [0, 1]
    second.joints3d[1:4] -= [0.5, 0, 0]
    assert kept(first, second) == [0]


def test_two_people_side_by_side_stay_both() -> None:
    assert kept(pose_at((0, 0, 3), 0.6), pose_at((0.5, 0, 3), 0.9)) == [1, 0]


def test_two_people_behind_each_other_stay_both() -> None:
    """Of the farther one, in the same posture, a foot's length shows; wholly hidden they would be taken for one."""
    assert kept(pose_at((0, 0, 3)), pose_at((0.3, 0, 4.5))) == [0, 1]


def test_two_known_people_may_stand_close_behind_each_other() -> None:
    """In one posture, one 20 cm behind the other and a little beside: two where the frames before told them apart."""
    close = pose_at((0, 0, 3)), pose_at((0.15, 0, 3.2), 0.8)
    assert kept(*close) == kept(*close, is_known=[True, False]) == [0]
    assert kept(*close, is_known=[True, True]) == [0, 1]


def test_two_known_people_who_are_seen_at_one_place_are_one() -> None:
    """The crop of one who is hidden shows whoever hides them."""
    assert kept(pose_at((0, 0, 3)), pose_at((0.02, 0, 3.25), 0.8), is_known=[True, True]) == [0]


def test_one_person_at_two_depths_is_one() -> None:
    """Two crops of a far person agree in the image and not in depth."""
    near = pose_at((0, 0, 8.0), 0.7)
    far = pose_at((0, 0, 9.0), 0.8)
    same_image = Pose3D(far.box, far.score, far.joints3d, near.joints2d + 3.0, far.uncertainty)
    assert kept(near, same_image) == [1]


def test_people_of_whom_the_image_shows_nothing_are_told_apart_in_space() -> None:
    hidden = [
        Pose3D(p.box, p.score, p.joints3d, np.full_like(p.joints2d, np.nan), p.uncertainty)
        for p in (pose_at((0, 0, 3)), pose_at((0.02, 0, 3)), pose_at((1, 0, 3)))
    ]
    assert kept(*hidden) == [0, 2]


def test_a_chain_of_likenesses_does_not_swallow_its_far_end() -> None:
    """Each like the next, the first not like the last: only those like a kept one go."""
    chain = [pose_at((0.1 * i, 0, 3), 0.9 - 0.1 * i) for i in range(4)]
    assert kept(*chain) == [0, 2] or kept(*chain) == [0, 3]


def test_who_is_doubtful_must_stand_well_apart_and_comes_last() -> None:
    beside = [pose_at((0, 0, 3), 0.5), pose_at((0.4, 0, 3), 0.9), pose_at((1.5, 0, 3), 0.8)]
    assert kept(*beside) == [1, 2, 0]
    assert kept(*beside, is_doubtful=[False, True, True]) == [0, 2]


def test_nobody() -> None:
    assert kept_by_nms(np.zeros((0, 16, 3)), np.zeros((0, 16, 2)), np.zeros(0)).tolist() == []
