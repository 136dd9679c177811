"""Striding put into finished networks: centred (P 3.3) and denser than trained (P 3.2).

A network of stride 32 has five layers of stride 2. To predict at stride 32 / 2^k, the last k of them lose their stride
and what follows is dilated by as much. Centring makes the last layer that still has a stride keep the bottom-right
sample of each 2×2 block, its shortcut included, so that cell i is centred at pixel i·s + s/2 instead of i·s.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import nn
from torch.nn import functional

from metrabs_ros.errors import InputError

Strided: TypeAlias = nn.Conv2d | nn.MaxPool2d


class LateConv2d(nn.Conv2d):
    """A convolution of stride 2 whose samples lie one pixel further right and down; same weights, same output size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Padded by one more, the first sample lies one pixel before the edge: without it the others are the late ones.
        wide = self.kernel_size[0] // 2 + 1
        return functional.conv2d(x, self.weight, self.bias, self.stride, wide, 1, self.groups)[..., 1:, 1:]


class LateMaxPool2d(nn.MaxPool2d):
    """Max pooling of stride 2 whose samples lie one pixel further right and down."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before, after = self.kernel_size // 2 - 1, self.kernel_size // 2 + 1
        padded = functional.pad(x, (before, after, before, after), value=float("-inf"))
        return functional.max_pool2d(padded, self.kernel_size, self.stride)


def restride(network: nn.Module, stride: int, centred: bool, native_stride: int = 32) -> nn.Module:
    """The same network, changed in place, with this output stride. Its modules must be registered in forward order.

    Raises InputError where the network has not the strided layers to reach ``stride``.
    """
    stages = _strided_stages(network)
    if 2 ** len(stages) != native_stride:
        raise InputError(
            f"{type(network).__name__} has {len(stages)} layers of stride 2, expected those of stride {native_stride}."
        )
    kept = stride.bit_length() - 1
    if stride < 2 or stride != 2**kept or kept > len(stages):
        raise InputError(f"The output stride must be one of 2, 4, 8, ... {native_stride}, got {stride}.")
    removed = {name for stage in stages[kept:] for name in stage}
    late = set(stages[kept - 1]) if centred else set()
    dilation = 1
    for name, module in list(network.named_modules()):
        if not isinstance(module, Strided):
            continue
        grows = name in removed and _kernel(module) > 1
        changed = _changed(module, dilation, unstrided=name in removed, late=name in late)
        if grows:
            dilation *= 2
        _put(network, name, changed)
    return network


def _strided_stages(network: nn.Module) -> list[list[str]]:
    """Names of the layers that halve the map; a 1×1 shortcut belongs to the stage of the layer beside it."""
    stages: list[list[str]] = []
    for name, module in network.named_modules():
        if isinstance(module, Strided) and _first(module.stride) == 2:
            if _kernel(module) > 1:
                stages.append([name])
            else:
                stages[-1].append(name)
    return stages


def _changed(module: Strided, dilation: int, unstrided: bool, late: bool) -> nn.Module:
    kernel = _kernel(module)
    if isinstance(module, nn.MaxPool2d):
        if late:
            return LateMaxPool2d(kernel, 2)
        if unstrided:
            return nn.MaxPool2d(kernel, 1, padding=kernel // 2)
        return module
    module.dilation = (dilation, dilation)
    module.padding = (dilation * (kernel // 2),) * 2
    if unstrided:
        module.stride = (1, 1)
    if not late:
        return module
    if kernel == 1:
        module.stride = (1, 1)
        return nn.Sequential(BottomRight(), module)
    moved = LateConv2d(
        module.in_channels, module.out_channels, kernel, 2, groups=module.groups, bias=module.bias is not None
    )
    moved.weight, moved.bias = module.weight, module.bias
    return moved


class BottomRight(nn.Module):
    """Every second pixel, beginning with the second."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., 1::2, 1::2]


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, module)


def _kernel(module: Strided) -> int:
    return _first(module.kernel_size)


def _first(size: int | tuple[int, ...]) -> int:
    return size if isinstance(size, int) else size[0]
