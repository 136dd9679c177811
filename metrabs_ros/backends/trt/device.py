"""The GPU as a network needs it: memory, pinned memory, one stream, graphs. Through pycuda, else cuda-python."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.built_engines import Gpu
from metrabs_ros.errors import InputError

_WAYS = ("pycuda", "cuda_python")


class DeviceError(RuntimeError):
    """CUDA refused."""


class OutOfMemoryError(DeviceError):
    """The GPU has no room."""


class Device(Protocol):
    """One GPU with one stream on which all copies and runs happen in order. Calls come from one thread at a time.

    Addresses are ints. A graph is whatever ``captured`` returns; None where this way to CUDA has none. A kernel is
    whatever ``kernel`` makes of a function of CUDA C; it raises DeviceError where that cannot be compiled or loaded.
    """

    gpu: Gpu
    stream: int

    def current(self) -> Any: ...

    def allocated(self, nbytes: int) -> int: ...

    def free(self, address: int) -> None: ...

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]: ...

    def free_pinned(self, array: NDArray[Any]) -> None: ...

    def upload(self, address: int, array: NDArray[Any]) -> None: ...

    def download(self, array: NDArray[Any], address: int) -> None: ...

    def synchronize(self) -> None: ...

    def captured(self, work: Callable[[], None]) -> Any: ...

    def launch(self, graph: Any) -> None: ...

    def free_graph(self, graph: Any) -> None: ...

    def kernel(self, source: str, name: str) -> Any: ...

    def run_kernel(
        self, kernel: Any, blocks: tuple[int, int, int], threads: tuple[int, int, int], arguments: Sequence[np.generic]
    ) -> None: ...

    def close(self) -> None: ...


def open_device() -> Device:
    """The first GPU. Raises InputError where there is none, or no way to it."""
    refusals = []
    for way in _WAYS:
        try:
            module = importlib.import_module(f"metrabs_ros.backends.trt.device_{way}")
        except ImportError as error:
            refusals.append(f"{way.replace('_', '-')} ({error})")
            continue
        device: Device = module.open_device()
        return device
    raise InputError(
        f"TensorRT needs a way to CUDA and there is none of {', '.join(refusals)}: install pycuda (Debian, JetPack: "
        "python3-pycuda) or `pip install cuda-python`."
    )


def no_gpu(reason: str) -> InputError:
    """What the user reads where CUDA finds no GPU."""
    return InputError(
        f"There is no usable NVIDIA GPU ({reason}): check `nvidia-smi`, or choose another backend "
        "(openvino, onnxruntime)."
    )


def driver_version(cuda_version: int) -> str:
    """Of the kernel module, else (Jetson) the CUDA version that the driver supports."""
    try:
        words = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0].split()
    except (OSError, IndexError):
        words = []
    dotted = [word for word in words if word.count(".") >= 1 and word.replace(".", "").isdigit()]
    return dotted[0] if dotted else f"CUDA {cuda_version // 1000}.{cuda_version % 1000 // 10}"


def nbytes_of(shape: tuple[int, ...], dtype: Any) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize
