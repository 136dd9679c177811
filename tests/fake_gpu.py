"""A fake GPU and a fake TensorRT around the small network of networks_for_tests, for what needs no real ones.

The fake stands in for the hardware only: memory with a limit, a stream whose work is not done before somebody waits for
it, graphs that replay what was recorded. Addresses are real ones of this process. The engine "computes" with numpy what
the network computes, kernels run as C++.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from kernels_on_cpu import compiled_as_cpp, run_as_cpp
from networks_for_tests import ROWS, SIZE, computed

from metrabs_ros.backends.trt.device import DeviceError, OutOfMemoryError
from metrabs_ros.built_engines import Gpu

OUTPUTS = {"landmarks": (ROWS * 4,), "world": (ROWS * 3,), "score": (1,)}
SHAPES = {"image": (3, SIZE, SIZE), **OUTPUTS}
SCRATCH_BYTES = 1000


class FakeDevice:
    """Device with ``room`` bytes. Counts what it does; work is done when the stream is waited for, as late as CUDA may
    do it, or noted where it is being captured."""

    def __init__(self, room: int = 1 << 30, gpu: Gpu = Gpu("Fake GPU", "8.6", "1.0")) -> None:  # noqa: B008
        self.gpu = gpu
        self.stream = 1
        self.room = room
        self.memory: dict[int, Any] = {}
        # Kept, so that no address comes twice and the use of freed memory is seen.
        self._freed: list[Any] = []
        self.pinned_arrays: list[int] = []
        self.graphs: list[list[Callable[[], None]]] = []
        self.launches = 0
        # Kernels and what kept them from being compiled, "" where nothing does.
        self.kernels = 0
        self.refuses_kernels = ""
        self.uploaded = 0
        self.closed = False
        self._recording: list[Callable[[], None]] | None = None
        self._queue: list[Callable[[], None]] = []

    def current(self) -> Any:
        return contextlib.nullcontext()

    @property
    def used(self) -> int:
        return sum(len(memory) for memory in self.memory.values())

    def allocated(self, nbytes: int) -> int:
        if self.used + nbytes > self.room:
            raise OutOfMemoryError("fake: no room")
        memory = (ctypes.c_byte * nbytes)()
        self.memory[ctypes.addressof(memory)] = memory
        return ctypes.addressof(memory)

    def free(self, address: int) -> None:
        """Waits, as cudaFree does."""
        self.synchronize()
        self._freed.append(self.memory.pop(address))

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        array = np.full(shape, np.nan if np.issubdtype(dtype, np.floating) else 99, dtype)
        self.pinned_arrays.append(array.ctypes.data)
        return array

    def free_pinned(self, array: np.ndarray) -> None:
        """Waits, as cudaFreeHost does."""
        self.synchronize()
        self.pinned_arrays.remove(array.ctypes.data)

    def upload(self, address: int, array: np.ndarray) -> None:
        self.uploaded += array.nbytes
        self.do(lambda: ctypes.memmove(address, array.ctypes.data, array.nbytes))

    def download(self, array: np.ndarray, address: int) -> None:
        self.do(lambda: ctypes.memmove(array.ctypes.data, address, array.nbytes))

    def do(self, work: Callable[[], Any]) -> None:
        (self._queue if self._recording is None else self._recording).append(work)

    def synchronize(self) -> None:
        assert self._recording is None, "CUDA waits for no stream that is being captured"
        queued, self._queue = self._queue, []
        for work in queued:
            work()

    def captured(self, work: Callable[[], None]) -> Any:
        graph = self._recording = []
        try:
            work()
        finally:
            self._recording = None
        self.graphs.append(graph)
        return graph

    def launch(self, graph: Any) -> None:
        assert graph in self.graphs, "a graph that was freed"
        self.launches += 1
        self._queue += graph

    def free_graph(self, graph: Any) -> None:
        self.graphs.remove(graph)

    def kernel(self, source: str, name: str) -> Any:
        if self.refuses_kernels:
            raise DeviceError(self.refuses_kernels)
        return compiled_as_cpp(source, name)

    def run_kernel(
        self, kernel: Any, blocks: tuple[int, int, int], threads: tuple[int, int, int], arguments: Sequence[np.generic]
    ) -> None:
        self.kernels += 1
        values = [np.array(value) for value in arguments]
        self.do(lambda: run_as_cpp(kernel, blocks, threads, [value.ctypes.data for value in values]))

    def close(self) -> None:
        self.closed = True


def array_at(address: int, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 numbers at an address, not a copy."""
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(shape)


class _Context:
    """IExecutionContext but for its memory: refuses to run without shape, tensors and enough scratch memory that is
    still allocated."""

    def __init__(self, device: FakeDevice) -> None:
        self._device = device
        self._count = 0
        self._addresses: dict[str, int] = {}
        self._scratch = (0, 0)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        assert (name, shape[1:]) == ("image", SHAPES["image"])
        self._count = shape[0]

    def set_tensor_address(self, name: str, address: int) -> None:
        self._addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == self._device.stream
        count, addresses, (scratch, size) = self._count, dict(self._addresses), self._scratch
        assert size >= SCRATCH_BYTES * count

        def work() -> None:
            assert scratch in self._device.memory, "scratch memory that was freed"
            for name, address in addresses.items():
                memory = self._device.memory[address]
                assert len(memory) >= 4 * count * int(np.prod(SHAPES[name])), f"{name} has no room"
            array_at(scratch, (count,))[:] = 1
            crops = array_at(addresses["image"], (count, *SHAPES["image"])).transpose(0, 2, 3, 1)
            for name, values in computed(crops).items():
                array_at(addresses[name], values.shape)[:] = values

        self._device.do(work)
        return True


class FakeContext(_Context):
    """As TensorRT 10 and 11 have it."""

    def update_device_memory_size_for_shapes(self) -> int:
        return SCRATCH_BYTES * self._count

    def set_device_memory(self, address: int, size: int) -> None:
        self._scratch = (address, size)


class FakeRtxContext(FakeContext):
    """As TensorRT for RTX has it: for a while nothing can be recorded."""

    def __init__(self, device: FakeDevice) -> None:
        super().__init__(device)
        self._compiling = 3

    def is_stream_capturable(self, stream: int) -> bool:
        assert stream == self._device.stream
        self._compiling -= 1
        return self._compiling < 0


class Fake86Context(_Context):
    """As TensorRT 8.6 has it: memory for the largest batch, given without its size."""

    def __init__(self, device: FakeDevice, nbytes: int) -> None:
        super().__init__(device)
        self._nbytes = nbytes

    @property
    def device_memory(self) -> int:
        return self._scratch[0]

    @device_memory.setter
    def device_memory(self, address: int) -> None:
        assert len(self._device.memory[address]) >= self._nbytes
        self._scratch = (address, self._nbytes)


class FakeTrt:
    """The parts of the module tensorrt that running an engine takes, as TensorRT 10 and 11 have them."""

    __version__ = "11.0.fake"

    class TensorIOMode:
        INPUT, OUTPUT = "in", "out"

    class ExecutionContextAllocationStrategy:
        USER_MANAGED = 2

    class ILogger:
        ERROR, INTERNAL_ERROR, WARNING = "E", "F", "W"

    def __init__(self, device: FakeDevice, people: tuple[int, int, int] = (1, 4, 32)) -> None:
        self.device, self.people = device, people

    def way_to_contexts(self) -> type:
        """What ICudaEngine has for making contexts."""
        device, strategies = self.device, self.ExecutionContextAllocationStrategy

        class Way:
            def create_execution_context(self, strategy: Any) -> FakeContext:
                assert strategy == strategies.USER_MANAGED
                return FakeContext(device)

        return Way

    def Runtime(self, logger: Any) -> Any:
        trt = self

        class Engine(self.way_to_contexts()):  # type: ignore[misc]
            num_io_tensors = len(SHAPES)

            def get_tensor_name(self, i: int) -> str:
                return list(SHAPES)[i]

            def get_tensor_mode(self, name: str) -> str:
                return trt.TensorIOMode.INPUT if name == "image" else trt.TensorIOMode.OUTPUT

            def get_tensor_shape(self, name: str) -> tuple[int, ...]:
                return (-1, *SHAPES[name])

            def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
                return [(count, *SHAPES[name]) for count in trt.people]

        class Runtime:
            def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
                if content != b"engine":
                    logger.log(trt.ILogger.ERROR, "fake: no engine")
                    return None
                return Engine()

        return Runtime()


class FakeRtx(FakeTrt):
    """TensorRT for RTX: contexts come of a config that holds a cache of compiled kernels."""

    __version__ = "1.7.fake"

    def way_to_contexts(self) -> type:
        device, strategies = self.device, self.ExecutionContextAllocationStrategy

        class Config:
            strategy, cache = None, None

            def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
                self.strategy = strategy

            def create_runtime_cache(self) -> object:
                return object()

            def set_runtime_cache(self, cache: object) -> None:
                self.cache = cache

        class Way:
            def create_runtime_config(self) -> Config:
                return Config()

            def create_execution_context(self, config: Config) -> FakeContext:
                assert config.strategy == strategies.USER_MANAGED
                assert config.cache is not None
                return FakeRtxContext(device)

        return Way


class Fake86(FakeTrt):
    """TensorRT 8.6: no strategies, contexts without memory."""

    __version__ = "8.6.fake"
    ExecutionContextAllocationStrategy: Any = None

    def way_to_contexts(self) -> type:
        device, nbytes = self.device, SCRATCH_BYTES * self.people[2]

        class Way:
            device_memory_size = nbytes

            def create_execution_context_without_device_memory(self) -> Fake86Context:
                return Fake86Context(device, nbytes)

        return Way
