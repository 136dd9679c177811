"""Several views of real people by the real network: averaged in the camera's frame, all people in one batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from networks_for_tests import pose_network, spec_with, write_spec

from demo.clip import FOV_DEG, clip_path
from metrabs_ros import crop, reconstruct
from metrabs_ros.augmented_views import AugmentedViews
from metrabs_ros.camera import Camera
from metrabs_ros.engine import Engine, EngineOutput, open_engine
from metrabs_ros.errors import InputError
from metrabs_ros.estimator import PoseEstimator
from metrabs_ros.model_spec import ModelSpec, find_spec, load_spec
from metrabs_ros.pipeline import PosePipeline
from metrabs_ros.pose import Detections
from metrabs_ros.uncertainty import Calibration

CAMERA = Camera.from_fov(FOV_DEG, (1768, 994))
UP = np.array([0.0, -1.0, 0.0])
FRAME = 60

Image = np.ndarray


@pytest.fixture(scope="module")
def image() -> Image:
    video = cv2.VideoCapture(str(clip_path()))
    for _ in range(FRAME + 1):
        video.grab()
    found = video.retrieve()[1][..., ::-1].copy()
    video.release()
    return found


@pytest.fixture(scope="module")
def pipeline() -> Iterator[PosePipeline]:
    pipeline = PosePipeline.from_engine("blazepose_full")
    yield pipeline
    pipeline.close()


@pytest.fixture(autouse=True)
def one_view(pipeline: PosePipeline) -> Iterator[None]:
    yield
    pipeline.num_aug = 1
    pipeline.reset()


@pytest.fixture(scope="module")
def boxes(pipeline: PosePipeline, image: Image) -> np.ndarray:
    found = np.array([pose.box for pose in pipeline.estimate(image, CAMERA)])
    assert len(found) == 2
    return found


def by_hand(engine: Engine, image: Image, box: np.ndarray, views: AugmentedViews, view: int) -> np.ndarray:
    """One view [J,3] m of one person, made with a picture that is flipped after it was cut out."""
    spec, side = engine.spec, engine.spec.input.size
    virtual, _ = crop.virtual_cameras(CAMERA, box[None], side, UP, spec.crop.box_scale)
    c, s = np.cos(-views.angles[view]), np.sin(-views.angles[view])
    turned = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ virtual.R_crop_cam[0]
    K = virtual.K[0] * [[views.scales[view], 1, 1], [1, views.scales[view], 1], [1, 1, 1]]
    camera = crop.VirtualCameras(K[None], turned[None], side)
    picture = crop.warp(image, CAMERA, camera) ** views.gammas[view]
    output = engine.infer(np.ascontiguousarray(picture[:, :, ::-1] if views.mirrored[view] else picture, np.float32))
    coords2d, coords3d, confidence = output.coords2d[0], output.coords3d_rel[0], output.confidence[0]
    if views.mirrored[view]:
        mirror = spec.skeleton.mirror
        coords2d = coords2d[mirror] * [-1, 1] + [side - 1, 0]
        coords3d, confidence = coords3d[mirror] * [-1, 1, 1], confidence[mirror]
    inside = reconstruct.in_fov(coords2d[None], side, 0) & CAMERA.contains(
        crop.to_image(coords2d[None], camera, CAMERA)[0]
    )
    found = reconstruct.absolute(coords2d[None], coords3d[None], camera.K, inside, confidence[None])
    return found[0] @ turned


@pytest.mark.parametrize("num_aug", [2, 5])
def test_the_mean_over_views_made_by_hand(
    pipeline: PosePipeline, image: Image, boxes: np.ndarray, num_aug: int
) -> None:
    views = AugmentedViews.of(num_aug)
    seen = pipeline.estimator(image, CAMERA, boxes, np.tile(UP, (2, 1)), views)
    for i, box in enumerate(boxes):
        each = np.stack([by_hand(pipeline.engine, image, box, views, view) for view in range(num_aug)])
        # Where a picture is shrunk by whole pixels depends on which side it begins, and depth is most sensitive to it.
        expected = each.mean(0)
        np.testing.assert_allclose(seen.joints3d[i].mean(0), expected.mean(0), rtol=0.01)
        around = seen.joints3d[i] - seen.joints3d[i].mean(0) - (expected - expected.mean(0))
        assert np.linalg.norm(around, axis=-1).mean() < 0.025
        spread = np.sqrt(each.var(0, ddof=1).sum(-1))
        np.testing.assert_allclose(seen.uncertainty[i], np.sqrt(1 + 1 / num_aug) * spread, rtol=0.2, atol=0.05)
        assert np.median(seen.uncertainty[i]) > 0.03


def test_people_in_one_batch_do_not_influence_each_other(
    pipeline: PosePipeline, image: Image, boxes: np.ndarray
) -> None:
    views = AugmentedViews.of(3)
    both = pipeline.estimator(image, CAMERA, boxes, np.tile(UP, (2, 1)), views)
    for i in range(2):
        alone = pipeline.estimator(image, CAMERA, boxes[i : i + 1], UP[None], views)
        for name, values in vars(alone).items():
            np.testing.assert_allclose(getattr(both, name)[i], values[0], atol=2e-3)


class CountingEngine(Engine):
    """Notes how many crops it is given at a time."""

    def infer(self, crops: np.ndarray) -> EngineOutput:
        self.sizes = [*getattr(self, "sizes", []), len(crops)]
        return super().infer(crops)


def test_all_views_of_all_people_go_through_in_as_few_calls_as_the_engine_allows(
    pipeline: PosePipeline, image: Image, boxes: np.ndarray
) -> None:
    views, up = AugmentedViews.of(5), np.tile(UP, (2, 1))
    whole = CountingEngine(pipeline.spec, pipeline.engine._network)
    expected = PoseEstimator(whole)(image, CAMERA, boxes, up, views)
    assert whole.sizes == [10]
    small = dataclasses.replace(pipeline.spec, input=dataclasses.replace(pipeline.spec.input, max_batch=4))
    parts = CountingEngine(small, pipeline.engine._network)
    seen = PoseEstimator(parts)(image, CAMERA, boxes, up, views)
    assert parts.sizes == [4, 4, 2]
    np.testing.assert_allclose(seen.joints3d, expected.joints3d, atol=2e-3)


@pytest.mark.parametrize("num_aug", [1, 4])
def test_nobody(pipeline: PosePipeline, image: Image, num_aug: int) -> None:
    seen = pipeline.estimator(image, CAMERA, np.zeros((0, 4)), np.zeros((0, 3)), AugmentedViews.of(num_aug))
    assert seen.joints3d.shape == (0, len(pipeline.skeleton.joint_names), 3)
    assert seen.uncertainty.shape == seen.joints3d.shape[:2]
    assert seen.scores.shape == (0,)
    pipeline.num_aug = num_aug
    assert pipeline.estimate(np.zeros_like(image), CAMERA) == []


def test_a_box_that_the_lens_cannot_see_scores_nothing(pipeline: PosePipeline, image: Image) -> None:
    seen = pipeline.estimator(image, CAMERA, np.array([[10.0, 10, 0, 50]]), UP[None], AugmentedViews.of(3))
    assert seen.scores == [0.0]


def test_the_number_of_views_may_change_from_frame_to_frame(pipeline: PosePipeline, image: Image) -> None:
    def people() -> list[np.ndarray]:
        found = pipeline.process(image, CAMERA, people.stamp)  # type: ignore[attr-defined]
        people.stamp += 0.03  # type: ignore[attr-defined]
        return [np.asarray(pose.uncertainty) for pose in sorted(found, key=lambda pose: pose.track_id)]

    people.stamp = 0.0  # type: ignore[attr-defined]
    for _ in range(4):
        known = people()
    assert len(known) == 2
    assert all(np.isnan(values).all() for values in known)
    pipeline.num_aug = 4
    known = people()
    assert len(known) == 2
    assert all(((values > 0) & (values < 2)).all() for values in known)
    for refused in (0, 33, 2.5, True):
        with pytest.raises(InputError, match="num_aug must be a"):
            pipeline.num_aug = refused  # type: ignore[assignment]
    assert pipeline.num_aug == 4
    pipeline.num_aug = 1
    assert all(np.isnan(values).all() for values in people())


def test_views_agree_with_one_view_about_where_people_are(pipeline: PosePipeline, image: Image) -> None:
    one = pipeline.estimate(image, CAMERA)
    pipeline.num_aug = 5
    five = pipeline.estimate(image, CAMERA)
    assert len(one) == len(five) == 2
    for pose in one:
        nearest = min(five, key=lambda other: float(np.linalg.norm(other.joints2d - pose.joints2d)))
        around = [p.joints3d - p.joints3d[23:25].mean(0) for p in (pose, nearest)]
        assert np.linalg.norm(around[0] - around[1], axis=-1).mean() < 0.1
        assert np.linalg.norm(pose.joints2d - nearest.joints2d, axis=-1).mean() < 15
        np.testing.assert_allclose(CAMERA.project(nearest.joints3d)[0], nearest.joints2d)


@pytest.mark.parametrize("convention", ["coco_17", "h36m_17", "smpl_24", "ros4hri"])
def test_poses_come_out_in_the_convention_and_people_are_found_as_without(
    pipeline: PosePipeline, image: Image, boxes: np.ndarray, convention: str
) -> None:
    converted = PosePipeline(pipeline.engine, None, convention=convention, num_aug=2)
    names = converted.skeleton.joint_names
    detections = Detections(boxes, np.ones(2), np.tile([0.0, -1.0], (2, 1)))
    pipeline.num_aug = 2
    own = {pose.box.tobytes(): pose for pose in pipeline.process(image, CAMERA, 0.0, detections)}
    found = converted.process(image, CAMERA, 0.0, detections)
    assert len(found) == 2
    for pose in found:
        before = own[pose.box.tobytes()]
        knee, wrist = names.index("left_knee"), names.index("right_wrist")
        own_names = pipeline.skeleton.joint_names
        np.testing.assert_allclose(pose.joints3d[knee], before.joints3d[own_names.index("left_knee")])
        np.testing.assert_allclose(pose.uncertainty[wrist], before.uncertainty[own_names.index("right_wrist")])
        assert pose.joints3d.shape == (len(names), 3)
        assert np.isfinite(pose.uncertainty).all()
        np.testing.assert_allclose(CAMERA.project(pose.joints3d)[0], pose.joints2d)
    (boxed,) = converted.estimate(image, CAMERA, boxes[:1])
    assert boxed.joints3d.shape == (len(names), 3)


def test_heatmaps_give_the_uncertainty_of_one_view_and_views_that_of_several(tmp_path: Path) -> None:
    """With a network of its own spreads: the exported network of training has them, too (test_training_export)."""
    spreads = {
        "outputs__spread2d": {"tensor": "score", "columns": 1, "unit": "px", "activation": "sigmoid"},
        "outputs__spread3d": {"tensor": "score", "columns": 1, "unit": "m", "activation": "sigmoid", "scale": 0.1},
        "joints": ["head"],
        "edges": [],
        "calibration": {"heatmap": 2.0, "distance": 0.1},
    }
    engine = open_engine(load_spec(write_spec(tmp_path, spec_with(**spreads), pose_network())))
    estimator = PoseEstimator(engine)
    assert estimator.calibration == Calibration(heatmap=2.0, distance=0.1)
    picture, camera = skimage.data.astronaut(), Camera.from_fov(50, (512, 512))
    box = np.array([[70.0, 10, 380, 500]])
    calibrated = estimator(picture, camera, box, UP[None], AugmentedViews.of(1))
    estimator.calibration = Calibration()
    bare = estimator(picture, camera, box, UP[None], AugmentedViews.of(1))
    assert np.isfinite(bare.uncertainty).all()
    distance = np.linalg.norm(bare.joints3d, axis=-1)
    np.testing.assert_allclose(calibrated.uncertainty, np.hypot(2 * bare.uncertainty, 0.1 * distance))
    several = estimator(picture, camera, box, UP[None], AugmentedViews.of(2))
    assert several.uncertainty != bare.uncertainty
    engine.close()


class FakeSureNetwork:
    """Always the same person, seen as they are but for hands that are a metre off, and whose spread says so."""

    backend_name, device, batches = "fake", "CPU", True

    def __init__(self, spec: ModelSpec, K: np.ndarray, joints3d: np.ndarray) -> None:
        count = len(spec.joints)
        pixels = joints3d @ K.T
        hands = [spec.joints.index(f"{side}_hand") for side in ("left", "right")]
        relative = joints3d - joints3d.mean(0)
        relative[hands] += [[1.0, 0, 0], [-1.0, 0, 0]]
        spread = np.full(count, 0.05)
        spread[hands] = 5.0
        self._tensors = {
            "coords2d": pixels[:, :2] / pixels[:, 2:],
            "coords3d_rel": relative,
            "spread2d": np.full(count, 4.0),
            "spread3d": spread,
            "confidence": np.ones(count),
            "person_score": np.ones(1),
        }

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        return {name: np.float32(value)[None].repeat(len(batch), 0) for name, value in self._tensors.items()}

    def close(self) -> None:
        pass


def test_joints_that_the_heatmaps_are_sure_of_place_the_person() -> None:
    spec = load_spec(find_spec("metrabs_base"))
    spec = dataclasses.replace(spec, outputs={**spec.outputs, **{
        name: dataclasses.replace(spec.outputs[name], scale=1.0) for name in ("coords3d_rel", "spread3d")
    }})  # fmt: skip
    rng = np.random.default_rng(0)
    camera, box = Camera.from_fov(50, (640, 480)), np.array([[220.0, 60, 200, 360]])
    (virtual,) = crop.virtual_cameras(camera, box, spec.input.size, UP[None], spec.crop.box_scale)[0].K
    body = rng.uniform(-1, 1, (len(spec.joints), 3)) * [0.4, 0.8, 0.2] + [0, 0, 4.0]
    network, depths = FakeSureNetwork(spec, virtual, body), {}
    for weights in ("confidence", "spread"):
        recipe = dataclasses.replace(spec.reconstruction, weights=weights)
        estimator = PoseEstimator(Engine(dataclasses.replace(spec, reconstruction=recipe), network))
        seen = estimator(np.zeros((480, 640, 3), np.uint8), camera, box, UP[None], AugmentedViews.of(1))
        depths[weights] = seen.joints3d[0, 0, 2] / body[0, 2]
    assert depths["spread"] == pytest.approx(1, abs=0.01)
    assert abs(depths["confidence"] - 1) > 0.05


def test_who_is_known_to_be_taller_is_as_much_larger_and_farther(image: Image, boxes: np.ndarray) -> None:
    engine = open_engine(load_spec(find_spec("metrabs_base")))
    usual = engine.spec.calibration.height
    ups, one_view = np.tile(UP, (2, 1)), AugmentedViews.of(1)
    unknown, taller = (
        PoseEstimator(engine, height)(image, CAMERA, boxes, ups, one_view) for height in (0.0, 1.2 * usual)
    )
    np.testing.assert_allclose(taller.joints3d, 1.2 * unknown.joints3d, rtol=1e-6)
    np.testing.assert_allclose(taller.uncertainty, 1.2 * unknown.uncertainty, rtol=1e-6)
    np.testing.assert_allclose(CAMERA.project(taller.joints3d)[0], CAMERA.project(unknown.joints3d)[0], atol=1e-3)
    engine.close()


def test_blazepose_has_no_heatmaps_so_that_one_view_tells_nothing(
    pipeline: PosePipeline, image: Image, boxes: np.ndarray
) -> None:
    assert "spread2d" not in load_spec(find_spec("blazepose_full")).outputs
    seen = pipeline.estimator(image, CAMERA, boxes, np.tile(UP, (2, 1)), AugmentedViews.of(1))
    assert np.isnan(seen.uncertainty).all()
