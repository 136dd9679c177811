"""A network's tensors and scratch memory on the GPU, and their pinned twins on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.backends.trt.device import Device, nbytes_of
from metrabs_ros.backends.trt.tensors import Tensors

Floats = NDArray[np.float32]


class Buffers:
    """An engine's tensors for up to ``capacity`` crops; only the ``wanted`` outputs come back to the host.

    What is not reserved holds nothing. Raises OutOfMemoryError where the GPU has no room.
    """

    def __init__(self, engine: Any, tensors: Tensors, wanted: Sequence[str], device: Device) -> None:
        self._engine = engine
        self._source = tensors.source
        self._wanted = list(wanted)
        self._shapes = {name: shape[1:] for name, shape in tensors.shapes.items()}
        self._device = device
        self._addresses: dict[str, int] = {}
        self._host: dict[str, NDArray[Any]] = {}
        self._scratch, self._scratch_bytes = 0, 0
        self.capacity = 0

    def reserve(self, capacity: int) -> None:
        """Makes room for ``capacity`` crops; what was there before is gone. Where it fails, release() what it took."""
        self.release()
        for name, shape in self._shapes.items():
            self._addresses[name] = self._device.allocated(nbytes_of((capacity, *shape), np.float32))
        for name in [self._source, *self._wanted]:
            self._host[name] = self._device.pinned((capacity, *self._shapes[name]), np.float32)
        self.capacity = capacity

    def release(self) -> None:
        """Gives everything back."""
        self.capacity = 0
        for address in self._addresses.values():
            self._device.free(address)
        self._addresses.clear()
        for array in self._host.values():
            self._device.free_pinned(array)
        self._host.clear()
        if self._scratch:
            self._device.free(self._scratch)
        self._scratch, self._scratch_bytes = 0, 0

    def attach(self, context: Any) -> bool:
        """Sets the tensors and the scratch memory of a context that has its shape; returns whether the scratch memory
        had to move."""
        for name, address in self._addresses.items():
            context.set_tensor_address(name, address)
        needed = self._needed_scratch(context)
        moved = needed > self._scratch_bytes
        if moved:
            if self._scratch:
                self._device.free(self._scratch)
                self._scratch, self._scratch_bytes = 0, 0
            self._scratch = self._device.allocated(needed)
            self._scratch_bytes = needed
        if hasattr(context, "set_device_memory"):
            context.set_device_memory(self._scratch, self._scratch_bytes)
        else:
            context.device_memory = self._scratch
        return moved

    @property
    def source_address(self) -> int:
        """Where the network's input lies on the GPU; rows after those that were put there hold anything."""
        return self._addresses[self._source]

    def upload(self, crops: Floats) -> None:
        """Puts crops into the network's input."""
        staged = self._host[self._source][: len(crops)]
        staged[:] = crops
        self._device.upload(self.source_address, staged)

    def download(self, count: int) -> None:
        for name in self._wanted:
            self._device.download(self._host[name][:count], self._addresses[name])

    def results(self, count: int) -> dict[str, Floats]:
        """Copies of what the last download brought."""
        return {name: self._host[name][:count].copy() for name in self._wanted}

    def _needed_scratch(self, context: Any) -> int:
        if hasattr(context, "update_device_memory_size_for_shapes"):
            return max(int(context.update_device_memory_size_for_shapes()), 1)
        return max(int(self._engine.device_memory_size), 1)  # 8.6: for the largest batch of the profile
