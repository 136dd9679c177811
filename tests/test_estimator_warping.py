"""A network that makes the crops itself, on a fake GPU (fake_gpu): the same poses, and where crops are made when."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from fake_gpu import FakeDevice
from fake_tensorrt import OUTPUTS, FakeTrt
from networks_for_tests import SIZE, spec_with, write_spec

from metrabs_ros import crop
from metrabs_ros.augmented_views import AugmentedViews
from metrabs_ros.backends.trt.network import TensorRtNetwork
from metrabs_ros.benchmark import TimedNetwork
from metrabs_ros.camera import Camera
from metrabs_ros.engine import Engine, Network
from metrabs_ros.estimator import Estimates, PoseEstimator
from metrabs_ros.model_spec import load_spec
from metrabs_ros.shared_networks import Meeting, SharedNetwork
from metrabs_ros.warp_choice import MEASURED, WARM_UP

LARGE, SMALL = (1000, 700), (320, 240)
TRIALS = WARM_UP + MEASURED


def engine_on(device: FakeDevice, folder: Path, **changes: object) -> Engine:
    spec = load_spec(write_spec(folder, spec_with(**changes)))
    network = TensorRtNetwork(FakeTrt(device), "tensorrt", b"engine", list(OUTPUTS), device, warps_for=spec.input)
    return Engine(spec, network)


def on_cpu_only(network: Network) -> Network:
    """A network that is given its crops."""
    return SharedNetwork(network, Meeting())


def estimated(estimator: PoseEstimator, size: tuple[int, int] = LARGE, people: int = 3, num_aug: int = 1) -> Estimates:
    """Of the same boxes in the same noise."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    boxes = np.array([[0.2, 0.2, 0.3, 0.6], [0.6, 0.1, 0.2, 0.5], [-0.1, 0.5, 0.3, 0.6]])[:people] * [*size, *size]
    up = np.tile([0.0, -1.0, 0.0], (people, 1))
    return estimator(image, Camera.from_fov(60, size), boxes, up, AugmentedViews.of(num_aug))


def assert_same(one: Estimates, other: Estimates) -> None:
    np.testing.assert_allclose(one.joints3d, other.joints3d, atol=1e-4)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


@pytest.mark.parametrize("num_aug", [1, 5])
def test_poses_are_the_same_wherever_the_crops_are_made(num_aug: int, tmp_path: Path) -> None:
    device = FakeDevice()
    engine = engine_on(device, tmp_path, input__max_batch=4)
    on_cpu = estimated(PoseEstimator(engine.through(on_cpu_only)), num_aug=num_aug)
    assert device.kernels == 0
    on_gpu = estimated(PoseEstimator(engine), num_aug=num_aug)
    assert device.kernels == 1
    assert_same(on_gpu, on_cpu)
    engine.close()


def test_both_ways_are_tried_and_then_one_stays(tmp_path: Path) -> None:
    device = FakeDevice()
    engine = engine_on(device, tmp_path)
    estimator = PoseEstimator(engine)
    first = estimated(estimator)
    for _ in range(2 * TRIALS - 1):
        assert_same(estimated(estimator), first)
    assert device.kernels == TRIALS
    for _ in range(6):
        estimated(estimator)
    assert device.kernels in (TRIALS, TRIALS + 6)
    engine.close()


@pytest.mark.parametrize("resampling", ["area", "pyramid"])
def test_small_images_and_pyramids_stay_on_the_cpu(resampling: str, tmp_path: Path) -> None:
    device = FakeDevice()
    engine = engine_on(device, tmp_path, crop={"resampling": resampling})
    estimator = PoseEstimator(engine)
    for _ in range(3):
        estimated(estimator, SMALL if resampling == "area" else LARGE)
    assert device.kernels == 0
    engine.close()


def test_nobody_needs_no_gpu(tmp_path: Path) -> None:
    device = FakeDevice()
    engine = engine_on(device, tmp_path)
    assert len(estimated(PoseEstimator(engine), people=0).scores) == 0
    assert (device.kernels, device.uploaded) == (0, 0)
    engine.close()


def test_the_time_of_crops_that_a_network_makes_is_its_own(tmp_path: Path) -> None:
    device = FakeDevice()
    engine = engine_on(device, tmp_path)
    timed: list[TimedNetwork] = []

    def around(network: Network) -> Network:
        timed.append(TimedNetwork(network))
        return timed[-1]

    assert_same(estimated(PoseEstimator(engine.through(around))), estimated(PoseEstimator(engine)))
    assert device.kernels == 2
    assert timed[0].can_warp
    assert timed[0].seconds > 0
    assert not TimedNetwork(on_cpu_only(engine.network)).can_warp
    engine.close()


def test_networks_that_cameras_share_are_given_crops(tmp_path: Path) -> None:
    device = FakeDevice()
    engine = engine_on(device, tmp_path)
    expected = estimated(PoseEstimator(engine))
    meeting = Meeting()
    shared = engine.through(lambda network: SharedNetwork(network, meeting))
    assert not shared.can_warp
    camera = Camera.from_fov(60, LARGE)
    plan = crop.planned(camera, crop.virtual_cameras(camera, [[300, 200, 200, 300]], SIZE, (0, -1, 0))[0])
    assert shared.infer_warped(np.zeros((LARGE[1], LARGE[0], 3), np.uint8), plan) is None
    assert_same(estimated(PoseEstimator(shared)), expected)
    assert device.kernels == 1
    assert meeting.calls == 1
    engine.close()


def test_where_the_gpu_cannot_the_cpu_makes_the_crops(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    device = FakeDevice()
    device.refuses_kernels = "fake"
    engine = engine_on(device, tmp_path)
    estimator = PoseEstimator(engine)
    with caplog.at_level(logging.WARNING):
        found = [estimated(estimator) for _ in range(3)]
    assert caplog.messages == ["Crops are not made on the Fake GPU but on the CPU: fake."]
    expected = estimated(PoseEstimator(engine.through(on_cpu_only)))
    for each in found:
        assert_same(each, expected)
    assert not engine.can_warp
    engine.close()
