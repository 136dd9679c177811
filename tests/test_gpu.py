"""On a real NVIDIA GPU: built engines beside float32 on the CPU, graphs, batches, threads, memory, the node's life of
an engine. Nothing of ROS in here: `python -m pytest -m gpu tests/test_gpu.py`.

Skipped only where there is no GPU at all. A GPU without a library, or a library that refuses, is a failure.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from metrabs_ros import crop
from metrabs_ros.backends.trt.crop_warper import CropWarper
from metrabs_ros.backends.trt.device import Device, DeviceError, OutOfMemoryError, open_device
from metrabs_ros.backends.trt.network import TensorRtNetwork
from metrabs_ros.benchmark import crowd, gpu_memory_mb
from metrabs_ros.build_engine import Reports, build_engine, open_in_precision
from metrabs_ros.built_engines import BuildOptions, built_engines
from metrabs_ros.camera import Camera
from metrabs_ros.engine import BUILT_BACKENDS, REFERENCE, Engine, open_engine
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import InputSpec, ModelSpec, find_spec, load_spec
from metrabs_ros.parity import BOUNDS_MM, check, differences
from metrabs_ros.reference_people import crops_for_measuring

INSTALLED = [name for name in BUILT_BACKENDS if importlib.util.find_spec(name)]
# scripts/gpu_check.py demands one.
HAS_GPU = (
    "METRABS_ROS_GPU" in os.environ
    or Path("/dev/nvidiactl").exists()
    or Path("/dev/nvhost-ctrl-gpu").exists()
    or shutil.which("nvidia-smi")
)

CAMERAS = {
    "pinhole": Camera.from_fov(60, (1920, 1080)),
    "bent": Camera(
        [[1500.0, 0, 955], [0, 1510, 542], [0, 0, 1]], [-0.3, 0.1, 0.001, -0.002, 0.01], "plumb_bob", (1920, 1080)
    ),
}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HAS_GPU, reason="there is no NVIDIA GPU: no /dev/nvidiactl, no nvidia-smi"),
]


@pytest.fixture
def device() -> Iterator[Device]:
    opened = open_device()
    yield opened
    opened.close()


def test_what_is_uploaded_comes_back(device: Device) -> None:
    with device.current():
        there, back = (device.pinned((3, 5), np.float32) for _ in range(2))
        there[:] = np.arange(15).reshape(3, 5)
        back[:] = -1
        address = device.allocated(there.nbytes)
        device.upload(address, there[:2])
        device.download(back[:2], address)
        device.synchronize()
        np.testing.assert_array_equal(back[:2], there[:2])
        assert (back[2] == -1).all()
        device.free(address)
        device.free_pinned(there)
        device.free_pinned(back)


def test_a_graph_does_its_work_only_when_it_is_launched(device: Device) -> None:
    with device.current():
        there, back = (device.pinned((4,), np.float32) for _ in range(2))
        address = device.allocated(there.nbytes)

        def round_trip() -> None:
            device.upload(address, there)
            device.download(back, address)

        there[:], back[:] = 1, -1
        graph = device.captured(round_trip)
        device.synchronize()
        assert (back == -1).all()
        if graph is None:
            assert "pycuda" in type(device).__module__
        else:
            for value in (2, 3):
                there[:] = value
                device.launch(graph)
                device.synchronize()
                assert (back == value).all()
            device.free_graph(graph)
        device.free(address)


def test_a_kernel_is_given_its_arguments_and_its_place(device: Device) -> None:
    source = """extern "C" __global__ void lines(float* out, int columns, float step, long long first)
    {
        const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
        if (column < columns)
            out[row * columns + column] = first + step * column + 1000 * row + 10000 * blockIdx.z;
    }"""
    with device.current():
        back = device.pinned((3, 50), np.float32)
        address = device.allocated(back.nbytes)
        arguments = (np.uint64(address), np.int32(50), np.float32(0.5), np.int64(7))
        device.run_kernel(device.kernel(source, "lines"), (2, 3, 1), (32, 1, 1), arguments)
        device.download(back, address)
        device.synchronize()
        expected = 7 + 0.5 * np.arange(50) + 1000 * np.arange(3)[:, None]
        np.testing.assert_array_equal(back, expected.astype(np.float32))
        with pytest.raises(DeviceError):
            device.kernel("nonsense", "nonsense")
        device.free(address)
        device.free_pinned(back)


@pytest.mark.parametrize("lens", CAMERAS)
def test_crops_made_on_the_gpu_are_those_of_the_cpu(device: Device, lens: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    boxes = [
        [900, 500, 100, 90],
        [300, 100, 500, 800],
        [-100, 300, 260, 300],
        [200, 50, 1500, 1000],
        [1800, 900, 400, 400],
    ]
    virtual, _ = crop.virtual_cameras(CAMERAS[lens], boxes, 192, (0, -1, 0))
    plan = crop.planned(CAMERAS[lens], virtual, [1, 0.6, 1, 0.8, 1])
    with device.current():
        warper = CropWarper(device, InputSpec("image", 192, "NCHW"))
        back = device.pinned((5, 3, 192, 192), np.float32)
        back[:] = -1
        address = device.allocated(back.nbytes)
        warper.show(image, plan)
        warper.put(slice(0, 2), address)
        warper.put(slice(2, 5), address + 2 * back[0].nbytes)
        device.download(back, address)
        device.synchronize()
        difference = np.abs(back.transpose(0, 2, 3, 1) - crop.made(image, plan))
        warper.release()
        device.free(address)
        device.free_pinned(back)
    assert difference.max() < 0.2
    if cv2.__version__ < "5":
        # Where a pixel lies on the edge between two of OpenCV's steps of 1/32 px, rounding decides.
        assert (difference > 1e-4).mean() < 1e-4
    else:
        # OpenCV 5 has no such steps, the kernel has: on noise that shows.
        assert difference.mean() < 0.002
        assert (difference > 0.03).mean() < 1e-3


def test_a_full_gpu_says_so_and_goes_on(device: Device) -> None:
    with device.current():
        with pytest.raises(OutOfMemoryError):
            device.allocated(1 << 45)
        device.free(device.allocated(1 << 20))
        device.synchronize()


def test_the_gpu_has_a_name_and_a_driver(device: Device) -> None:
    assert device.gpu.name
    assert float(device.gpu.compute_capability) >= 5
    assert device.gpu.driver


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return load_spec(find_spec("metrabs_base"))


@pytest.fixture(scope="module")
def crops(spec: ModelSpec) -> np.ndarray:
    return crops_for_measuring(spec.input.size)


@pytest.fixture(scope="module", params=INSTALLED or ["tensorrt"])
def backend(request: pytest.FixtureRequest, spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A backend whose engines in fp32 and fp16 were built into a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METRABS_ROS_CACHE", str(tmp_path_factory.mktemp("cache")))
        for precision in ("fp32", "fp16"):
            build_engine(spec, "metrabs_base", request.param, BuildOptions(precision), Reports())
        yield request.param


@pytest.fixture(scope="module")
def engine(backend: str, spec: ModelSpec) -> Iterator[Engine]:
    opened = open_in_precision(spec, backend, "fp16")
    yield opened
    opened.close()


def network_of(engine: Engine) -> TensorRtNetwork:
    network = engine.network
    assert isinstance(network, TensorRtNetwork)
    return network


@pytest.fixture(scope="module")
def on_cpu(spec: ModelSpec) -> Iterator[Engine]:
    reference = open_engine(spec, REFERENCE)
    yield reference
    reference.close()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_parity_with_float32_on_the_cpu(
    backend: str, spec: ModelSpec, crops: np.ndarray, on_cpu: Engine, precision: str
) -> None:
    engine = open_in_precision(spec, backend, precision)
    found = differences(on_cpu.infer(crops), engine.infer(crops))
    engine.close()
    check(found, precision, f"metrabs_base in {precision} on {backend}")
    # People are told apart by person_score: one that moves changes who is seen.
    assert next(each.largest for each in found if each.output == "person_score") < 0.02


def test_every_batch_size_says_the_same_of_a_crop(engine: Engine, crops: np.ndarray) -> None:
    one_by_one = np.concatenate([engine.infer(crops[i : i + 1]).coords3d_rel for i in range(8)])
    for count in (2, 3, 5, 8, 8, 8, 3):
        together = engine.infer(crops[:count]).coords3d_rel
        apart_mm = np.linalg.norm(together - one_by_one[:count], axis=-1) * 1e3
        assert apart_mm.mean() < BOUNDS_MM["fp16"]


def test_a_graph_repeats_the_run_it_was_recorded_from(engine: Engine, crops: np.ndarray) -> None:
    first = engine.infer(crops[:4]).coords3d_rel
    # TensorRT for RTX compiles for the shape in the background, and until then nothing can be recorded.
    deadline = time.monotonic() + 20
    while 4 not in network_of(engine).graph_sizes and time.monotonic() < deadline:
        engine.infer(crops[4:8])
        time.sleep(0.02)
    assert 4 in network_of(engine).graph_sizes, network_of(engine).graphs_refused or "never capturable"
    again = engine.infer(crops[:4]).coords3d_rel
    other = engine.infer(crops[4:8]).coords3d_rel
    assert np.linalg.norm(again - first, axis=-1).mean() * 1e3 < BOUNDS_MM["fp16"]
    assert np.linalg.norm(other - first, axis=-1).mean() * 1e3 > 10


@pytest.mark.parametrize("lens", CAMERAS)
def test_joints_are_the_same_wherever_the_crops_are_made(engine: Engine, crops: np.ndarray, lens: str) -> None:
    """With graphs and without, more crops than run at once, and with runs on crops of the CPU in between."""
    spec, people = engine.spec, [np.rint(255 * each).astype(np.uint8) for each in crops[:8]]
    for count in (1, 1, 1, 4, 4, 4, 3, 40):
        scene = crowd(people, count, (1920, 1080))
        virtual, _ = crop.virtual_cameras(CAMERAS[lens], scene.boxes, spec.input.size, (0, -1, 0), spec.crop.box_scale)
        plan = crop.planned(CAMERAS[lens], virtual)
        on_gpu = engine.infer_warped(scene.image, plan)
        assert on_gpu is not None, "see the warning in the log"
        check(differences(engine.infer(crop.made(scene.image, plan)), on_gpu), "fp16", f"{count} crops of the GPU")
    assert engine.can_warp


def test_more_crops_than_the_engine_takes(engine: Engine, crops: np.ndarray, on_cpu: Engine) -> None:
    many = np.concatenate([crops] * 4)[:70]
    found = differences(on_cpu.infer(many), engine.infer(many))
    check(found, "fp16", "70 crops")


def test_a_batch_without_room_is_split(
    backend: str, spec: ModelSpec, crops: np.ndarray, on_cpu: Engine, device: Device
) -> None:
    """All but 160 MB of the GPU is taken: 32 crops need more, one does not."""
    engine = open_in_precision(spec, backend, "fp32")
    many = np.concatenate([crops, crops])[:32]
    engine.infer(many[:1])
    held: list[int] = []
    with device.current():
        while (free := _free_bytes()) > 200e6:
            held.append(device.allocated(int(min(free - 160e6, 8e9))))
        try:
            output = engine.infer(many)
        finally:
            for address in held:
                device.free(address)
    check(differences(on_cpu.infer(many), output), "fp32", "a split batch")
    assert network_of(engine).at_once < 32
    engine.close()


def test_threads_take_turns(engine: Engine, crops: np.ndarray) -> None:
    expected = [engine.infer(crops[i : i + 2]).coords3d_rel for i in range(4)]
    worst_mm: list[float] = []

    def work(i: int) -> None:
        for _ in range(10):
            got = engine.infer(crops[i : i + 2]).coords3d_rel
            worst_mm.append(float(np.linalg.norm(got - expected[i], axis=-1).mean() * 1e3))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worst_mm) == 40
    assert max(worst_mm) < BOUNDS_MM["fp16"]


def test_closing_gives_the_memory_back(backend: str, spec: ModelSpec, crops: np.ndarray) -> None:
    """Of four engines opened and closed, as by a node configured and cleaned up, the last three leave nothing."""
    free = []
    for _ in range(4):
        engine = open_in_precision(spec, backend, "fp16")
        for _ in range(3):
            engine.infer(crops[:8])
        engine.close()
        free.append(_free_bytes())
    assert free[0] - free[-1] < 32e6


def test_memory_is_given_back_between_runs_and_taken_again(engine: Engine, crops: np.ndarray) -> None:
    """As by a node that is deactivated and activated."""
    whole = np.concatenate([crops] * (32 // len(crops) + 1))[:32]
    before = [engine.infer(whole) for _ in range(3)][-1]
    taken = _free_bytes()
    engine.release_memory()
    # The crops alone are 25 MB.
    assert _free_bytes() - taken > 20e6
    for _ in range(3):
        np.testing.assert_allclose(engine.infer(whole).coords3d_rel, before.coords3d_rel, atol=1e-5)


def test_the_benchmark_sees_the_memory_on_the_gpu(engine: Engine, crops: np.ndarray) -> None:
    engine.infer(crops)
    used_mb = gpu_memory_mb()
    if used_mb is None:
        pytest.skip("nvidia-smi tells nothing of this process (a container, or a Jetson)")
    assert 20 < used_mb < 20e3


def test_the_engine_of_the_backend_is_found_by_its_name(backend: str, spec: ModelSpec, crops: np.ndarray) -> None:
    engine = open_engine(spec, backend)
    assert engine.backend_name == backend
    assert np.isfinite(engine.infer(crops[:1]).coords3d_rel).all()
    engine.close()


def test_a_changed_engine_is_not_run(backend: str, spec: ModelSpec) -> None:
    (built,) = (each for each in built_engines() if each.record.options.precision == "fp32")
    content = bytearray(built.path.read_bytes())
    content[len(content) // 2] ^= 1
    kept = built.path.read_bytes()
    built.path.write_bytes(bytes(content))
    try:
        with pytest.raises(InputError, match="is not the engine that was built"):
            open_in_precision(spec, backend, "fp32")
    finally:
        built.path.write_bytes(kept)


def _free_bytes() -> int:
    from cuda.bindings import runtime as cudart

    error, free, _ = cudart.cudaMemGetInfo()
    assert error == cudart.cudaError_t.cudaSuccess
    return int(free)
