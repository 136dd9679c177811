"""Pictures: where things are drawn, not how they look."""

from __future__ import annotations

import numpy as np
import pytest

from metrabs_ros import annotate
from metrabs_ros.camera import Camera
from metrabs_ros.pose import TrackedPose
from metrabs_ros.skeleton import Skeleton

SKELETON = Skeleton.from_names(
    ["head", "left_hand", "right_hand", "hips"], [("head", "hips"), ("left_hand", "head"), ("right_hand", "head")]
)
CAMERA = Camera.from_fov(60, (640, 480))
SHAPE = np.array([[0, -0.7, 0], [0.5, -0.2, 0], [-0.5, -0.2, 0], [0, 0.2, 0]])


def person(x: float = 0.0, z: float = 3.0, track_id: int = 1) -> TrackedPose:
    joints3d = SHAPE + [x, 0, z]
    return TrackedPose(np.zeros(4), 1.0, joints3d, CAMERA.project(joints3d)[0], np.full(4, np.nan), track_id)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.argwhere((before != after).any(-1))[:, ::-1]


@pytest.fixture
def image() -> np.ndarray:
    return np.full((480, 640, 3), 90, np.uint8)


def test_joints_and_bones_are_at_their_pixels(image: np.ndarray) -> None:
    pose = person()
    result = annotate.drawn(image, [pose], SKELETON)
    assert (image == 90).all()
    middle_of_bone = (pose.joints2d[0] + pose.joints2d[3]) / 2
    for u, v in [*pose.joints2d, middle_of_bone]:
        assert (result[round(v), round(u)] != 90).any()
    far = np.abs(changed(image, result) - pose.joints2d.mean(0)).max(0)
    assert (far < 200).all()


def test_left_is_lighter_than_right(image: np.ndarray) -> None:
    pose = person()
    result = annotate.drawn(image, [pose], SKELETON).astype(int)
    (u_left, v_left), (u_right, v_right) = pose.joints2d[[1, 2]].round().astype(int)
    assert result[v_left, u_left].sum() > result[v_right, u_right].sum() + 60


def test_people_differ_in_colour() -> None:
    assert len({annotate.colour_of(track_id) for track_id in range(1, 9)}) == 8


def test_nobody_leaves_the_image_as_it_is(image: np.ndarray) -> None:
    np.testing.assert_array_equal(annotate.drawn(image, [], SKELETON), image)


def test_joints_without_pixels_are_left_out(image: np.ndarray) -> None:
    whole = person()
    joints2d = whole.joints2d.copy()
    joints2d[1] = np.nan
    partial = TrackedPose(**{**vars(whole), "joints2d": joints2d})
    result = annotate.drawn(image, [partial], SKELETON)
    u, v = whole.joints2d[1].round().astype(int)
    assert (result[v - 3 : v + 4, u - 3 : u + 4] == 90).all()
    nothing = TrackedPose(**{**vars(whole), "joints2d": np.full((4, 2), np.nan)})
    np.testing.assert_array_equal(annotate.drawn(image, [nothing], SKELETON), image)


def test_bone_to_a_joint_far_outside_is_drawn_as_far_as_the_image(image: np.ndarray) -> None:
    whole = person()
    joints2d = whole.joints2d.copy()
    joints2d[3] = [320, 5e9]
    result = annotate.drawn(image, [TrackedPose(**{**vars(whole), "joints2d": joints2d})], SKELETON)
    assert (result[470, 316:325] != 90).any()


def test_top_view_has_right_to_the_right_and_far_above() -> None:
    def middle(x: float, z: float) -> np.ndarray:
        # A first look from afar fixes the range, so that the floors are the same.
        view = annotate.TopView(SKELETON, CAMERA, (500, 500))
        view.drawn([person(0, 7)])
        floor = view.drawn([])
        return changed(floor, view.drawn([person(x, z)])).mean(0)

    assert middle(2, 5)[0] > middle(-2, 5)[0] + 100
    assert middle(0, 3)[1] > middle(0, 6)[1] + 100
    per_metre = (middle(1, 5) - middle(0, 5))[0]
    assert middle(0, 4)[1] - middle(0, 5)[1] == pytest.approx(per_metre, abs=3)


def test_top_view_of_a_pitched_camera_is_still_from_above() -> None:
    angle = np.radians(30)
    R_cam_level = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    level, pitched = person(1, 5), person(1, 5)
    pitched = TrackedPose(**{**vars(pitched), "joints3d": level.joints3d @ R_cam_level.T})
    straight = annotate.TopView(SKELETON, CAMERA, (500, 500))
    tilted = annotate.TopView(SKELETON, CAMERA, (500, 500), up=R_cam_level @ [0, -1, 0])
    first, second = straight.drawn([level]), tilted.drawn([pitched])
    colourful = [np.argwhere(np.ptp(image.astype(int), axis=-1) > 60).mean(0) for image in (first, second)]
    np.testing.assert_allclose(colourful[0], colourful[1], atol=2)


def test_top_view_keeps_its_range_when_people_come_back() -> None:
    view = annotate.TopView(SKELETON, CAMERA, (500, 500))
    near = view.drawn([])
    view.drawn([person(0, 15)])
    far = view.drawn([])
    assert (near != far).any()
    view.drawn([person(0, 3)])
    np.testing.assert_array_equal(view.drawn([]), far)


def test_side_by_side_is_even_and_of_the_left_ones_height(image: np.ndarray) -> None:
    both = annotate.side_by_side(image[:479], np.zeros((240, 301, 3), np.uint8))
    height, width = both.shape[:2]
    assert height == 478
    assert width % 2 == 0
    assert width > 640 + 590
