"""The kernel that makes crops on a GPU, run as C++, beside crop.warp; what the compiler for GPUs says of it; and how it
is launched. Real GPUs: test_gpu.py."""

from __future__ import annotations

import ctypes
import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda.bindings import driver, runtime
from fake_gpu import FakeDevice, array_at
from kernels_on_cpu import compiled_as_cpp, run_as_cpp
from lenses_for_tests import LENSES

from metrabs_ros import crop
from metrabs_ros.backends.trt import device_cuda_python, nvrtc
from metrabs_ros.backends.trt.crop_warper import CropWarper, kernel_source, records_of
from metrabs_ros.backends.trt.device import DeviceError, OutOfMemoryError
from metrabs_ros.built_engines import Gpu
from metrabs_ros.camera import Camera
from metrabs_ros.crop_plan import NOWHERE
from metrabs_ros.model_spec import InputSpec
from metrabs_ros.network_input import network_input

ROOT = Path(__file__).resolve().parents[1]
SIZE = (1920, 1440)
SIDE = 100
UP = (0.0, -1.0, 0.0)
# From a pixel of the image a pixel of the crop to six and more, half outside at each edge, and outside.
BOXES = np.array(
    [
        [900.0, 700, 80, 60], [500, 300, 230, 250], [700, 500, 320, 350], [300, 400, 500, 480], [600, 300, 590, 640],
        [700, 400, 760, 700], [-150, 500, 300, 310], [1750, 600, 350, 300], [800, -200, 450, 400],
        [900, 1300, 300, 330], [-4000, 600, 100, 100],
    ]
)  # fmt: skip
GAMMAS = np.resize([1.0, 0.6, 0.8], len(BOXES))


def enlarged(camera: Camera) -> Camera:
    """The same lens before three times as many pixels."""
    return Camera(camera.K * [[3], [3], [1]], camera.D, camera.distortion_model, SIZE)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Noise: the least difference in where a crop is read shows."""
    return np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)


def made(device: FakeDevice, spec: InputSpec, image: np.ndarray, plan: Any, parts: tuple[slice, ...]) -> np.ndarray:
    """All parts through a CropWarper into memory of the device."""
    layout = (spec.size, spec.size, 3) if spec.layout == "NHWC" else (3, spec.size, spec.size)
    warper = CropWarper(device, spec)
    address = device.allocated(4 * len(plan) * int(np.prod(layout)))
    crops = array_at(address, (len(plan), *layout))
    crops[:] = np.nan
    warper.show(image, plan)
    for part in parts:
        warper.put(part, address + part.start * 4 * int(np.prod(layout)))
    device.synchronize()
    found = crops.copy()
    warper.release()
    device.free(address)
    assert (device.used, device.pinned_arrays) == (0, [])
    return found


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize(
    ("layout", "mean", "std"), [("NHWC", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), ("NCHW", (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))]
)
def test_crops_are_those_of_the_cpu(
    lens: str, layout: str, mean: tuple[float, ...], std: tuple[float, ...], image: np.ndarray
) -> None:
    camera = enlarged(LENSES[lens])
    virtual, _ = crop.virtual_cameras(camera, BOXES, SIDE, UP)
    spec = InputSpec("image", SIDE, layout, mean, std)
    expected = network_input(SimpleNamespace(input=spec), crop.warp(image, camera, virtual, GAMMAS))
    plan = crop.planned(camera, virtual, GAMMAS)
    assert {squares.pitch for squares in plan.squares} >= {1, 2, 3, 4, 6}
    found = made(FakeDevice(), spec, image, plan, (slice(0, 4), slice(4, len(plan))))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 / min(std))


def test_where_the_lens_sees_nothing_on_a_part_of_the_crop(image: np.ndarray) -> None:
    camera = enlarged(LENSES["plumb_bob 5"])
    virtual, _ = crop.virtual_cameras(camera, [[-500, -300, 1700, 1500]], SIDE, UP, box_scale=3)
    plan = crop.planned(camera, virtual)
    nowhere = (plan.grids < NOWHERE / 2).any(-1)
    assert nowhere.any()
    assert not nowhere.all()
    found = made(FakeDevice(), InputSpec("image", SIDE, "NHWC"), image, plan, (slice(0, 1),))
    # The CPU makes a crop that is alone in bands, and which pixels border on those places depends on them.
    both = crop.virtual_cameras(camera, [[-500, -300, 1700, 1500]] * 8, SIDE, UP, box_scale=3)[0]
    np.testing.assert_allclose(found[0], crop.warp(image, camera, both)[0], rtol=0, atol=1e-6)


def test_only_the_rows_that_are_seen_go_up(image: np.ndarray) -> None:
    camera = enlarged(LENSES["pinhole"])
    device, spec = FakeDevice(), InputSpec("image", SIDE, "NHWC")
    plan = crop.planned(camera, crop.virtual_cameras(camera, [[900, 700, 100, 100]], SIDE, UP)[0])
    made(device, spec, image, plan, (slice(0, 1),))
    assert device.uploaded < 150 * image[0].nbytes
    assert records_of(plan, SIZE)[2].start > 650


def test_crops_that_show_nothing_of_the_image_are_black(image: np.ndarray) -> None:
    camera = enlarged(LENSES["pinhole"])
    plan = crop.planned(camera, crop.virtual_cameras(camera, [[-4000, 600, 100, 100]], SIDE, UP)[0])
    found = made(FakeDevice(), InputSpec("image", SIDE, "NHWC"), image, plan, (slice(0, 1),))
    assert 0 <= found.max() < 1e-9


def test_an_image_that_is_a_part_of_another(image: np.ndarray) -> None:
    camera = enlarged(LENSES["plumb_bob 4"])
    virtual, _ = crop.virtual_cameras(camera, BOXES, SIDE, UP)
    part = image[::-1, ::-1]
    found = made(FakeDevice(), InputSpec("image", SIDE, "NHWC"), part, crop.planned(camera, virtual), (slice(0, 11),))
    np.testing.assert_allclose(found, crop.warp(np.ascontiguousarray(part), camera, virtual), rtol=0, atol=1e-6)


def test_a_gpu_without_room_for_the_image_keeps_nothing() -> None:
    camera = enlarged(LENSES["pinhole"])
    plan = crop.planned(camera, crop.virtual_cameras(camera, BOXES, SIDE, UP)[0])
    device = FakeDevice(room=10_000)
    warper = CropWarper(device, InputSpec("image", SIDE, "NHWC"))
    with pytest.raises(OutOfMemoryError):
        warper.show(np.zeros((SIZE[1], SIZE[0], 3), np.uint8), plan)
    warper.release()
    assert (device.used, device.pinned_arrays) == (0, [])


@pytest.mark.parametrize("compute_capability", ["7.5", "8.6", "8.7", "9.0", "12.0"])
def test_the_compiler_for_gpus_takes_the_kernel(compute_capability: str) -> None:
    code = nvrtc.compiled(kernel_source(), compute_capability)
    assert code.startswith(b"\x7fELF")
    assert b".text.warp\0" in code


def test_what_the_compiler_refuses_is_a_sentence() -> None:
    with pytest.raises(DeviceError, match=r'compute capability 8\.6: .* error: identifier "nonsense" is undefined$'):
        nvrtc.compiled("__global__ void f() { nonsense(); }", "8.6")
    with pytest.raises(DeviceError, match=r"compute capability 2\.0: NVRTC_ERROR_INVALID_OPTION, .*architecture"):
        nvrtc.compiled(kernel_source(), "2.0")


@pytest.fixture
def no_nvrtc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)


@pytest.mark.usefixtures("no_nvrtc")
def test_no_compiler_is_a_sentence() -> None:
    with pytest.raises(DeviceError, match=r"^there is no NVRTC \(.*; `pip install cuda-python nvidia-cuda-nvrtc`\)$"):
        nvrtc.compiled(kernel_source(), "8.6")


class FakeDriver:
    """CUDA's driver API as cuda-python has it, as far as kernels go; a launch waits for what is queued on ``device``
    and runs the kernel as C++."""

    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name == "CUresult":
            return driver.CUresult

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append(name)
            if name == "cuLaunchKernel":
                kernel, *places, shared, stream, addresses, extra = arguments
                assert (kernel, shared, stream, extra) == ("warp", 0, 7, 0)
                self.device.synchronize()
                pointers = np.ctypeslib.as_array((ctypes.c_uint64 * 9).from_address(addresses))
                run_as_cpp(compiled_as_cpp(kernel_source(), kernel), places[:3], places[3:], pointers)
            if name == "cuModuleLoadData":
                assert arguments[0].startswith(b"\x7fELF")
            answer = arguments[1].decode() if name == "cuModuleGetFunction" else name
            return (driver.CUresult.CUDA_SUCCESS, answer)

        return call


def test_cuda_python_hands_the_kernel_its_arguments(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeDevice(gpu=Gpu("Fake GPU", "8.6", "1.0"))
    calls = FakeDriver(fake)
    monkeypatch.setattr(device_cuda_python, "driver", calls)
    streams = SimpleNamespace(cudaError_t=runtime.cudaError_t, cudaStreamDestroy=lambda _: (0,))
    monkeypatch.setattr(device_cuda_python, "cudart", streams)
    device = object.__new__(device_cuda_python.CudaPythonDevice)
    device.gpu, device.stream, device._stream, device._context, device._modules = fake.gpu, 7, 7, None, []
    fake.kernel, fake.run_kernel = device.kernel, device.run_kernel
    camera = enlarged(LENSES["equidistant"])
    virtual, _ = crop.virtual_cameras(camera, BOXES, SIDE, UP)
    spec = InputSpec("image", SIDE, "NHWC")
    found = made(fake, spec, image, crop.planned(camera, virtual), (slice(0, 5), slice(5, 11)))
    np.testing.assert_allclose(found, crop.warp(image, camera, virtual), rtol=0, atol=1e-6)
    assert calls.calls == [
        *("cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuModuleLoadData", "cuModuleGetFunction"),
        *("cuCtxSetCurrent", "cuLaunchKernel") * 2,
    ]
    device.close()
    assert calls.calls[-3:] == ["cuCtxSetCurrent", "cuModuleUnload", "cuDevicePrimaryCtxRelease"]


def test_cuda_pythons_refusals_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = device_cuda_python._checked
    assert checked((driver.CUresult.CUDA_SUCCESS, 5)) == 5
    with pytest.raises(OutOfMemoryError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        checked((driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY, None))
    with pytest.raises(DeviceError, match="CUDA_ERROR_NO_BINARY_FOR_GPU"):
        checked((driver.CUresult.CUDA_ERROR_NO_BINARY_FOR_GPU, None))


class FakePycuda:
    """As much of pycuda as kernels take; nvcc "compiles" where there is one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, nvcc: bool) -> None:
        package, self.driver, compiler = (ModuleType(name) for name in ("pycuda", "pycuda.driver", "pycuda.compiler"))
        self.launched: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.compiled: list[tuple[str, dict[str, Any]]] = []

        def compile_by_nvcc(source: str, **options: Any) -> bytes:
            if not nvcc:
                raise FileNotFoundError("nvcc")
            self.compiled.append((source, options))
            return b"by nvcc"

        def module_from_buffer(code: bytes) -> Any:
            def function(*arguments: Any, **options: Any) -> None:
                self.launched.append((arguments, options))

            return SimpleNamespace(get_function=lambda name: function, code=code)

        self.driver.module_from_buffer = module_from_buffer
        compiler.compile = compile_by_nvcc
        package.driver, package.compiler = self.driver, compiler
        for module in (package, self.driver, compiler):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        # Imported anew, and forgotten after the test.
        name = "metrabs_ros.backends.trt.device_pycuda"
        monkeypatch.setitem(sys.modules, name, package)
        del sys.modules[name]
        self.device = object.__new__(importlib.import_module(name).PycudaDevice)
        self.device.gpu, self.device._modules, self.device._stream = Gpu("Fake GPU", "8.7", "1.0"), [], "stream"


def test_pycuda_takes_what_nvrtc_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakePycuda(monkeypatch, nvcc=False)
    kernel = fake.device.kernel(kernel_source(), "warp")
    assert fake.device._modules[0].code.startswith(b"\x7fELF")
    fake.device.run_kernel(kernel, (1, 2, 3), (4, 5, 6), [np.uint64(7), np.int32(8)])
    assert fake.launched == [((7, 8), {"grid": (1, 2, 3), "block": (4, 5, 6), "stream": "stream"})]


@pytest.mark.usefixtures("no_nvrtc")
def test_pycuda_takes_what_nvcc_compiles_where_there_is_no_nvrtc(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakePycuda(monkeypatch, nvcc=True)
    fake.device.kernel(kernel_source(), "warp")
    assert fake.device._modules[0].code == b"by nvcc"
    assert fake.compiled[0][1] == {"options": ["--fmad=false"], "arch": "sm_87", "no_extern_c": True}


@pytest.mark.usefixtures("no_nvrtc")
def test_pycuda_without_any_compiler_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match=r"^there is no NVRTC \(.*\); nvcc: nvcc$"):
        FakePycuda(monkeypatch, nvcc=False).device.kernel(kernel_source(), "warp")


def test_the_kernel_is_a_part_of_the_package() -> None:
    """setup.py must name it: setuptools leaves out what is no Python."""
    assert kernel_source().count("__global__") == 1
    assert 'package_data={f"{PACKAGE}.backends.trt": ["*.cu"]}' in (ROOT / "setup.py").read_text(encoding="utf-8")
