"""CUDA C compiled as C++ and run thread by thread, for what needs no GPU: what it reads, writes and computes."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# The words of CUDA, and a launch that takes arguments as CUDA's does: the address of each.
_AROUND = """
#include <cmath>
#include <type_traits>
#include <utility>
struct Place {{ unsigned x, y, z; }};
static thread_local Place blockIdx, threadIdx, blockDim, gridDim;
#define __global__
#define __device__ static
#define __host__
{source}
template <class... A, std::size_t... I>
static void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>)
{{
    kernel(*static_cast<std::remove_cv_t<A>*>(arguments[I])...);
}}
template <class... A> static void call(void (*kernel)(A...), void** arguments)
{{
    call(kernel, arguments, std::index_sequence_for<A...>());
}}
extern "C" void run(const unsigned* blocks, const unsigned* threads, void** arguments)
{{
    gridDim = {{blocks[0], blocks[1], blocks[2]}}, blockDim = {{threads[0], threads[1], threads[2]}};
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x)
    for (threadIdx.z = 0; threadIdx.z < blockDim.z; ++threadIdx.z)
    for (threadIdx.y = 0; threadIdx.y < blockDim.y; ++threadIdx.y)
    for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x)
        call({name}, arguments);
}}
"""


@functools.cache
def compiled_as_cpp(source: str, name: str) -> Any:
    """The kernel ``name`` of a source. Skips the test where there is no C++ compiler."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler to run the kernel with: apt-get install g++")
    with tempfile.TemporaryDirectory(prefix="metrabs_ros-kernel-") as folder:
        path = Path(folder, "kernel.cpp")
        path.write_text(_AROUND.format(source=source, name=name), encoding="utf-8")
        command = [compiler, "-std=c++17", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", path, "-o", f"{path}.so"]
        subprocess.run(command, check=True)
        return ctypes.CDLL(f"{path}.so").run


def run_as_cpp(kernel: Any, blocks: Sequence[int], threads: Sequence[int], addresses: Sequence[int]) -> None:
    """All threads, one after the other; ``addresses`` are those of the arguments."""
    places = [np.array(each, np.uint32) for each in (blocks, threads)]
    pointers = np.array(addresses, np.uint64)
    kernel(*(ctypes.c_void_p(each.ctypes.data) for each in (*places, pointers)))
