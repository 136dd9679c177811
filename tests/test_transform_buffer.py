"""Transforms over time: chains, interpolation, and what there is no transform for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from metrabs_ros.transform_buffer import NoTransformError, Pose, TransformBuffer

S = 10**9
HERE: Pose = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))


def pose(place: list[float], rotation: Rotation) -> Pose:
    x, y, z = place
    a, b, c, w = rotation.as_quat().tolist()
    return (x, y, z), (a, b, c, w)


def random_pose(seed: int) -> Pose:
    generator = np.random.default_rng(seed)
    return pose(generator.normal(size=3).tolist(), Rotation.random(random_state=seed))


def matrix(of: Pose) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_quat(of[1]).as_matrix(), of[0]
    return T


def looked_up(buffer: TransformBuffer, target: str, source: str, stamp_ns: int) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = buffer.lookup(target, source, stamp_ns)
    return T


@given(st.integers(0, 10**6))
def test_chains_are_the_product_of_their_poses_in_every_direction(seed: int) -> None:
    poses = [random_pose(seed + i) for i in range(4)]
    buffer = TransformBuffer()
    buffer.put("map", "base", 1 * S, poses[0])
    buffer.put("base", "camera", 0, poses[1], is_static=True)
    buffer.put("camera", "optical", 0, poses[2], is_static=True)
    buffer.put("map", "table", 1 * S, poses[3])
    map_base, base_camera, camera_optical, map_table = map(matrix, poses)
    map_optical = map_base @ base_camera @ camera_optical
    np.testing.assert_allclose(looked_up(buffer, "map", "optical", 1 * S), map_optical, atol=1e-9)
    np.testing.assert_allclose(looked_up(buffer, "/optical", "/map", 1 * S), np.linalg.inv(map_optical), atol=1e-9)
    expected = np.linalg.inv(map_table) @ map_optical
    np.testing.assert_allclose(looked_up(buffer, "table", "optical", 1 * S), expected, atol=1e-9)
    np.testing.assert_allclose(looked_up(buffer, "camera", "camera", 1 * S), np.eye(4), atol=1e-12)


@given(st.floats(0, 1))
def test_between_two_stamps_place_and_rotation_change_evenly(share: float) -> None:
    buffer = TransformBuffer()
    buffer.put("map", "base", 1 * S, pose([0.0, 0.0, 0.0], Rotation.identity()))
    buffer.put("map", "base", 2 * S, pose([1.0, -2.0, 0.5], Rotation.from_euler("z", 80, degrees=True)))
    R, t = buffer.lookup("map", "base", round((1 + share) * S))
    np.testing.assert_allclose(t, share * np.array([1.0, -2.0, 0.5]), atol=1e-8)
    np.testing.assert_allclose(R, Rotation.from_euler("z", 80 * share, degrees=True).as_matrix(), atol=1e-8)


def test_nothing_is_extrapolated_and_late_messages_are_worth_waiting_for() -> None:
    buffer = TransformBuffer()
    for second in (3, 1, 2):
        buffer.put("map", "base", second * S, HERE)
    with pytest.raises(NoTransformError, match=r"0\.500 s before the first transform of base in map") as before:
        buffer.lookup("map", "base", S // 2)
    with pytest.raises(NoTransformError, match=r"0\.020 s after the last") as after:
        buffer.lookup("map", "base", 3 * S + S // 50)
    with pytest.raises(NoTransformError, match=r"5\.000 s after the last") as long_after:
        buffer.lookup("map", "base", 8 * S)
    assert (before.value.may_come, after.value.may_come, long_after.value.may_come) == (False, True, False)


def test_what_is_not_connected_or_not_known_is_said() -> None:
    buffer = TransformBuffer()
    buffer.put("map", "base", S, HERE)
    buffer.put("world", "arm", S, HERE)
    with pytest.raises(NoTransformError, match="there is no frame camera"):
        buffer.lookup("map", "camera", S)
    with pytest.raises(NoTransformError, match="base and arm are not connected"):
        buffer.lookup("arm", "base", S)


def test_frames_that_form_a_circle_do_not_hang() -> None:
    buffer = TransformBuffer()
    buffer.put("a", "b", S, HERE)
    buffer.put("b", "a", S, HERE)
    with pytest.raises(NoTransformError, match="circle"):
        buffer.lookup("a", "b", S)


def test_what_is_not_finite_is_ignored() -> None:
    buffer = TransformBuffer()
    buffer.put("map", "base", S, ((np.nan, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)))
    buffer.put("map", "base", S, ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)))
    buffer.put("map", "map", S, HERE)
    with pytest.raises(NoTransformError, match="no frame"):
        buffer.lookup("map", "base", S)


def test_old_poses_leave_and_a_recording_that_begins_again_starts_anew() -> None:
    buffer = TransformBuffer(cache_s=2.0)
    for second in range(101, 110):
        buffer.put("map", "base", second * S, HERE)
    with pytest.raises(NoTransformError, match="before the first"):
        buffer.lookup("map", "base", 105 * S)
    buffer.lookup("map", "base", 107 * S)
    buffer.put("map", "base", 5 * S, HERE)
    buffer.lookup("map", "base", 5 * S)
    buffer.put("base", "camera", 0, HERE, is_static=True)
    buffer.clear()
    buffer.lookup("base", "camera", 999 * S)
    with pytest.raises(NoTransformError):
        buffer.lookup("map", "base", 5 * S)


def test_frames_of_people_who_left_do_not_pile_up() -> None:
    buffer = TransformBuffer(cache_s=1.0)
    buffer.put("base", "camera", 0, HERE, is_static=True)
    for index in range(5000):
        buffer.put("camera", f"person_{index}", index * S // 100, HERE)
    assert len(buffer._edges) < 2200
    buffer.lookup("base", "person_4999", 4999 * S // 100)
