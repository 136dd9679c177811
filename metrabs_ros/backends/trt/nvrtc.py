"""CUDA C compiled where the program runs, by NVIDIA's library for it, which needs no GPU and no nvcc."""

from __future__ import annotations

from typing import Any

from metrabs_ros.backends.trt.device import DeviceError

# A multiplication and an addition round by themselves, as on the CPU: what lies on the edge of a step stays there.
OPTIONS = ("--fmad=false",)


def compiled(source: str, compute_capability: str) -> bytes:
    """Machine code of CUDA C for GPUs of a compute capability such as "8.6".

    Raises DeviceError with what the compiler said, or where there is none.
    """
    try:
        try:
            from cuda.bindings import nvrtc
        except ImportError:  # cuda-python before 12.6
            from cuda import nvrtc
        program = nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, [], [])[1]
    except (ImportError, RuntimeError) as failure:
        raise DeviceError(
            f"there is no NVRTC ({' '.join(str(failure).split())}; `pip install cuda-python nvidia-cuda-nvrtc`)"
        ) from failure

    def content(size_of: Any, copy: Any) -> bytes:
        # NVRTC writes into these bytes; Python keeps those of length 1, but then it writes what is there.
        there = b"\0" * size_of(program)[1]
        copy(program, there)
        return there

    target = f"--gpu-architecture=sm_{compute_capability.replace('.', '')}"
    options = [option.encode() for option in (target, *OPTIONS)]
    (error,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        said = content(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).rstrip(b"\0").decode(errors="replace")
        first = next(iter(said.splitlines()), "no reason given")
        raise DeviceError(f"NVRTC cannot compile for compute capability {compute_capability}: {error.name}, {first}")
    code = content(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
    nvrtc.nvrtcDestroyProgram(program)
    return code
