"""A fake GPU, for what needs no real one: memory with a limit, a stream whose work is not done before somebody waits
for it, graphs that replay what was recorded. Addresses are real ones of this process, kernels run as C++."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from kernels_on_cpu import compiled_as_cpp, run_as_cpp

from metrabs_ros.backends.trt.device import DeviceError, OutOfMemoryError
from metrabs_ros.built_engines import Gpu


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
        # Raised where something was captured.
        self.refuses_graphs: DeviceError | None = None
        # Runs of kernels, and what kept these from being compiled, "" where nothing does.
        self.kernels = 0
        self.refuses_kernels = ""
        self.uploaded = 0
        self.closed = False
        self._recording: list[Callable[[], None]] | None = None
        self._queue: list[Callable[[], None]] = []

    def current(self) -> Any:
        return contextlib.nullcontext()

    @property
    def is_capturing(self) -> bool:
        return self._recording is not None

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
        if self.refuses_graphs is not None:
            raise self.refuses_graphs
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
