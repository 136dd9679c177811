"""MeTRo: root-relative metric poses from volumetric heatmaps alone (P 3)."""

from __future__ import annotations

import torch
from torch import nn

from training import heatmap
from training.heatmap import Grid
from training.model import backbones


class Metro(nn.Module):
    """[N,3,S,S] float32 RGB in 0..1 -> coords3d_rel [N,J,3] m, up to translation."""

    def __init__(self, backbone: str, joints: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.encoder = backbones.build(backbone, grid.stride, grid.centred)
        self.heatmaps = nn.Conv2d(self.encoder.channels, joints * grid.depth, 1)
        nn.init.normal_(self.heatmaps.weight, std=1e-2)
        nn.init.zeros_(self.heatmaps.bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mean, _ = heatmap.soft_argmax(heatmap.volumes(self.heatmaps(self.encoder(image)), self.grid.depth))
        return self.grid.metres(mean)
