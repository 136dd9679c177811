"""An exponential moving average of a network's parameters, which usually scores better than the parameters."""

from __future__ import annotations

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
