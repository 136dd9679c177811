"""What TensorRT refuses and says: a full GPU is told from other faults, and of engines that do not fit nothing stays.
GPU and library are fakes (fake_gpu, fake_tensorrt), the builder is TensorRT for RTX's own."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tensorrt_rtx
from fake_gpu import FakeDevice
from fake_tensorrt import OUTPUTS, FakeTrt
from networks_for_tests import SIZE, computed, pose_network

from metrabs_ros.backends.trt.builder import build
from metrabs_ros.backends.trt.device import DeviceError, OutOfMemoryError
from metrabs_ros.backends.trt.messages import logger_of
from metrabs_ros.backends.trt.network import TensorRtNetwork
from metrabs_ros.built_engines import BuildOptions
from metrabs_ros.errors import InputError

# As TensorRT says them, the cause first.
FULL = ["[defaultAllocator.cpp::allocate::57] Error Code 1: Cuda Runtime (out of memory)", "In launch at myelin.cpp:9"]
FULL_LATER = ["[executionContext.cpp::run::12] Error Code 2: Internal Error", "Error Code 9: OutOfMemory (9 bytes)"]
BROKEN = ["Error Code 1: Cuda Runtime (an illegal memory access was encountered)"]


def opened(trt: FakeTrt, outputs: Sequence[str] = tuple(OUTPUTS), content: bytes = b"engine") -> TensorRtNetwork:
    return TensorRtNetwork(trt, "tensorrt", content, outputs, trt.device)


def refusal(trt: FakeTrt, outputs: Sequence[str] = tuple(OUTPUTS), content: bytes = b"engine") -> str:
    """Why the engine cannot be opened; nothing of it stays on the GPU."""
    with pytest.raises(InputError) as caught:
        opened(trt, outputs, content)
    assert (trt.device.closed, trt.device.used) == (True, 0)
    return str(caught.value)


def assert_is_computed(network: TensorRtNetwork, count: int, seed: int = 0) -> None:
    batch = np.random.default_rng(seed).random((count, 3, SIZE, SIZE)).astype(np.float32)
    got = network.run(batch)
    for name, values in computed(batch.transpose(0, 2, 3, 1)).items():
        np.testing.assert_allclose(got[name], values, atol=1e-4)


def above(most: int, call: str, said: list[str]) -> Callable[[str, int], list[str]]:
    """Refuses a call for more crops."""
    return lambda called, count: said if called == call and count > most else []


@pytest.mark.parametrize("call", ["shape", "execute"])
@pytest.mark.parametrize("said", [FULL, FULL_LATER])
def test_where_tensorrt_finds_no_room_batches_are_split(call: str, said: list[str]) -> None:
    trt = FakeTrt(FakeDevice())
    network = opened(trt)
    trt.refusal = above(4, call, said)
    for i, count in enumerate([32, 3, 9]):
        assert_is_computed(network, count, seed=i)
    assert network.at_once == 4
    network.close()


def test_a_context_that_finds_no_room_is_no_fault_of_the_engine() -> None:
    trt = FakeTrt(FakeDevice())
    network = opened(trt)
    trt.refusal = lambda call, count: FULL if call == "context" else []
    with pytest.raises(InputError, match=r"no room for a single crop \(TensorRT made no execution context \(\[def"):
        assert_is_computed(network, 8)
    network.close()


@pytest.mark.parametrize("call", ["context", "shape", "execute"])
def test_other_faults_split_nothing(call: str) -> None:
    trt = FakeTrt(FakeDevice())
    network = opened(trt)
    trt.refusal = lambda called, count: BROKEN if called == call else []
    with pytest.raises(DeviceError, match=r"TensorRT .*an illegal memory access"):
        assert_is_computed(network, 8)
    assert network.at_once == 32
    trt.refusal = lambda called, count: []
    assert_is_computed(network, 8)
    network.close()


def test_what_was_said_of_one_call_is_not_the_reason_of_another() -> None:
    trt = FakeTrt(FakeDevice())
    network = opened(trt)
    for most, said, at_once in ((0, BROKEN, 32), (16, FULL, 16), (0, BROKEN, 16)):
        trt.refusal = above(most, "execute", said)
        with pytest.raises(DeviceError, match="illegal memory") if said is BROKEN else contextlib.nullcontext():
            assert_is_computed(network, 32)
        assert network.at_once == at_once
    network.close()


@pytest.mark.parametrize("error", [DeviceError("cudaErrorNotSupported"), OutOfMemoryError("no room for a graph"), None])
def test_without_graphs_all_goes_on(error: DeviceError | None, caplog: pytest.LogCaptureFixture) -> None:
    """CUDA refuses them, has no room for them, or TensorRT cannot run while its work is captured."""
    device = FakeDevice()
    trt = FakeTrt(device)
    network = opened(trt)
    device.refuses_graphs = error
    if error is None:
        trt.refusal = lambda call, count: ["not permitted when capturing"] if device.is_capturing else []
    for i, count in enumerate([4, 4, 4, 1, 1, 1, 4]):
        assert_is_computed(network, count, seed=i)
    assert (network.graph_sizes, device.launches, network.at_once) == ([], 0, 32)
    reason = str(error or "TensorRT could not run 4 crops (not permitted when capturing)")
    assert network.graphs_refused == reason
    assert caplog.messages == [f"CUDA graphs are not used: {reason}."]
    network.close()


def test_an_engine_that_tensorrt_cannot_read() -> None:
    text = refusal(FakeTrt(FakeDevice()), content=b"other")
    assert "cannot read its engine (fake: no engine) on the Fake GPU, compute capability 8.6: build it again" in text


def test_an_engine_that_finds_no_room_need_not_be_built_again() -> None:
    trt = FakeTrt(FakeDevice())
    trt.refusal = lambda call, count: FULL
    text = refusal(trt)
    assert text.startswith(f"The Fake GPU has no room for the engine ({FULL[0]}): end what else uses the GPU")
    assert "build" not in text


def test_an_output_that_the_engine_lacks() -> None:
    text = refusal(FakeTrt(FakeDevice()), ["depth"])
    assert "has no output named depth: it has landmarks, world, score" in text


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "told"),
    [
        ("image", "UINT8", (-1, 3, SIZE, SIZE), f"input image is uint8 of shape [-1, 3, {SIZE}, {SIZE}]"),
        ("image", "FLOAT", (-1, 3, -1, -1), "input image is float of shape [-1, 3, -1, -1]"),
        ("image", "FLOAT", (), "input image is float of shape []"),
        ("world", "HALF", (-1, 3), "output world is half of shape [-1, 3]"),
        ("score", "INT64", (-1, 1), "output score is int64 of shape [-1, 1]"),
        ("score", "FLOAT", (-1, -1), "output score is float of shape [-1, -1]"),
        ("score", "FLOAT", (-1, 0), "output score is float of shape [-1, 0]"),
        ("score", "FLOAT", (), "output score is float of shape []"),
        ("score", "FLOAT", (17, 3), "output score is float of shape [17, 3]"),
    ],
)
def test_tensors_of_another_kind(name: str, dtype: str, shape: tuple[int, ...], told: str) -> None:
    """The score is not even asked for, but TensorRT would write it all the same."""
    trt = FakeTrt(FakeDevice())
    trt.dtypes[name], trt.shapes[name] = f"DataType.{dtype}", shape
    assert refusal(trt, ["landmarks", "world"]).startswith(f"The engine's {told}: expected float32 of [batch")


def test_the_library_has_what_is_asked_of_tensors() -> None:
    assert str(tensorrt_rtx.float32) == FakeTrt.float32
    assert callable(tensorrt_rtx.ICudaEngine.get_tensor_dtype)


def small(content: bytes, progress: Callable[[str, float], bool] = lambda phase, part: True) -> bytes:
    """Built by TensorRT for RTX."""
    return build(tensorrt_rtx, content, BuildOptions("fp32", (1, 2, 8)), progress, lambda names, shape: None)[0]


def test_all_builders_alive_have_one_logger(caplog: pytest.LogCaptureFixture) -> None:
    """TensorRT for RTX ignores a second one, and says so."""
    built: list[bytes] = []

    def build_another(phase: str, part: float) -> bool:
        if not built:
            built.append(small(pose_network()))
        return True

    with caplog.at_level(logging.INFO):
        assert small(pose_network(), build_another)
    assert built[0]
    assert [message for message in caplog.messages if "logger" in message] == []


def test_threads_and_calls_hear_their_own_errors(caplog: pytest.LogCaptureFixture) -> None:
    logger: Any = logger_of(tensorrt_rtx)
    assert logger_of(tensorrt_rtx) is logger
    builder = tensorrt_rtx.Builder(logger)

    def fault() -> None:
        assert builder.build_serialized_network(builder.create_network(0), builder.create_builder_config()) is None

    def heard_there() -> str:
        with logger.listening() as said:
            fault()
        return said.reason

    with logger.listening() as here, ThreadPoolExecutor(1) as pool:
        assert "Network must have at least one output" in pool.submit(heard_there).result()
    assert here.reason == ""
    assert caplog.messages == []
    fault()
    assert caplog.messages[0].startswith("TensorRT: ")
