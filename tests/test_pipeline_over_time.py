"""Tracking and smoothing in the pipeline, with the real networks on a real video."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from demo.clip import FOV_DEG, clip_path
from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from metrabs_ros.pipeline import PosePipeline
from metrabs_ros.pose import Detections
from metrabs_ros.smoothing import SmoothingParams
from metrabs_ros.tracking import TrackingParams

CAMERA = Camera.from_fov(FOV_DEG, (1768, 994))


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """Ten frames in which both people are seen."""
    video = cv2.VideoCapture(str(clip_path()))
    video.set(cv2.CAP_PROP_POS_FRAMES, 60)
    found = [video.read()[1][..., ::-1].copy() for _ in range(10)]
    video.release()
    return found


@pytest.fixture(scope="module")
def pipeline() -> Iterator[PosePipeline]:
    pipeline = PosePipeline.from_engine(views_per_frame=None)
    yield pipeline
    pipeline.close()


@pytest.fixture(autouse=True)
def fresh(pipeline: PosePipeline) -> Iterator[None]:
    yield
    pipeline.reset()
    pipeline.tracking, pipeline.smoothing = TrackingParams(), SmoothingParams()


def followed(pipeline: PosePipeline, frames: list[np.ndarray]) -> list[dict[int, np.ndarray]]:
    """Per frame, the joints of everybody by their track id counted from 0."""
    found = [{p.track_id: p for p in pipeline.process(f, CAMERA, i / 30)} for i, f in enumerate(frames)]
    for poses in found:
        for pose in poses.values():
            np.testing.assert_allclose(CAMERA.project(pose.joints3d)[0], pose.joints2d)
            inside = pose.joints2d[CAMERA.contains(pose.joints2d)]
            assert (inside >= pose.box[:2]).all()
            assert (inside <= pose.box[:2] + pose.box[2:]).all()
    first = min(i for poses in found for i in poses)
    return [{i - first: pose.joints3d for i, pose in poses.items()} for poses in found]


@pytest.mark.parametrize("method", ["one_euro", "kalman"])
def test_smoothing_moves_joints_little_and_image_and_box_with_them(
    pipeline: PosePipeline, frames: list[np.ndarray], method: str
) -> None:
    pipeline.smoothing = SmoothingParams("none")
    raw = followed(pipeline, frames)
    pipeline.reset()
    pipeline.smoothing = SmoothingParams(method)
    calm = followed(pipeline, frames)
    assert [set(poses) for poses in raw] == [set(poses) for poses in calm]
    assert all(len(poses) == 2 for poses in raw)
    np.testing.assert_allclose(calm[0][0], raw[0][0], atol=1e-9)
    for who in (0, 1):
        steps = [np.stack([poses[who] for poses in found]) for found in (raw, calm)]
        raw_depth, calm_depth = (np.abs(np.diff(joints3d[..., 2].mean(1))).mean() for joints3d in steps)
        assert 0 < calm_depth < raw_depth
        assert np.linalg.norm(steps[0] - steps[1], axis=-1).mean() < 0.3


def test_parameters_are_those_that_were_given_and_may_change(pipeline: PosePipeline, frames: list[np.ndarray]) -> None:
    """Nobody loses their id by it."""
    assert pipeline.tracking == TrackingParams()
    assert pipeline.smoothing == SmoothingParams()
    before = {pose.track_id for pose in pipeline.process(frames[0], CAMERA, 0.0)}
    pipeline.tracking, pipeline.smoothing = TrackingParams(forget_s=9.0), SmoothingParams("kalman")
    assert {pose.track_id for pose in pipeline.process(frames[1], CAMERA, 0.03)} == before
    assert pipeline.process(np.zeros_like(frames[0]), CAMERA, 0.06) == []
    assert {pose.track_id for pose in pipeline.process(frames[2], CAMERA, 8.0)} == before


def test_a_stamp_that_goes_back_is_told_and_starts_anew(pipeline: PosePipeline, frames: list[np.ndarray]) -> None:
    before = {pose.track_id for pose in pipeline.process(frames[0], CAMERA, 5.0)}
    assert len(before) == 2
    assert pipeline.seconds_back == 0
    after = pipeline.process(frames[5], CAMERA, 1.0)
    assert pipeline.seconds_back == 4.0
    assert before.isdisjoint(pose.track_id for pose in after)
    again = pipeline.process(frames[5], CAMERA, 1.03)
    assert pipeline.seconds_back == 0
    assert {pose.track_id for pose in again} == {pose.track_id for pose in after}
    pipeline.reset()
    pipeline.process(frames[0], CAMERA, 0.0)
    assert pipeline.seconds_back == 0


def test_who_was_lost_a_moment_ago_is_looked_for_there(frames: list[np.ndarray]) -> None:
    """Of the twelve views one has a turn in a frame; where the man is back, the next frame or the one after looks."""
    pipeline = PosePipeline.from_engine(views_per_frame=1)
    boxes = [pose.box for pose in pipeline.estimate(frames[0], CAMERA)]
    pipeline.process(frames[0], CAMERA, 0.0, Detections.from_boxes(boxes))
    (man, _) = sorted(pipeline.process(frames[1], CAMERA, 1 / 30), key=lambda pose: float(pose.box[0]))
    without = frames[1].copy()
    x, y, w, h = man.box.astype(int)
    without[max(0, y - 40) : y + h + 40, max(0, x - 40) : x + w + 40] = 110
    stamps_s = (number / 30 for number in itertools.count(2))
    needed = []
    # Longer than lost people are carried, and each time with another view's turn.
    for away in range(16, 24):
        for _ in range(away):
            assert len(pipeline.process(without, CAMERA, next(stamps_s))) == 1
        is_back = (len(pipeline.process(frames[2], CAMERA, next(stamps_s))) == 2 for _ in range(12))
        needed.append(1 + next((i for i, found in enumerate(is_back) if found), 12))
    assert np.mean(needed) <= 2, needed
    pipeline.close()


def test_who_was_lost_sight_of_is_seen_where_the_detector_finds_them(
    pipeline: PosePipeline, frames: list[np.ndarray]
) -> None:
    """While unseen the man moves by half of the square around him: what is left of him in that is no whole man."""
    (man, woman) = sorted(pipeline.process(frames[0], CAMERA, 0.0), key=lambda pose: float(pose.box[0]))
    x, y, w, h = man.box.astype(int)
    place = np.s_[max(0, y - 40) : y + h + 40, max(0, x - 40) : x + w + 40]
    without, elsewhere = frames[0].copy(), frames[0].copy()
    without[place] = elsewhere[place] = 110
    step = int(0.5 * max(man.box[2:]))
    elsewhere[place[0], place[1].start - step : place[1].stop - step] = frames[0][place]
    for i in (1, 2):
        assert [pose.track_id for pose in pipeline.process(without, CAMERA, i / 30)] == [woman.track_id]
    back = {pose.track_id: pose for pose in pipeline.process(elsewhere, CAMERA, 3 / 30)}
    found = min(back.values(), key=lambda pose: float(pose.box[0]))
    np.testing.assert_allclose(found.joints2d, man.joints2d - [step, 0], atol=0.15 * h)


def test_a_stamp_that_is_none_is_refused(pipeline: PosePipeline, frames: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match="A stamp must be a finite number of seconds, got nan"):
        pipeline.process(frames[0], CAMERA, float("nan"))


def test_a_box_of_which_the_pose_covers_little_holds_nobody(pipeline: PosePipeline, frames: list[np.ndarray]) -> None:
    (pose, _) = sorted(pipeline.estimate(frames[0], CAMERA), key=lambda pose: float(pose.box[0]))
    x, y, width, height = pose.box
    wide = [x - 1.5 * width, y - 0.25 * height, 4 * width, 1.5 * height]
    assert len(pipeline.estimate(frames[0], CAMERA, [pose.box])) == 1
    assert pipeline.estimate(frames[0], CAMERA, [wide]) == []


def test_somebody_in_a_box_of_a_low_score_has_an_id_after_three_frames(
    pipeline: PosePipeline, frames: list[np.ndarray]
) -> None:
    """The network is sure of them: their id does not wait. With a higher bar it does."""
    boxes = np.stack([pose.box for pose in pipeline.estimate(frames[0], CAMERA)])
    pipeline.tracking = TrackingParams(confirm_score=1.0)
    seen = [len(pipeline.process(f, CAMERA, i / 30, Detections.from_boxes(boxes))) for i, f in enumerate(frames[:4])]
    assert seen == [0, 0, 2, 2]


def test_people_are_as_far_as_the_floor_under_their_feet(pipeline: PosePipeline, frames: list[np.ndarray]) -> None:
    """The woman stands on the lawn: the higher the camera is above it, the farther she is; the man is on a roof."""

    def woman(height: float, stamp_s: float) -> np.ndarray:
        pipeline.camera_height = height
        poses = [pipeline.process(frame, CAMERA, stamp_s + i / 30) for i, frame in enumerate(frames)][-1]
        (found,) = (pose for pose in poses if pose.joints2d[:, 1].mean() > 600)
        return found.joints3d

    unknown, low, high, unknown_again = (woman(height, i) for i, height in enumerate((0.0, 1.2, 1.8, 0.0)))
    distances = [np.linalg.norm(joints3d, axis=-1).mean() for joints3d in (unknown, low, high, unknown_again)]
    assert distances[1] < 0.95 * distances[0]
    # Not what the lower camera had shown.
    assert distances[2] > 1.2 * distances[1]
    assert distances[3] == pytest.approx(distances[0], rel=0.05)
    with pytest.raises(InputError, match=r"camera_height must be 0 \(unknown\) or metres above the floor, got -1"):
        pipeline.camera_height = -1
