"""MeTRAbs: metric-scale volumetric heatmaps and image-space 2D heatmaps from one network (P 4)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

from metrabs_ros.errors import InputError
from training.heatmap import Grid
from training.model import backbones
from training.model.blazepose_encoder import BlazePoseEncoder
from training.model.blazepose_tower import BlazePoseTower
from training.model.heads import MetrabsHead, PlainConv, Prediction


@dataclass(frozen=True)
class MetrabsConfig:
    """What a MeTRAbs network is built of.

    backbone: a name of training.model.backbones; backbone_weights: a file to begin with; grid: crop side, stride,
    centring, depth bins, metric box; neck: widths of 3×3 convolutions before the heads; fuse: width at which
    BlazePose's stride-16 map joins the last one (0: not; the grid's stride is 16 then), which its tower asks for;
    confidence, person: whether those heads are there.
    """

    backbone: str = "blazepose"
    grid: Grid = field(default_factory=Grid)
    neck: tuple[int, ...] = ()
    fuse: int = 0
    confidence: bool = False
    person: bool = False
    backbone_weights: str | None = None


class Metrabs(nn.Module):
    """[N,3,S,S] float32 RGB in 0..1 -> Prediction."""

    def __init__(self, encoder: nn.Module, head: nn.Module, grid: Grid) -> None:
        super().__init__()
        self.encoder, self.head, self.grid = encoder, head, grid
        # Whether gradients reach the encoder; without them its forward pass keeps nothing.
        self.encoder_frozen = False
        self.fixed_depthwise = False

    def forward(self, image: torch.Tensor) -> Prediction:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.encoder_frozen):
            features = self.encoder(image)
        prediction: Prediction = self.head(features)
        return prediction

    def freeze_encoder(self, frozen: bool) -> None:
        """Frozen: no gradients, and batch norm keeps its statistics."""
        self.encoder_frozen = frozen
        self.encoder.requires_grad_(not frozen)
        for module in self.encoder.modules() if not frozen else ():
            if isinstance(module, BlazePoseEncoder | BlazePoseTower):
                module.fix_first_blocks(module.fixed_blocks)
        if self.fixed_depthwise:
            for module in self.encoder.modules():
                if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
                    module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Metrabs:
        super().train(mode)
        if self.encoder_frozen:
            self.encoder.eval()
        return self


class Tapped(nn.Module):
    """BlazePose's encoder giving its last map and its stride-16 map."""

    def __init__(self, encoder: BlazePoseEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.encoder.with_tap(image, 16)


class Fusion(nn.Module):
    """The last map [N,C,h,w], enlarged, plus the stride-16 one [N,c,2h,2w], mixed: [N,width,2h,2w]."""

    def __init__(self, channels: int, early_channels: int, width: int) -> None:
        super().__init__()
        self.deep = nn.Conv2d(channels, width, 1)
        self.early = nn.Conv2d(early_channels, width, 1)
        self.mixed = PlainConv(width, width)

    def forward(self, maps: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        deep = functional.interpolate(self.deep(maps[0]), scale_factor=2.0, mode="nearest")
        mixed: torch.Tensor = self.mixed(torch.relu(deep + self.early(maps[1])))
        return mixed


def build(config: MetrabsConfig, joints: int) -> Metrabs:
    """The network of a config. Raises InputError where its parts do not fit together."""
    if config.backbone.removesuffix(backbones.UNTRAINED) == backbones.TOWER:
        return _on_tower(config, joints)
    if config.fuse:
        return _fused(config, joints)
    encoder = backbones.build(config.backbone, config.grid.stride, config.grid.centred, config.backbone_weights)
    return Metrabs(encoder, _head(config, encoder.channels, joints), config.grid)


def _on_tower(config: MetrabsConfig, joints: int) -> Metrabs:
    if not config.fuse:
        raise InputError("BlazePose's tower has two maps: set fuse to the width at which the heads see them.")
    if config.grid.stride != 16 or not config.grid.centred:
        raise InputError(f"BlazePose's tower has maps of stride 16, centred; the config asks for {config.grid}.")
    tower = backbones.build(config.backbone, weights=config.backbone_weights)
    fusion = Fusion(tower.channels, tower.early_channels, config.fuse)
    return Metrabs(tower, nn.Sequential(fusion, _head(config, config.fuse, joints)), config.grid)


def _fused(config: MetrabsConfig, joints: int) -> Metrabs:
    encoder = backbones.build(config.backbone, 32, centred=False)
    if not isinstance(encoder, BlazePoseEncoder) or config.grid.stride != 16 or config.grid.centred:
        raise InputError(
            "fuse joins BlazePose's maps at stride 16, not centred; got "
            f"{config.backbone} at stride {config.grid.stride}{', centred' if config.grid.centred else ''}."
        )
    fusion = Fusion(encoder.channels, encoder.variant.tap(16)[1], config.fuse)
    return Metrabs(Tapped(encoder), nn.Sequential(fusion, _head(config, config.fuse, joints)), config.grid)


def fix_first_blocks(network: Metrabs, count: int) -> None:
    """BlazePose's first blocks take no part in training. Raises InputError where the encoder is another."""
    encoders = [module for module in network.encoder.modules() if isinstance(module, BlazePoseEncoder | BlazePoseTower)]
    if count and not encoders:
        raise InputError("fixed_blocks needs BlazePose's encoder: set it to 0 for other backbones.")
    for encoder in encoders:
        encoder.fix_first_blocks(count)


def fix_depthwise(network: Metrabs) -> None:
    """The encoder's convolutions of single channels stay as they are: few weights, whose gradients take a CPU as long
    as all others."""
    network.fixed_depthwise = True
    network.freeze_encoder(network.encoder_frozen)


def _head(config: MetrabsConfig, channels: int, joints: int) -> MetrabsHead:
    return MetrabsHead(channels, joints, config.grid, config.neck, config.confidence, config.person)
