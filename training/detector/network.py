"""BlazePose's person detector (Apache-2.0, MediaPipe) as a trainable torch module, its weights read from the .tflite.

Inverted-residual blocks to stride 32, a pyramid back to stride 8, and at strides 8, 16 and 32 two, two and six anchors
a cell. Batch norms are folded into the convolutions; all padding is symmetric, so any side that 32 divides will do.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from metrabs_ros.errors import InputError
from training.model.blazepose_encoder import InvertedResidual, Weights, bias_of, file_of, fill, unpacked

ENGINE = "blazepose_detector"
STRIDES = (8, 16, 32)
PER_CELL = (2, 2, 6)
COLUMNS = 12
# Channels inside and out of each block, kernel, stride; the maps of strides 8 and 16 leave before the next stride.
_TO_8 = ((64, 24, 3, 2), (144, 24, 3, 1), (144, 40, 5, 2), (240, 40, 5, 1))
_TO_16 = ((240, 80, 3, 2), *[(480, 80, 3, 1)] * 2, (480, 112, 5, 1), *[(672, 112, 5, 1)] * 2)
_TO_32 = ((672, 192, 5, 2), *[(1152, 192, 5, 1)] * 3)
_TOP = 1152
_WIDTHS = (96, 192, _TOP)


class PersonDetector(nn.Module):
    """[N,3,S,S] float32 RGB in -1..1 -> boxes [N,A,12] px relative to their anchors and logits [N,A].

    Columns: centre and size of the upper body, then four points: hips, rim of the circle around the body above its
    head, shoulders and another rim. Random weights; see ``load``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _conv(3, 24, 3, 2), nn.ReLU6(), _conv(24, 24, 3, groups=24), nn.ReLU6(), _conv(24, 16, 1)
        )
        self.to_8 = _blocks(16, _TO_8)
        self.lateral_8 = _separable(40, 96, nn.ReLU6())
        self.to_16 = _blocks(40, _TO_16)
        self.lateral_16 = _separable(112, 192, nn.ReLU6())
        self.to_32 = _blocks(112, _TO_32)
        self.top = nn.Sequential(_conv(192, _TOP, 1), nn.ReLU6(), _conv(_TOP, _TOP, 3, groups=_TOP), nn.ReLU6())
        self.down_16 = nn.Sequential(_conv(_TOP, 192, 1), nn.ReLU6())
        self.refine_16 = nn.Sequential(_Refinement(192), _Refinement(192))
        self.down_8 = nn.Sequential(_conv(192, 96, 1), nn.ReLU6())
        self.refine_8 = nn.Sequential(_Refinement(96), _Refinement(96))
        self.scores = nn.ModuleList(Head(w, count) for w, count in zip(_WIDTHS, PER_CELL, strict=True))
        self.boxes = nn.ModuleList(Head(w, count * COLUMNS) for w, count in zip(_WIDTHS, PER_CELL, strict=True))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = self.pyramid(self.early(image))
        logits = [rows(head(features), 1) for head, features in zip(self.scores, maps, strict=True)]
        boxes = [rows(head(features), COLUMNS) for head, features in zip(self.boxes, maps, strict=True)]
        return torch.cat(boxes, 1), torch.cat(logits, 1)[..., 0]

    def early(self, image: torch.Tensor) -> torch.Tensor:
        """The map of stride 8 that the later ones are made of."""
        features: torch.Tensor = self.to_8(self.stem(image))
        return features

    def pyramid(self, early: torch.Tensor) -> list[torch.Tensor]:
        """The maps of strides 8, 16 and 32 that the heads look at."""
        middle = self.to_16(early)
        top = self.top(self.to_32(middle))
        at_16 = self.refine_16(self.lateral_16(middle) + self.down_16(_doubled(top)))
        at_8 = self.refine_8(self.lateral_8(early) + self.down_8(_doubled(at_16)))
        return [at_8, at_16, top]


class _Refinement(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolved = _separable(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu6(x + self.convolved(x))


class Head(nn.Module):
    """Channels are spread over a grid twice as fine before they are convolved back."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.convolved = _separable(width // 4, out, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count, width, height, across = x.shape
        spread = x.reshape(count, 2, 2, width // 4, height, across).permute(0, 3, 4, 1, 5, 2)
        out: torch.Tensor = self.convolved(spread.reshape(count, width // 4, 2 * height, 2 * across))
        return out

    def taken(self, channels: slice) -> Head:
        """The same head for some of its channels alone."""
        head = copy.deepcopy(self)
        last = head.convolved[1]
        assert last.bias is not None
        last.weight = nn.Parameter(last.weight[channels].detach())
        last.bias = nn.Parameter(last.bias[channels].detach())
        last.out_channels = len(last.weight)
        return head


def load() -> PersonDetector:
    """With BlazePose's own weights. Raises InputError where the file is missing or another network."""
    path = file_of(ENGINE)
    network = PersonDetector()
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    stored = _stored_convolutions(path)
    if len(stored) != len(convolutions):
        raise InputError(f"{path} has {len(stored)} convolutions, expected {len(convolutions)}: this is not {ENGINE}.")
    fill(convolutions, stored, path, ENGINE)
    return network


def rows(head: torch.Tensor, columns: int) -> torch.Tensor:
    """[N,C,H,W] -> [N,H·W·anchors,columns], row by row."""
    return head.permute(0, 2, 3, 1).reshape(head.shape[0], -1, columns)


def _stored_convolutions(path: Path) -> Weights:
    """Weight and bias of each convolution, in the order of computation: that of the module's own."""
    import openvino as ov

    nodes = ov.Core().read_model(path).get_ordered_ops()
    convolutions = [node for node in nodes if "Convolution" in node.get_type_name()]
    return unpacked([port for node in convolutions for port in (node.input_value(1), bias_of(node))])


def _doubled(features: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)


def _blocks(width: int, blocks: tuple[tuple[int, int, int, int], ...]) -> nn.Sequential:
    made = []
    for inner, out, kernel, stride in blocks:
        made.append(InvertedResidual(width, inner, out, kernel, stride))
        width = out
    return nn.Sequential(*made)


def _separable(width: int, out: int, *activation: nn.Module, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(_conv(width, width, 3, stride, groups=width), _conv(width, out, 1), *activation)


def _conv(width: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width, out, kernel, stride, padding=kernel // 2, groups=groups)
