"""What is no pose, and who is there twice."""

from __future__ import annotations

import numpy as np
from poses_for_tests import person, pose_at

from metrabs_ros.plausibility import in_front, kept_by_nms
from metrabs_ros.pose import Pose3D


def kept(*poses: Pose3D) -> list[int]:
    joints3d, joints2d = (np.stack([getattr(pose, name) for pose in poses]) for name in ("joints3d", "joints2d"))
    return kept_by_nms(joints3d, joints2d, np.array([pose.score for pose in poses])).tolist()


def test_a_body_is_before_the_camera_and_finite() -> None:
    ahead, behind = person() + [0, 0, 3], person() - [0, 0, 3]
    broken = ahead.copy()
    broken[3, 1] = np.nan
    endless = ahead.copy()
    endless[0, 2] = np.inf
    assert in_front(np.stack([ahead, behind, broken, endless, person()])).tolist() == [True, False, False, False, False]
    assert in_front(np.zeros((0, 16, 3))).shape == (0,)


def test_of_two_looks_at_one_person_the_better_stays() -> None:
    assert kept(pose_at((0, 0, 3), 0.6), pose_at((0.03, 0.02, 3.05), 0.9)) == [1]


def test_two_people_side_by_side_stay_both() -> None:
    assert kept(pose_at((0, 0, 3), 0.6), pose_at((0.5, 0, 3), 0.9)) == [1, 0]


def test_two_people_behind_each_other_stay_both() -> None:
    """Of the farther one, in the same posture, a foot's length shows; wholly hidden they would be taken for one."""
    assert kept(pose_at((0, 0, 3)), pose_at((0.3, 0, 4.5))) == [0, 1]


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


def test_nobody() -> None:
    assert kept_by_nms(np.zeros((0, 16, 3)), np.zeros((0, 16, 2)), np.zeros(0)).tolist() == []
