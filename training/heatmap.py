"""Heatmaps to coordinates: softmax, expectation, and what a cell means in pixels and in metres (P 3.1, 3.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Grid:
    """Where the cells of the heatmaps lie.

    side: crop, px; stride: px between cells; centred: cells begin at half a stride instead of at 0; depth: bins;
    box: side of the metric volume, m; legacy_half_stride: the authors' older releases add half a stride once more.
    """

    side: int = 256
    stride: int = 32
    centred: bool = True
    depth: int = 8
    box: float = 2.2
    legacy_half_stride: bool = False

    @property
    def cells(self) -> int:
        return self.side // self.stride

    def pixels(self, unit: torch.Tensor) -> torch.Tensor:
        """Expectations in 0..1 over the cells -> crop pixels."""
        last = (self.side - 1) - (self.side - 1) % self.stride
        first = self.stride // 2 if self.centred else 0
        if self.legacy_half_stride:
            first += self.stride // 2
        return unit * last + first

    def metres(self, unit: torch.Tensor) -> torch.Tensor:
        """[...,3] expectations (x, y, z) in 0..1 -> m in the volume; only differences between joints count."""
        xy = self.pixels(unit[..., :2]) * (self.box / self.side)
        return torch.cat([xy, unit[..., 2:] * self.box], -1)

    def bounds(self) -> tuple[float, float]:
        """The first and the last pixel that a heatmap can name."""
        ends = self.pixels(torch.tensor([0.0, 1.0]))
        return float(ends[0]), float(ends[1])


def split_heads(logits: torch.Tensor, joints: int, depth: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[N,J+D·J,H,W] -> 2D [N,J,H,W] and volumetric [N,J,D,H,W] logits; the volumetric channels are depth-major."""
    return logits[:, :joints], volumes(logits[:, joints:], depth)


def volumes(logits: torch.Tensor, depth: int) -> torch.Tensor:
    """[N,D·J,H,W] depth-major -> [N,J,D,H,W]."""
    _, channels, height, width = (int(size) for size in logits.shape)
    return logits.reshape(-1, depth, channels // depth, height, width).transpose(1, 2)


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    """[N,J,...] logits -> [N,J,cells] softmax over all axes behind the joints, in float32 whatever the input is."""
    return flat(logits).softmax(-1)


def flat(maps: torch.Tensor) -> torch.Tensor:
    """[N,J,...] -> [N,J,cells] float32."""
    # Sizes as plain numbers: the exported graph then computes no shapes.
    joints, *cells = (int(size) for size in maps.shape[1:])
    return maps.reshape(-1, joints, math.prod(cells)).float()


def cell_positions(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """[cells,axes] position of each cell in 0..1, end points included; axes in the order x, y(, z)."""
    axes = [torch.linspace(0, 1, size, device=device) for size in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape)).flip(-1)


def soft_argmax(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[N,J,H,W] or [N,J,D,H,W] logits -> expectation [N,J,axes] (x, y(, z)) in 0..1, and its standard deviation."""
    return expectation(probabilities(logits), tuple(int(size) for size in logits.shape[2:]))


def expectation(share: torch.Tensor, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """share [N,J,cells] -> mean and standard deviation [N,J,axes] of the cells' positions."""
    positions = cell_positions(shape, share.device)
    # Under autocast a matrix product would fall back to half precision.
    with torch.autocast(share.device.type, enabled=False):
        mean = share @ positions
        variance = share @ positions**2 - mean**2
    return mean, variance.clamp_min(1e-12).sqrt()
