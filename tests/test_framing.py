"""Who was seen before is looked at around their joints: in the next frame of a video, and again in a single image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest
import skimage.data

from demo.clip import FOV_DEG, clip_path
from metrabs_ros import crop
from metrabs_ros.augmented_views import AugmentedViews
from metrabs_ros.camera import Camera
from metrabs_ros.pipeline import PosePipeline
from metrabs_ros.pose import Pose3D
from metrabs_ros.regions import Regions

# The first frame of the clip shows one person.
IMAGE = cv2.VideoCapture(str(clip_path())).read()[1][..., ::-1].copy()
CAMERA = Camera.from_fov(FOV_DEG, (1768, 994))
POSE_SCALE = 1.4


def framed(pose_scale: float | None) -> PosePipeline:
    """The default engine's pipeline, as if its spec said so."""
    given = PosePipeline.from_engine("metrabs_base")
    given.engine.spec = replace(given.spec, crop=replace(given.spec.crop, pose_scale=pose_scale))
    return PosePipeline(given.engine, given._detector)


@pytest.fixture(scope="module")
def pipeline() -> Iterator[PosePipeline]:
    pipeline = framed(POSE_SCALE)
    yield pipeline
    pipeline.close()


@pytest.fixture(scope="module")
def one_look() -> Iterator[PosePipeline]:
    pipeline = framed(None)
    yield pipeline
    pipeline.close()


def seen_around(pipeline: PosePipeline, pose: Pose3D, scale: float, num_aug: int = 1) -> np.ndarray:
    """joints3d [J,3] m that the engine sees in the square around somebody's joints, with their body upright."""
    regions = Regions(pipeline.skeleton)
    square = regions.squares(pose.joints2d[None], CAMERA)
    up = crop.up_along(CAMERA, square[:, :2] + square[:, 2:] / 2, regions.torso_axes(pose.joints2d[None]))
    return pipeline.estimator(IMAGE, CAMERA, square, up, AugmentedViews.of(num_aug), scale).joints3d[0]


def test_the_next_frame_of_a_video_is_looked_at_around_the_joints(pipeline: PosePipeline) -> None:
    (first,) = pipeline.process(IMAGE, CAMERA, 0.0)
    (second,) = pipeline.process(IMAGE, CAMERA, 0.03)
    np.testing.assert_allclose(second.joints3d, seen_around(pipeline, first, POSE_SCALE), atol=1e-3)
    assert np.abs(second.joints3d - seen_around(pipeline, first, 1.25)).max() > 0.02


@pytest.mark.parametrize("num_aug", [1, 3])
def test_whoever_is_found_in_a_single_image_is_looked_at_again(
    pipeline: PosePipeline, one_look: PosePipeline, num_aug: int
) -> None:
    (first,) = one_look.estimate(IMAGE, CAMERA)
    pipeline.num_aug = num_aug
    (second,) = pipeline.estimate(IMAGE, CAMERA)
    pipeline.num_aug = 1
    np.testing.assert_allclose(second.joints3d, seen_around(pipeline, first, POSE_SCALE, num_aug), atol=1e-3)
    assert np.abs(second.joints3d - first.joints3d).max() > 0.02


def test_in_a_given_box_everybody_is_seen_as_it_says(pipeline: PosePipeline, one_look: PosePipeline) -> None:
    (found,) = one_look.estimate(IMAGE, CAMERA)
    box = found.box[None]
    (pose,) = pipeline.estimate(IMAGE, CAMERA, box)
    (expected,) = one_look.estimate(IMAGE, CAMERA, box)
    np.testing.assert_allclose(pose.joints3d, expected.joints3d, atol=1e-3)


def test_nobody_is_nobody_at_the_second_look(pipeline: PosePipeline) -> None:
    assert pipeline.estimate(np.zeros_like(IMAGE), CAMERA) == []


def test_a_portrait_stays_one_in_a_video_and_in_a_single_image() -> None:
    """Framed closely by legs that are guessed, the head was seen above the picture."""
    image, camera = skimage.data.astronaut(), Camera.from_fov(50, (512, 512))
    pipeline = PosePipeline.from_engine("metrabs_base")
    nose = pipeline.skeleton.joint_names.index("nose")
    seen = [pipeline.estimate(image, camera)]
    seen += [pipeline.process(image, camera, i / 15) for i in range(12)]
    pipeline.close()
    for (pose,) in seen:
        np.testing.assert_allclose(pose.joints2d[nose], [222, 112], atol=30)
