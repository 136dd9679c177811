"""CUDA through pycuda. It has no graphs; its context is pushed by whichever thread works."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pycuda.driver as cuda
from numpy.typing import NDArray

from metrabs_ros.backends.trt import nvrtc
from metrabs_ros.backends.trt.device import DeviceError, OutOfMemoryError, driver_version, no_gpu
from metrabs_ros.built_engines import Gpu


def open_device() -> PycudaDevice:
    """The first GPU. Raises InputError where there is none."""
    try:
        cuda.init()
        count = cuda.Device.count()
    except cuda.Error as error:
        raise no_gpu(str(error)) from error
    if not count:
        raise no_gpu("CUDA counts none")
    return PycudaDevice()


class PycudaDevice:
    """Device on the first GPU."""

    def __init__(self) -> None:
        device = cuda.Device(0)
        # The primary context is the one that TensorRT takes, too.
        self._context = device.retain_primary_context()
        major, minor = device.compute_capability()
        self.gpu = Gpu(device.name(), f"{major}.{minor}", driver_version(cuda.get_driver_version()))
        self._memory: dict[int, Any] = {}
        self._modules: list[Any] = []
        with self.current():
            self._stream = cuda.Stream()
        self.stream = int(self._stream.handle)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        except cuda.MemoryError as error:
            raise OutOfMemoryError(str(error)) from error
        except cuda.Error as error:
            raise DeviceError(str(error)) from error
        finally:
            cuda.Context.pop()

    def allocated(self, nbytes: int) -> int:
        try:
            memory = cuda.mem_alloc(max(nbytes, 1))
        except cuda.MemoryError as error:
            raise OutOfMemoryError(str(error)) from error
        self._memory[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:
        self._memory.pop(address).free()

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        try:
            array: NDArray[Any] = cuda.pagelocked_empty(shape, np.dtype(dtype))
        except cuda.MemoryError as error:
            raise OutOfMemoryError(str(error)) from error
        return array

    def free_pinned(self, array: NDArray[Any]) -> None:
        array.base.free()  # type: ignore[union-attr]

    def upload(self, address: int, array: NDArray[Any]) -> None:
        cuda.memcpy_htod_async(address, array, self._stream)

    def download(self, array: NDArray[Any], address: int) -> None:
        cuda.memcpy_dtoh_async(array, address, self._stream)

    def synchronize(self) -> None:
        self._stream.synchronize()

    def captured(self, work: Callable[[], None]) -> Any:
        return None

    def launch(self, graph: Any) -> None:
        raise DeviceError("pycuda has no graphs")

    def free_graph(self, graph: Any) -> None:
        raise DeviceError("pycuda has no graphs")

    def kernel(self, source: str, name: str) -> Any:
        code = _compiled(source, self.gpu.compute_capability)
        module = cuda.module_from_buffer(code)
        self._modules.append(module)
        return module.get_function(name)

    def run_kernel(
        self, kernel: Any, blocks: tuple[int, int, int], threads: tuple[int, int, int], arguments: Sequence[np.generic]
    ) -> None:
        kernel(*arguments, grid=blocks, block=threads, stream=self._stream)

    def close(self) -> None:
        self._stream = None
        self._modules.clear()
        self._context.detach()


def _compiled(source: str, compute_capability: str) -> bytes:
    """By NVRTC, which cuda-python reaches, else by nvcc. Raises DeviceError where there is neither."""
    try:
        return nvrtc.compiled(source, compute_capability)
    except DeviceError as refusal:
        try:
            from pycuda import compiler

            architecture = f"sm_{compute_capability.replace('.', '')}"
            return compiler.compile(source, options=list(nvrtc.OPTIONS), arch=architecture, no_extern_c=True)
        # pycuda wraps what running nvcc raises, in classes that differ between its versions.
        except Exception as failure:
            raise DeviceError(f"{refusal}; nvcc: {' '.join(str(failure).split())}") from refusal
