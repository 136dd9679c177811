"""Where crops are made: on the CPU, or by the network on its GPU where that was faster for frames like this one."""

from __future__ import annotations

import logging
from statistics import median

_LOG = logging.getLogger(__name__)

# An image with fewer pixels than this is not worth its way to the GPU.
LEAST_PIXELS = 500_000
# Frames of each way that are not counted, in which kernels are loaded and graphs recorded, and those that are.
WARM_UP = 2
MEASURED = 3


class Case:
    """Frames of one size with about as many crops: both ways in turn, the GPU's first, and then the faster one."""

    def __init__(self, name: str, is_gpu: bool | None = None) -> None:
        """``is_gpu``: the way where nothing is to be measured."""
        self._name = name
        self._is_gpu = is_gpu
        self._seconds: dict[bool, list[float]] = {True: [], False: []}

    @property
    def is_gpu_next(self) -> bool:
        """Whether the next frame's crops shall be made on the GPU."""
        if self._is_gpu is not None:
            return self._is_gpu
        return len(self._seconds[True]) <= len(self._seconds[False])

    def took(self, is_gpu: bool, seconds: float) -> None:
        """How long a frame took in one of the ways, its crops and the network together."""
        if self._is_gpu is not None:
            return
        self._seconds[is_gpu].append(seconds)
        if min(len(each) for each in self._seconds.values()) == WARM_UP + MEASURED:
            gpu, cpu = (median(self._seconds[way][WARM_UP:]) for way in (True, False))
            self._is_gpu = gpu < cpu
            _LOG.info(
                "%s are made on the %s: with the network they took %.1f ms on the GPU, %.1f ms on the CPU.",
                self._name,
                "GPU" if self._is_gpu else "CPU",
                1e3 * gpu,
                1e3 * cpu,
            )


class WarpChoice:
    """The cases that came up, by the image's size and the crops' number, rounded up to a power of two."""

    def __init__(self) -> None:
        self._cases: dict[tuple[int, int, int], Case] = {}

    def case(self, size: tuple[int, int], crops: int) -> Case:
        """Of an image of ``size`` (width, height) with one crop or more."""
        width, height = size
        most = 1 << (crops - 1).bit_length()
        key = (width, height, most)
        if key not in self._cases:
            is_small = width * height < LEAST_PIXELS
            name = f"Up to {most} crops of images of {width} x {height}"
            self._cases[key] = Case(name, False if is_small else None)
        return self._cases[key]
