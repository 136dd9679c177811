"""An exponential moving average of a network's parameters, which usually scores better than the parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


class Ema:
    """Averages of parameters, and copies of buffers. ``decay`` is reached gradually: (1 + t) / (10 + t) at first."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            average = self.state[name]
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), 1 - decay)
            else:
                average.copy_(value)


class FastEma:
    """The same in a few calls to the device, for networks of parameters alone; ``instead`` lends the averages."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._names = [name for name, _ in network.named_parameters()]
        self._own = [parameter.data for parameter in network.parameters()]
        self._averages = [value.clone() for value in self._own]

    @property
    def state(self) -> dict[str, torch.Tensor]:
        return dict(zip(self._names, self._averages, strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        torch._foreach_lerp_(self._averages, self._own, 1 - min(self.decay, (1 + step) / (10 + step)))

    @contextlib.contextmanager
    def instead(self) -> Iterator[None]:
        """The network has the averages until the block ends."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for own, average in zip(self._own, self._averages, strict=True):
            kept = own.clone()
            own.copy_(average)
            average.copy_(kept)
