"""Parameters by the size of their values, for learning rates in proportion to it.

Adam's steps are as long for a weight of 0.001 as for one of 1, and where batch norms are folded in, weights of one
network are of either kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

_SMALL = 1e-3


def size_of(tensor: torch.Tensor) -> float:
    """Root mean square of a tensor's values; of one that is all zero, that of a small one."""
    return float(tensor.detach().square().mean().sqrt()) or _SMALL


def by_size(tensors: Iterable[nn.Parameter]) -> list[tuple[float, list[nn.Parameter]]]:
    """(size to the nearest power of √2, the tensors of that size), the smallest first: few groups, few calls."""
    found: dict[float, list[nn.Parameter]] = {}
    for tensor in tensors:
        size = max(_SMALL, size_of(tensor))
        found.setdefault(2 ** (round(2 * math.log2(size)) / 2), []).append(tensor)
    return sorted(found.items())
