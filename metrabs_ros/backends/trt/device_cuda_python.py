"""CUDA through cuda-python's runtime API: one primary context for all threads, so nothing is pushed or popped.

Kernels go through the driver API, which each thread must have told its context.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from cuda.bindings import driver
    from cuda.bindings import runtime as cudart
except ImportError:  # cuda-python before 12.6
    from cuda import cuda as driver
    from cuda import cudart

from metrabs_ros.backends.trt import nvrtc
from metrabs_ros.backends.trt.device import DeviceError, OutOfMemoryError, driver_version, nbytes_of, no_gpu
from metrabs_ros.built_engines import Gpu

_TO_DEVICE = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
_TO_HOST = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost


def open_device() -> CudaPythonDevice:
    """The first GPU. Raises InputError where there is none."""
    try:
        error, count = cudart.cudaGetDeviceCount()
    except RuntimeError as failure:  # no libcuda at all
        raise no_gpu(str(failure)) from failure
    if error != cudart.cudaError_t.cudaSuccess or not count:
        raise no_gpu(error.name)
    return CudaPythonDevice()


class CudaPythonDevice:
    """Device on the first GPU."""

    def __init__(self) -> None:
        _checked(cudart.cudaSetDevice(0))
        properties = _checked(cudart.cudaGetDeviceProperties(0))
        name = properties.name
        self.gpu = Gpu(
            (name.decode() if isinstance(name, bytes) else str(name)).rstrip("\0"),
            f"{properties.major}.{properties.minor}",
            driver_version(_checked(cudart.cudaDriverGetVersion())),
        )
        self._stream = _checked(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking))
        self.stream = int(self._stream)
        self._pinned: dict[int, int] = {}
        self._context: Any = None
        self._modules: list[Any] = []

    def current(self) -> Any:
        return contextlib.nullcontext()

    def allocated(self, nbytes: int) -> int:
        return int(_checked(cudart.cudaMalloc(max(nbytes, 1))))

    def free(self, address: int) -> None:
        _checked(cudart.cudaFree(address))

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        nbytes = nbytes_of(shape, dtype)
        address = int(_checked(cudart.cudaMallocHost(max(nbytes, 1))))
        array = np.ctypeslib.as_array((ctypes.c_byte * nbytes).from_address(address)).view(dtype).reshape(shape)
        self._pinned[array.ctypes.data] = address
        return array

    def free_pinned(self, array: NDArray[Any]) -> None:
        _checked(cudart.cudaFreeHost(self._pinned.pop(array.ctypes.data)))

    def upload(self, address: int, array: NDArray[Any]) -> None:
        _checked(cudart.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, _TO_DEVICE, self._stream))

    def download(self, array: NDArray[Any], address: int) -> None:
        _checked(cudart.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, _TO_HOST, self._stream))

    def synchronize(self) -> None:
        _checked(cudart.cudaStreamSynchronize(self._stream))

    def captured(self, work: Callable[[], None]) -> Any:
        """What ``work`` puts on the stream, as a graph that ``launch`` repeats. Raises DeviceError."""
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _checked(cudart.cudaStreamBeginCapture(self._stream, mode))
        graph: Any = None
        try:
            try:
                work()
            finally:
                error, graph = cudart.cudaStreamEndCapture(self._stream)
            _checked((error,))
            return _checked(cudart.cudaGraphInstantiate(graph, 0))
        finally:
            # Where work() raised, the capture ended with an error or with a part of a graph, of which nobody hears.
            cudart.cudaGetLastError()
            if graph is not None and int(graph):
                cudart.cudaGraphDestroy(graph)

    def launch(self, graph: Any) -> None:
        _checked(cudart.cudaGraphLaunch(graph, self._stream))

    def free_graph(self, graph: Any) -> None:
        _checked(cudart.cudaGraphExecDestroy(graph))

    def kernel(self, source: str, name: str) -> Any:
        code = nvrtc.compiled(source, self.gpu.compute_capability)
        if self._context is None:
            self._context = _checked(driver.cuDevicePrimaryCtxRetain(_checked(driver.cuDeviceGet(0))))
        _checked(driver.cuCtxSetCurrent(self._context))
        module = _checked(driver.cuModuleLoadData(code))
        self._modules.append(module)
        return _checked(driver.cuModuleGetFunction(module, name.encode()))

    def run_kernel(
        self, kernel: Any, blocks: tuple[int, int, int], threads: tuple[int, int, int], arguments: Sequence[np.generic]
    ) -> None:
        _checked(driver.cuCtxSetCurrent(self._context))
        values = [np.array(value) for value in arguments]
        addresses = np.array([value.ctypes.data for value in values], np.uint64)
        _checked(driver.cuLaunchKernel(kernel, *blocks, *threads, 0, self.stream, addresses.ctypes.data, 0))

    def close(self) -> None:
        _checked(cudart.cudaStreamDestroy(self._stream))
        if self._context is not None:
            _checked(driver.cuCtxSetCurrent(self._context))
            for module in self._modules:
                _checked(driver.cuModuleUnload(module))
            _checked(driver.cuDevicePrimaryCtxRelease(0))


def _checked(result: Any) -> Any:
    """The values after CUDA's error code. Raises DeviceError, OutOfMemoryError where that is why."""
    error, *values = result
    if error in (cudart.cudaError_t.cudaSuccess, driver.CUresult.CUDA_SUCCESS):
        return values[0] if len(values) == 1 else None
    if isinstance(error, cudart.cudaError_t):
        # CUDA remembers the last error, and TensorRT would take it for one of its own.
        cudart.cudaGetLastError()
    is_full = error in (cudart.cudaError_t.cudaErrorMemoryAllocation, driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY)
    raise OutOfMemoryError(error.name) if is_full else DeviceError(error.name)
