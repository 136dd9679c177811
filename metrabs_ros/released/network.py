"""The released network in torch: EfficientNetV2 with centred striding, and the heads read by soft-argmax.

Module names follow torchvision's and the authors', so that their weights load by name. Tan and Le, EfficientNetV2
(2021), table 4; paper section 3.3 for the striding, 3.1 for the heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from metrabs_ros.released.directory import ReleasedConfig

_BATCH_NORM_EPS = 1e-3


class _Stage(NamedTuple):
    fused: bool
    expansion: int
    stride: int
    channels_in: int
    channels: int
    blocks: int


_STAGES = {
    "s": (
        _Stage(True, 1, 1, 24, 24, 2),
        _Stage(True, 4, 2, 24, 48, 4),
        _Stage(True, 4, 2, 48, 64, 4),
        _Stage(False, 4, 2, 64, 128, 6),
        _Stage(False, 6, 1, 128, 160, 9),
        _Stage(False, 6, 2, 160, 256, 15),
    ),
    "m": (
        _Stage(True, 1, 1, 24, 24, 3),
        _Stage(True, 4, 2, 24, 48, 5),
        _Stage(True, 4, 2, 48, 80, 5),
        _Stage(False, 4, 2, 80, 160, 7),
        _Stage(False, 6, 1, 160, 176, 14),
        _Stage(False, 6, 2, 176, 304, 18),
        _Stage(False, 6, 1, 304, 512, 5),
    ),
    "l": (
        _Stage(True, 1, 1, 32, 32, 4),
        _Stage(True, 4, 2, 32, 64, 7),
        _Stage(True, 4, 2, 64, 96, 7),
        _Stage(False, 4, 2, 96, 192, 10),
        _Stage(False, 6, 1, 192, 224, 19),
        _Stage(False, 6, 2, 224, 384, 25),
        _Stage(False, 6, 1, 384, 640, 7),
    ),
}
# The stage whose first block holds the last stride of 2.
_LAST_STRIDED = 5
FEATURES = 1280


class ReleasedNetwork(nn.Module):
    """image [N,S,S,3] RGB in 0..1 -> coords2d [N,J,2] px of the crop, coords3d_rel [N,J,3] m, spread2d [N,J] px and
    spread3d [N,J] m: the heatmaps' standard deviations, all axes together. float32, the softmax and what follows, too.
    """

    def __init__(self, config: ReleasedConfig, joints: int) -> None:
        super().__init__()
        self.config = config
        self.joints = joints
        # The authors' first layer maps 0..1 to -1..1 and has no weights.
        self.backbone = nn.Sequential(nn.Identity(), _features(_STAGES[config.size], config.centred))
        self.heatmap_heads = nn.ModuleDict({"conv_final": nn.Conv2d(FEATURES, joints * (1 + config.depth), 1)})

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        features = self.backbone(image.permute(0, 3, 1, 2) * 2 - 1)
        return self.decoded(self.heatmap_heads["conv_final"](features))

    def decoded(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """[N,J+D·J,H,W] logits: the 2D heatmaps, then the volumetric ones, depth-major."""
        config, joints = self.config, self.joints
        height, width = (int(size) for size in logits.shape[2:])
        flat = logits[:, :joints].reshape(-1, joints, height * width)
        volume = logits[:, joints:].reshape(-1, config.depth, joints, height * width)
        volume = volume.transpose(1, 2).reshape(-1, joints, config.depth * height * width)
        mean2d, deviation2d = _expected(flat, (height, width))
        mean3d, deviation3d = _expected(volume, (config.depth, height, width))
        last = (config.side - 1) - (config.side - 1) % config.stride_test
        first = (config.stride_test // 2) * (int(config.centred) + int(config.legacy_half_stride))
        metres = config.box / config.side
        in_volume = torch.cat([(mean3d[..., :2] * last + first) * metres, mean3d[..., 2:] * config.box], -1)
        spans = torch.tensor([last * metres, last * metres, config.box])
        return mean2d * last + first, in_volume, deviation2d.norm(dim=-1) * last, (deviation3d * spans).norm(dim=-1)


def _expected(logits: torch.Tensor, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """[N,J,cells] logits -> mean and standard deviation [N,J,axes] of the cells' positions in 0..1; axes x, y(, z)."""
    axes = [torch.linspace(0, 1, size) for size in shape]
    positions = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape)).flip(-1)
    share = logits.float().softmax(-1)
    mean = share @ positions
    return mean, (share @ positions**2 - mean**2).clamp_min(1e-12).sqrt()


def _features(stages: tuple[_Stage, ...], centred: bool) -> nn.Sequential:
    layers: list[nn.Module] = [_conv(3, stages[0].channels_in, 3, 2)]
    for i, stage in enumerate(stages):
        late = centred and i == _LAST_STRIDED
        first = _Block(stage, stage.channels_in, stage.stride, late)
        layers.append(nn.Sequential(first, *(_Block(stage, stage.channels, 1) for _ in range(stage.blocks - 1))))
    layers.append(_conv(stages[-1].channels, FEATURES, 1))
    return nn.Sequential(*layers)


class _Block(nn.Module):
    """An inverted residual block; fused: one full convolution in place of the expansion and the depthwise one."""

    def __init__(self, stage: _Stage, channels_in: int, stride: int, late: bool = False) -> None:
        super().__init__()
        wide = channels_in * stage.expansion
        layers: list[nn.Module]
        if not stage.fused:
            layers = [
                _conv(channels_in, wide, 1),
                _conv(wide, wide, 3, stride, groups=wide, late=late),
                _SqueezeExcitation(wide, channels_in // 4),
                _conv(wide, stage.channels, 1, active=False),
            ]
        elif stage.expansion == 1:
            layers = [_conv(channels_in, stage.channels, 3, stride)]
        else:
            layers = [_conv(channels_in, wide, 3, stride), _conv(wide, stage.channels, 1, active=False)]
        self.block = nn.Sequential(*layers)
        self.is_residual = stride == 1 and channels_in == stage.channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.block(x)
        return x + y if self.is_residual else y


class _SqueezeExcitation(nn.Module):
    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.fc2(functional.silu(self.fc1(x.mean((2, 3), keepdim=True)))))


class _LatePadding(nn.Conv2d):
    """A convolution of 3 px that reads one px further right and down: nothing is padded before, two px after."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(functional.pad(x, (0, 2, 0, 2)))


def _conv(
    channels_in: int,
    channels: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    late: bool = False,
    active: bool = True,
) -> nn.Sequential:
    kind, padding = (_LatePadding, 0) if late else (nn.Conv2d, kernel // 2)
    layers: list[nn.Module] = [
        kind(channels_in, channels, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(channels, eps=_BATCH_NORM_EPS),
    ]
    return nn.Sequential(*layers, nn.SiLU()) if active else nn.Sequential(*layers)
