"""Colours of a whole batch at once, on its device, for crops that are shown again."""

from __future__ import annotations

import torch


def recoloured(images: torch.Tensor) -> torch.Tensor:
    """[N,3,S,S] in 0..1 -> the same with other exposure, contrast, white balance and saturation, each crop its own."""
    count, device = len(images), images.device

    def dice(low: float, high: float, channels: int = 1) -> torch.Tensor:
        return torch.empty(count, channels, 1, 1, device=device).uniform_(low, high)

    images = images.clamp_min(1e-4) ** torch.exp(dice(-0.35, 0.35))
    images = images * dice(0.8, 1.2) * dice(0.93, 1.07, 3)
    grey = images.mean(1, keepdim=True)
    return (grey + (images - grey) * dice(0.4, 1.3)).clamp(0, 1)
