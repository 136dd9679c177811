"""MeTRo: root-relative metric poses from volumetric heatmaps alone (P 3)."""

from __future__ import annotations

import torch

from training.model.heads import VolumetricNetwork


class Metro(VolumetricNetwork):
    """[N,3,S,S] float32 RGB in 0..1 -> coords3d_rel [N,J,3] m, up to translation."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.grid.metres(self.expectation(image))
