"""What CUDA through cuda-python leaves behind where a capture fails. CUDA is a fake; real GPUs: test_gpu.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cuda.bindings import runtime

from metrabs_ros.backends.trt import device_cuda_python
from metrabs_ros.backends.trt.device import DeviceError

Error = runtime.cudaError_t


class FakeCudart:
    """Of CUDA's runtime API what captures take. ``fails`` maps a function to its error, which CUDA then remembers."""

    cudaError_t = Error
    cudaStreamCaptureMode = runtime.cudaStreamCaptureMode

    def __init__(self) -> None:
        self.fails: dict[str, Error] = {}
        self.last_error = Error.cudaSuccess
        self.is_capturing = False
        self.graphs: list[runtime.cudaGraph_t] = []

    def _result(self, function: str) -> Error:
        error = self.fails.get(function, Error.cudaSuccess)
        if error != Error.cudaSuccess:
            self.last_error = error
        return error

    def cudaStreamBeginCapture(self, stream: Any, mode: Any) -> tuple[Error]:
        self.is_capturing = True
        return (self._result("cudaStreamBeginCapture"),)

    def cudaStreamEndCapture(self, stream: Any) -> tuple[Error, Any]:
        assert self.is_capturing
        self.is_capturing = False
        error = self._result("cudaStreamEndCapture")
        if error != Error.cudaSuccess:
            return error, None
        self.graphs.append(runtime.cudaGraph_t(8))
        return error, self.graphs[-1]

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[Error, Any]:
        assert graph in self.graphs
        error = self._result("cudaGraphInstantiate")
        return error, None if error != Error.cudaSuccess else "executable"

    def cudaGraphDestroy(self, graph: Any) -> tuple[Error]:
        self.graphs.remove(graph)
        return (Error.cudaSuccess,)

    def cudaGetLastError(self) -> tuple[Error]:
        last, self.last_error = self.last_error, Error.cudaSuccess
        return (last,)


@pytest.fixture
def cudart(monkeypatch: pytest.MonkeyPatch) -> FakeCudart:
    fake = FakeCudart()
    monkeypatch.setattr(device_cuda_python, "cudart", fake)
    return fake


def captured(work: Callable[[], None]) -> Any:
    device = object.__new__(device_cuda_python.CudaPythonDevice)
    device._stream = "stream"
    return device.captured(work)


def assert_nothing_is_left(cudart: FakeCudart) -> None:
    assert (cudart.last_error, cudart.graphs, cudart.is_capturing) == (Error.cudaSuccess, [], False)


def test_of_a_capture_only_what_can_be_launched_is_left(cudart: FakeCudart) -> None:
    done: list[bool] = []
    assert captured(lambda: done.append(cudart.is_capturing)) == "executable"
    assert done == [True]
    assert_nothing_is_left(cudart)


@pytest.mark.parametrize("ends", [Error.cudaErrorStreamCaptureInvalidated, Error.cudaSuccess])
def test_work_that_fails_while_it_is_captured_tells_why(cudart: FakeCudart, ends: Error) -> None:
    """CUDA then has an error, or a graph of what was done before."""
    cudart.fails["cudaStreamEndCapture"] = ends

    def work() -> None:
        raise DeviceError("the cause")

    with pytest.raises(DeviceError, match=r"^the cause$"):
        captured(work)
    assert_nothing_is_left(cudart)


@pytest.mark.parametrize("function", ["cudaStreamEndCapture", "cudaGraphInstantiate"])
def test_a_capture_that_cuda_refuses(cudart: FakeCudart, function: str) -> None:
    cudart.fails[function] = Error.cudaErrorStreamCaptureUnsupported
    with pytest.raises(DeviceError, match=r"^cudaErrorStreamCaptureUnsupported$"):
        captured(lambda: None)
    assert_nothing_is_left(cudart)
