"""From a backbone's map to poses: one 1×1 convolution for 2D and volumetric heatmaps, decoded in the graph (P 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from training import heatmap
from training.heatmap import Grid
from training.model import backbones


@dataclass(frozen=True)
class Prediction:
    """Of N crops with J joints.

    coords2d [N,J,2] px of the crop; coords3d_rel [N,J,3] m up to translation; spread2d [N,J] px and spread3d [N,J] m:
    standard deviations of the heatmaps; confidence_logit [N,J] and person_logit [N], None where the network has no such
    head.
    """

    coords2d: torch.Tensor
    coords3d_rel: torch.Tensor
    spread2d: torch.Tensor
    spread3d: torch.Tensor
    confidence_logit: torch.Tensor | None = None
    person_logit: torch.Tensor | None = None


class MetrabsHead(nn.Module):
    """[N,C,h,w] -> Prediction by J + D·J heatmaps.

    neck: widths of 3×3 convolutions in front (none in the paper). confidence: J more channels, read where the 2D
    heatmap looks. person: one linear layer on the map's mean and maximum.
    """

    def __init__(
        self,
        channels: int,
        joints: int,
        grid: Grid,
        neck: tuple[int, ...] = (),
        confidence: bool = False,
        person: bool = False,
    ) -> None:
        super().__init__()
        self.joints, self.grid = joints, grid
        self.neck, channels = _neck(channels, neck)
        self.heatmaps = nn.Conv2d(channels, joints * (1 + grid.depth), 1)
        nn.init.normal_(self.heatmaps.weight, std=1e-2)
        nn.init.zeros_(self.heatmaps.bias)
        self.confidence = nn.Conv2d(channels, joints, 1) if confidence else None
        self.person = nn.Linear(2 * channels, 1) if person else None

    def forward(self, features: torch.Tensor) -> Prediction:
        features = self.neck(features)
        planes, volume = heatmap.split_heads(self.heatmaps(features), self.joints, self.grid.depth)
        share = heatmap.probabilities(planes)
        confidence = None
        if self.confidence is not None:
            confidence = (share * heatmap.flat(self.confidence(features))).sum(-1)
        person = None
        if self.person is not None:
            person = self.person(torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)).float()[:, 0]
        return decoded(planes, volume, self.grid, share, confidence, person)


def decoded(
    planes: torch.Tensor,
    volume: torch.Tensor,
    grid: Grid,
    share: torch.Tensor | None = None,
    confidence: torch.Tensor | None = None,
    person: torch.Tensor | None = None,
) -> Prediction:
    """planes [N,J,H,W] and volume [N,J,D,H,W] logits -> Prediction; ``share`` saves the planes' softmax."""
    share = heatmap.probabilities(planes) if share is None else share
    mean2d, deviation2d = heatmap.expectation(share, tuple(int(size) for size in planes.shape[2:]))
    mean3d, deviation3d = heatmap.soft_argmax(volume)
    last = (grid.side - 1) - (grid.side - 1) % grid.stride
    metric = deviation3d * deviation3d.new_tensor([last * grid.box / grid.side] * 2 + [grid.box])
    return Prediction(
        coords2d=grid.pixels(mean2d),
        coords3d_rel=grid.metres(mean3d),
        spread2d=deviation2d.norm(dim=-1) * last,
        spread3d=metric.norm(dim=-1),
        confidence_logit=confidence,
        person_logit=person,
    )


def _neck(channels: int, widths: tuple[int, ...]) -> tuple[nn.Module, int]:
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(ResidualConv(channels) if width == channels else PlainConv(channels, width))
        channels = width
    return nn.Sequential(*layers), channels


class PlainConv(nn.Sequential):
    """3×3 convolution and ReLU."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU())
        nn.init.kaiming_normal_(self[0].weight, nonlinearity="relu")
        nn.init.zeros_(self[0].bias)


class ResidualConv(nn.Module):
    """The input plus a 3×3 convolution of it, then ReLU; begins near the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.normal_(self.conv.weight, std=1e-3)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.conv(x))


class VolumetricNetwork(nn.Module):
    """A backbone and one volumetric heatmap a joint: what MeTRo and the 2.5D baseline read differently."""

    def __init__(self, backbone: str, joints: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.encoder = backbones.build(backbone, grid.stride, grid.centred)
        self.heatmaps = nn.Conv2d(self.encoder.channels, joints * grid.depth, 1)
        nn.init.normal_(self.heatmaps.weight, std=1e-2)
        nn.init.zeros_(self.heatmaps.bias)

    def expectation(self, image: torch.Tensor) -> torch.Tensor:
        """[N,3,S,S] float32 RGB in 0..1 -> [N,J,3], 0..1 along each axis of the volume."""
        mean, _ = heatmap.soft_argmax(heatmap.volumes(self.heatmaps(self.encoder(image)), self.grid.depth))
        return mean
