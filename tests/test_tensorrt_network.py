"""How an engine is driven on a GPU: batches, memory, graphs. GPU and library are fakes (fake_gpu,
fake_tensorrt); real ones: test_gpu.py."""

from __future__ import annotations

import gc
import logging
import threading
import weakref

import numpy as np
import pytest
from fake_gpu import FakeDevice
from fake_tensorrt import OUTPUTS, SCRATCH_BYTES, SHAPES, Fake86, FakeRtx, FakeTrt
from networks_for_tests import SIZE, computed

from metrabs_ros import crop
from metrabs_ros.backends.trt.network import TensorRtNetwork
from metrabs_ros.camera import Camera
from metrabs_ros.crop_plan import CropPlan
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import InputSpec

INPUT = InputSpec("image", SIZE, "NCHW")
CAMERA = Camera.from_fov(60, (320, 240))
CROP_BYTES = 4 * sum(int(np.prod(shape)) for shape in SHAPES.values())


def opened(
    device: FakeDevice,
    people: tuple[int, int, int] = (1, 4, 32),
    outputs: tuple[str, ...] = tuple(OUTPUTS),
    library: type[FakeTrt] = FakeTrt,
    warps_for: InputSpec | None = INPUT,
) -> TensorRtNetwork:
    return TensorRtNetwork(library(device, people), "tensorrt", b"engine", outputs, device, warps_for=warps_for)


def crops(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3, SIZE, SIZE)).astype(np.float32)


def assert_is_computed(network: TensorRtNetwork, batch: np.ndarray) -> None:
    got = network.run(batch)
    for name, values in computed(batch.transpose(0, 2, 3, 1)).items():
        np.testing.assert_allclose(got[name], values, atol=1e-4)


def photo_and_plan(count: int, seed: int = 0, camera: Camera = CAMERA) -> tuple[np.ndarray, CropPlan]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (camera.size[1], camera.size[0], 3), dtype=np.uint8)
    boxes = np.concatenate([rng.uniform(-20, 230, (count, 2)), rng.uniform(20, 120, (count, 2))], -1)
    return image, crop.planned(camera, crop.virtual_cameras(camera, boxes, SIZE, (0, -1, 0))[0])


def assert_is_computed_of_warped(network: TensorRtNetwork, count: int, seed: int = 0, camera: Camera = CAMERA) -> None:
    image, plan = photo_and_plan(count, seed, camera)
    got = network.run_warped(image, plan)
    assert got is not None
    for name, values in computed(crop.made(image, plan)).items():
        np.testing.assert_allclose(got[name], values, atol=1e-4)


@pytest.mark.parametrize("library", [FakeTrt, FakeRtx, Fake86])
def test_any_order_of_batch_sizes_gives_the_networks_outputs(library: type[FakeTrt]) -> None:
    device = FakeDevice()
    network = opened(device, library=library)
    for i, count in enumerate([1, 3, 1, 8, 3, 8, 1, 1, 32, 5, 8, 70, 32, 1]):
        assert_is_computed(network, crops(count, seed=i))
    network.close()


def test_the_second_run_of_a_usual_size_becomes_a_graph_that_later_ones_repeat() -> None:
    device = FakeDevice()
    network = opened(device)
    for i in range(4):
        assert_is_computed(network, crops(4, seed=i))
    assert network.graph_sizes == [4]
    assert device.launches == 3
    for i in range(4):
        assert_is_computed(network, crops(3, seed=i))
    assert network.graph_sizes == [4]
    network.close()
    assert device.graphs == []


def test_graphs_end_where_scratch_memory_moves() -> None:
    device = FakeDevice()
    network = opened(device)
    for i, count in enumerate([5, 2, 2, 2, 8, 2, 2]):
        assert_is_computed(network, crops(count, seed=i))
    network.close()


def test_nothing_is_recorded_while_kernels_are_compiled() -> None:
    device = FakeDevice()
    network = opened(device, library=FakeRtx)
    for i in range(8):
        assert_is_computed(network, crops(2, seed=i))
        assert network.graph_sizes == ([] if i < 4 else [2])
    assert device.launches == 4
    network.close()


def test_without_graphs_none_is_recorded_or_repeated() -> None:
    device = FakeDevice()
    network = opened(device)
    for use_graphs, launches in ((False, 0), (True, 2), (False, 2)):
        network.use_graphs = use_graphs
        for i in range(3 if not use_graphs else 2):
            assert_is_computed(network, crops(4, seed=i))
        assert device.launches == launches
    network.close()


def test_a_closed_network_keeps_nothing_of_the_engine_alive() -> None:
    device = FakeDevice()
    network = opened(device)
    network.run(crops(2))
    engine = weakref.ref(network._engine)
    network.close()
    gc.collect()
    assert engine() is None


def test_results_are_the_callers_own() -> None:
    network = opened(FakeDevice())
    first = network.run(crops(2))["world"]
    kept = first.copy()
    network.run(crops(2, seed=1))
    np.testing.assert_array_equal(first, kept)
    network.close()


def test_only_wanted_outputs_come_back() -> None:
    device = FakeDevice()
    network = opened(device, outputs=("world",))
    assert list(network.run(crops(2))) == ["world"]
    assert len(device.pinned_arrays) == 2
    network.close()


def test_a_batch_that_does_not_fit_is_halved_until_it_does(caplog: pytest.LogCaptureFixture) -> None:
    device = FakeDevice(room=6 * (CROP_BYTES + SCRATCH_BYTES))
    network = opened(device)
    with caplog.at_level(logging.WARNING):
        assert_is_computed(network, crops(32))
    assert [record.getMessage() for record in caplog.records] == [
        "The Fake GPU has no room for 32 crops at once: going on with 16 at a time.",
        "The Fake GPU has no room for 16 crops at once: going on with 8 at a time.",
        "The Fake GPU has no room for 8 crops at once: going on with 4 at a time.",
    ]
    caplog.clear()
    for i in range(3):
        assert_is_computed(network, crops(9, seed=i))
    assert not caplog.records
    network.close()


def test_scratch_memory_that_does_not_fit_splits_too() -> None:
    device = FakeDevice(room=8 * CROP_BYTES + 5 * SCRATCH_BYTES)
    network = opened(device)
    assert_is_computed(network, crops(8))
    network.close()


def test_no_room_for_one_crop_is_a_sentence() -> None:
    network = opened(FakeDevice(room=CROP_BYTES // 2))
    with pytest.raises(InputError, match=r"has no room for a single crop .*: end what else uses the GPU"):
        network.run(crops(2))
    network.close()


def test_fewer_crops_than_the_profile_allows_are_filled_up() -> None:
    network = opened(FakeDevice(), people=(4, 8, 16))
    assert_is_computed(network, crops(16))
    for i in range(3):
        assert_is_computed(network, crops(2, seed=i))
    network.close()


@pytest.mark.parametrize(("least", "room", "at_once"), [(4, 5, 4), (3, 3, 3), (3, 20, 16), (16, 16, 16)])
def test_a_gpu_without_room_never_runs_fewer_crops_than_the_profile_allows(least: int, room: int, at_once: int) -> None:
    network = opened(FakeDevice(room=room * (CROP_BYTES + SCRATCH_BYTES)), people=(least, 16, 32))
    for i, count in enumerate([32, 2, 17, 1, 5, 32]):
        assert_is_computed(network, crops(count, seed=i))
    assert network.at_once == at_once
    network.close()


@pytest.mark.parametrize("count", [1, 3, 4, 5, 32])
def test_no_room_for_the_least_that_the_profile_allows_is_a_sentence(count: int) -> None:
    network = opened(FakeDevice(room=4 * (CROP_BYTES + SCRATCH_BYTES) - 1), people=(4, 16, 32))
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"has no room for the 4 crops .* at least \(.*\): build .* --min-people, end"
        ):
            network.run(crops(count))
    network.close()


def test_close_gives_everything_back() -> None:
    device = FakeDevice()
    network = opened(device)
    for _ in range(2):
        network.run(crops(8))
        network.run(crops(3))
    assert device.used
    network.close()
    assert (device.used, device.pinned_arrays, device.graphs, device.closed) == (0, [], [], True)


@pytest.mark.parametrize("library", [FakeTrt, FakeRtx, Fake86])
def test_memory_is_given_back_between_runs_and_taken_again(library: type[FakeTrt]) -> None:
    device = FakeDevice()
    network = opened(device, library=library)
    for i in range(3):
        assert_is_computed(network, crops(8, seed=i))
        assert_is_computed_of_warped(network, 3, seed=i)
        network.release_memory()
        assert (device.used, device.pinned_arrays, device.graphs, device.closed) == (0, [], [], False)
        device.refuses_kernels = "compiled already"
    assert_is_computed(network, crops(8))
    network.close()


def test_a_gpu_that_was_full_is_tried_again_once_memory_was_given_back() -> None:
    device = FakeDevice(room=SCRATCH_BYTES * 4 + CROP_BYTES * 5)
    network = opened(device)
    network.run(crops(8))
    assert network.at_once < 8
    device.room = 1 << 30
    network.release_memory()
    assert_is_computed(network, crops(8))
    assert network.at_once == 32
    network.close()


def test_threads_take_turns() -> None:
    network = opened(FakeDevice())
    faults: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for i in range(20):
                assert_is_computed(network, crops(1 + (seed + i) % 5, seed=100 * seed + i))
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    network.close()
    assert not faults


@pytest.mark.parametrize("library", [FakeTrt, FakeRtx, Fake86])
def test_crops_made_on_the_gpu_and_on_the_cpu_take_turns_in_any_order(library: type[FakeTrt]) -> None:
    device = FakeDevice()
    network = opened(device, library=library)
    bent = Camera(CAMERA.K, [-0.3, 0.1, 0.001, -0.002, 0.0], "plumb_bob", (400, 300))
    for i, count in enumerate([1, 3, 1, 8, 3, 8, 1, 1, 32, 5, 8, 70, 32, 1]):
        assert_is_computed_of_warped(network, count, i, bent if i % 3 else CAMERA)
        if i % 2:
            assert_is_computed(network, crops(count, seed=i))
    assert network.can_warp
    network.close()
    assert (device.used, device.pinned_arrays, device.graphs) == (0, [], [])


def test_a_graph_serves_crops_of_both_kinds() -> None:
    device = FakeDevice()
    network = opened(device)
    for i in range(3):
        assert_is_computed(network, crops(4, seed=i))
        assert_is_computed_of_warped(network, 4, i)
    assert network.graph_sizes == [4]
    assert device.launches == 5
    assert len(device.graphs) == 1
    network.close()


def test_the_image_goes_up_once_for_all_parts_and_no_crop_does() -> None:
    device = FakeDevice()
    network = opened(device, people=(1, 2, 4))
    image, plan = photo_and_plan(10)
    network.run_warped(image, plan)
    before = device.uploaded
    network.run_warped(image, plan)
    assert device.kernels == 6
    assert device.uploaded - before < image.nbytes + 10 * 200
    network.close()


def test_fewer_crops_made_on_the_gpu_than_the_profile_allows() -> None:
    network = opened(FakeDevice(), people=(4, 8, 16))
    for i in range(3):
        assert_is_computed_of_warped(network, 2, i)
    network.close()


def test_crops_made_on_the_gpu_are_split_where_there_is_no_room(caplog: pytest.LogCaptureFixture) -> None:
    image = photo_and_plan(1)[0]
    device = FakeDevice(room=image.nbytes + 8000 + 6 * (CROP_BYTES + SCRATCH_BYTES))
    network = opened(device)
    with caplog.at_level(logging.WARNING):
        assert_is_computed_of_warped(network, 32)
    assert caplog.messages[-1] == "The Fake GPU has no room for 8 crops at once: going on with 4 at a time."
    assert network.can_warp
    assert_is_computed(network, crops(9))
    network.close()


@pytest.mark.parametrize("room_beside_image", [-1, CROP_BYTES])
def test_where_the_image_takes_the_room_of_the_crops_the_cpu_makes_them(
    room_beside_image: int, caplog: pytest.LogCaptureFixture
) -> None:
    image, plan = photo_and_plan(4)
    device = FakeDevice(room=image.nbytes + room_beside_image)
    network = opened(device)
    with caplog.at_level(logging.WARNING):
        assert network.run_warped(image, plan) is None
        assert network.run_warped(image, plan) is None
    told = [message for message in caplog.messages if "CPU" in message]
    assert len(told) == 1
    assert told[0].startswith("Crops are not made on the Fake GPU but on the CPU: ")
    assert not network.can_warp
    assert network.at_once == 32
    assert device.used <= 1
    assert_is_computed(network, crops(4))
    network.close()
    assert (device.used, device.pinned_arrays) == (0, [])


def test_a_kernel_that_does_not_compile_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    device = FakeDevice()
    device.refuses_kernels = "there is no NVRTC (fake)"
    network = opened(device)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert network.run_warped(*photo_and_plan(2)) is None
    assert caplog.messages == ["Crops are not made on the Fake GPU but on the CPU: there is no NVRTC (fake)."]
    assert not network.can_warp
    assert_is_computed(network, crops(2))
    network.close()


def test_a_network_without_a_spec_makes_no_crops() -> None:
    network = opened(FakeDevice(), warps_for=None)
    assert not network.can_warp
    assert network.run_warped(*photo_and_plan(2)) is None
    network.close()
