"""Whose heatmaps are wide is nobody: only with a detector of ours, and sooner where no detection backs them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from demo.clip import FOV_DEG, clip_path
from metrabs_ros import selection
from metrabs_ros.camera import Camera
from metrabs_ros.detector import Detector, open_detector
from metrabs_ros.engine import open_engine
from metrabs_ros.frames import open_frames
from metrabs_ros.model_spec import find_spec, load_spec
from metrabs_ros.pipeline import PosePipeline


@pytest.fixture(scope="module")
def pipeline() -> Iterator[PosePipeline]:
    pipeline = PosePipeline.from_engine("metrabs_base")
    yield pipeline
    pipeline.close()


@pytest.fixture(scope="module")
def imagining() -> Iterator[PosePipeline]:
    """With BlazePose's detector, which sees somebody in the tree, unlike the default one."""
    spec, detector = (load_spec(find_spec(name)) for name in ("metrabs_base", "blazepose_detector"))
    pipeline = PosePipeline(open_engine(spec, "openvino"), open_detector(detector, "openvino"))
    yield pipeline
    pipeline.close()


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    with open_frames(clip_path()) as source:
        return [frame.image_rgb for frame in itertools.islice(source, 85, 96)]


@pytest.fixture(scope="module")
def camera(frames: list[np.ndarray]) -> Camera:
    height, width = frames[0].shape[:2]
    return Camera.from_fov(FOV_DEG, (width, height))


def test_two_people_and_no_third_in_the_tree(
    imagining: PosePipeline, frames: list[np.ndarray], camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a first look the person score believes what the detector sees in the tree behind them."""
    assert len(imagining.estimate(frames[0], camera)) == 2
    one_look = replace(imagining.spec, second_look=None, crop=replace(imagining.spec.crop, pose_scale=None))
    monkeypatch.setattr(imagining.engine, "spec", one_look)
    assert len(imagining.estimate(frames[0], camera)) == 2
    for bound in ("max_vagueness", "max_new_vagueness"):
        alone = replace(one_look, max_vagueness=1.0, max_new_vagueness=1.0)
        monkeypatch.setattr(imagining.engine, "spec", alone)
        assert len(imagining.estimate(frames[0], camera)) > 2
        monkeypatch.setattr(imagining.engine, "spec", replace(alone, **{bound: one_look.max_new_vagueness}))
        assert len(imagining.estimate(frames[0], camera)) == 2


def test_known_people_may_be_vaguer_than_new_ones(
    pipeline: PosePipeline, frames: list[np.ndarray], camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.reset()
    for i, image in enumerate(frames[:5]):
        known = {pose.track_id for pose in pipeline.process(image, camera, i / 30)}
    assert known
    monkeypatch.setattr(pipeline.engine, "spec", replace(pipeline.spec, max_new_vagueness=1e-3))
    assert {pose.track_id for pose in pipeline.process(frames[5], camera, 5 / 30)} == known
    pipeline.reset()
    assert pipeline.process(frames[5], camera, 0.0) == []


def test_boxes_from_outside_are_believed(
    pipeline: PosePipeline, frames: list[np.ndarray], camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = np.array([pose.box for pose in pipeline.estimate(frames[0], camera)])
    monkeypatch.setattr(pipeline.engine, "spec", replace(pipeline.spec, max_vagueness=1e-3))
    assert pipeline.estimate(frames[0], camera) == []
    assert len(pipeline.estimate(frames[0], camera, boxes)) == 2


def test_people_who_are_not_backed_must_be_clear(
    pipeline: PosePipeline, frames: list[np.ndarray], camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In most frames the detector looks elsewhere: then only the people's own last poses vouch for them."""

    def people() -> list[int]:
        pipeline.reset()
        return [len(pipeline.process(image, camera, i / 30)) for i, image in enumerate(frames)]

    clear = people()
    monkeypatch.setattr(pipeline.engine, "spec", replace(pipeline.spec, max_carried_vagueness=1e-3))
    assert sum(people()) < sum(clear)


def test_whom_the_detector_doubts_must_be_seen_more_clearly(
    pipeline: PosePipeline, frames: list[np.ndarray], camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Detector, "sure_score", 1.01)
    doubting = pipeline.shared(lambda network: network, 1, 1)
    found = doubting.estimate(frames[0], camera)
    assert len(found) == 2
    monkeypatch.setattr(doubting.engine, "spec", replace(pipeline.spec, max_doubtful_vagueness=1e-3))
    assert doubting.estimate(frames[0], camera) == []
    assert len(pipeline.estimate(frames[0], camera)) == 2


def test_whom_the_detector_doubts_must_not_be_small(
    pipeline: PosePipeline, frames: list[np.ndarray], camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Detector, "sure_score", 1.01)
    doubting = pipeline.shared(lambda network: network, 1, 1)
    sizes = [max(pose.box[2:]) / max(camera.size) for pose in doubting.estimate(frames[0], camera)]
    assert len(sizes) == 2
    monkeypatch.setattr(selection, "_LEAST_DOUBTFUL", np.mean(sizes))
    assert len(doubting.estimate(frames[0], camera)) == 1
