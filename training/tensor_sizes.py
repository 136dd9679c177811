"""Parameters by the size of their values, for learning rates in proportion to it.

Adam's steps are as long for a weight of 0.001 as for one of 1, and where batch norms are folded in, weights of one
network are of either kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import nn

# What is smaller, such as a bias that is still zero, counts as this.
_LEAST = 1e-3


def by_size(tensors: Iterable[nn.Parameter]) -> list[tuple[float, list[nn.Parameter]]]:
    """(root mean square to the nearest power of √2, the tensors of that size), the smallest first."""
    found: dict[float, list[nn.Parameter]] = {}
    for tensor in tensors:
        size = max(_LEAST, float(tensor.detach().square().mean().sqrt()))
        found.setdefault(2 ** (round(2 * math.log2(size)) / 2), []).append(tensor)
    return sorted(found.items())
