"""A fake TensorRT around the small network of networks_for_tests, on a fake GPU: it "computes" with numpy what the
network computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from fake_gpu import FakeDevice, array_at
from networks_for_tests import ROWS, SIZE, computed

OUTPUTS = {"landmarks": (ROWS * 4,), "world": (ROWS * 3,), "score": (1,)}
SHAPES = {"image": (3, SIZE, SIZE), **OUTPUTS}
SCRATCH_BYTES = 1000


class _Context:
    """IExecutionContext but for its memory: refuses to run without shape, tensors and enough scratch memory that is
    still allocated."""

    def __init__(self, trt: FakeTrt) -> None:
        self._trt, self._device = trt, trt.device
        self._count = 0
        self._addresses: dict[str, int] = {}
        self._scratch = (0, 0)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert (name, shape[1:]) == ("image", SHAPES["image"])
        self._count = shape[0]
        least, _, most = self._trt.people
        return least <= self._count <= most and not self._trt.refuses("shape", self._count)

    def set_tensor_address(self, name: str, address: int) -> None:
        self._addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == self._device.stream
        if self._trt.refuses("execute", self._count):
            return False
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

    def __init__(self, trt: FakeTrt) -> None:
        super().__init__(trt)
        self._compiling = 3

    def is_stream_capturable(self, stream: int) -> bool:
        assert stream == self._device.stream
        self._compiling -= 1
        return self._compiling < 0


class Fake86Context(_Context):
    """As TensorRT 8.6 has it: memory for the largest batch, given without its size."""

    def __init__(self, trt: FakeTrt, nbytes: int) -> None:
        super().__init__(trt)
        self._nbytes = nbytes

    @property
    def device_memory(self) -> int:
        return self._scratch[0]

    @device_memory.setter
    def device_memory(self, address: int) -> None:
        assert len(self._device.memory[address]) >= self._nbytes
        self._scratch = (address, self._nbytes)


class FakeTrt:
    """The parts of the module tensorrt that running an engine takes, as TensorRT 10 and 11 have them.

    ``refusal``: what it says where it refuses a call (deserialize, context, shape, execute) for so many crops, nothing
    where it does what it is called for.
    """

    __version__ = "11.0.fake"
    float32 = "DataType.FLOAT"

    class TensorIOMode:
        INPUT, OUTPUT = "in", "out"

    class ExecutionContextAllocationStrategy:
        USER_MANAGED = 2

    class ILogger:
        ERROR, INTERNAL_ERROR, WARNING = "E", "F", "W"

    def __init__(self, device: FakeDevice, people: tuple[int, int, int] = (1, 4, 32)) -> None:
        self.device, self.people = device, people
        # Of the engine's tensors, those that are others than the network's.
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self.refusal: Callable[[str, int], Sequence[str]] = lambda call, count: ()
        self.logger: Any = None

    def refuses(self, call: str, count: int = 0) -> bool:
        said = self.refusal(call, count)
        for line in said:
            self.logger.log(self.ILogger.ERROR, line)
        return bool(said)

    def way_to_contexts(self) -> type:
        """What ICudaEngine has for making contexts."""
        trt = self

        class Way:
            def create_execution_context(self, strategy: Any) -> FakeContext | None:
                assert strategy == trt.ExecutionContextAllocationStrategy.USER_MANAGED
                return None if trt.refuses("context") else FakeContext(trt)

        return Way

    def Runtime(self, logger: Any) -> Any:
        trt, self.logger = self, logger

        class Engine(self.way_to_contexts()):  # type: ignore[misc]
            num_io_tensors = len(SHAPES)

            def get_tensor_name(self, i: int) -> str:
                return list(SHAPES)[i]

            def get_tensor_mode(self, name: str) -> str:
                return trt.TensorIOMode.INPUT if name == "image" else trt.TensorIOMode.OUTPUT

            def get_tensor_shape(self, name: str) -> tuple[int, ...]:
                return trt.shapes.get(name, (-1, *SHAPES[name]))

            def get_tensor_dtype(self, name: str) -> str:
                return trt.dtypes.get(name, trt.float32)

            def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
                return [(count, *SHAPES[name]) for count in trt.people]

        class Runtime:
            def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
                if content != b"engine":
                    logger.log(trt.ILogger.ERROR, "fake: no engine")
                    return None
                return None if trt.refuses("deserialize") else Engine()

        return Runtime()


class FakeRtx(FakeTrt):
    """TensorRT for RTX: contexts come of a config that holds a cache of compiled kernels."""

    __version__ = "1.7.fake"

    def way_to_contexts(self) -> type:
        trt = self

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
                assert config.strategy == trt.ExecutionContextAllocationStrategy.USER_MANAGED
                assert config.cache is not None
                return FakeRtxContext(trt)

        return Way


class Fake86(FakeTrt):
    """TensorRT 8.6: no strategies, contexts without memory."""

    __version__ = "8.6.fake"
    ExecutionContextAllocationStrategy: Any = None

    def way_to_contexts(self) -> type:
        trt, nbytes = self, SCRATCH_BYTES * self.people[2]

        class Way:
            device_memory_size = nbytes

            def create_execution_context_without_device_memory(self) -> Fake86Context:
                return Fake86Context(trt, nbytes)

        return Way
