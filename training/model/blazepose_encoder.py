"""BlazePose's encoder (Apache-2.0, MediaPipe) as a trainable torch module, its weights read out of the .tflite file.

An inverted-residual network from 256×256 RGB in 0..1 to a 288×8×8 map. Batch norms are folded into the convolutions, so
there is none to freeze. All padding is symmetric: cell i of a map of stride s is centred at pixel i·s, and
surgery.restride applies.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from metrabs_ros.engine import check_hash
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import find_spec, load_spec
from metrabs_ros.weights import find_weights

# Channels inside the block, channels out of it, kernel, stride. Stride 1 with the channels kept is residual.
BLOCKS = (
    (64, 24, 3, 2),
    (144, 24, 3, 1),
    (144, 32, 5, 2),
    (192, 32, 5, 1),
    (192, 64, 3, 2),
    (384, 64, 3, 1),
    (384, 64, 3, 1),
    (384, 88, 5, 1),
    (528, 88, 5, 1),
    (528, 88, 5, 1),
    (528, 144, 5, 2),
    (864, 144, 5, 1),
    (864, 144, 5, 1),
    (864, 144, 5, 1),
)
# The last block before the map's stride grows: stride -> (blocks that lead to it, channels).
TAPS = {8: (4, 32), 16: (10, 88)}
CHANNELS = 288


class BlazePoseEncoder(nn.Module):
    """[N,3,S,S] float32 RGB in 0..1 -> [N,288,S/32,S/32]. Random weights; see ``load``."""

    channels = CHANNELS
    native_stride = 32

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _conv(3, 24, 3, stride=2), nn.ReLU6(), _conv(24, 24, 3, groups=24), nn.ReLU6(), _conv(24, 16, 1)
        )
        blocks, width = [], 16
        for inner, out, kernel, stride in BLOCKS:
            blocks.append(InvertedResidual(width, inner, out, kernel, stride))
            width = out
        self.blocks = nn.Sequential(*blocks)
        self.fixed_blocks = 0
        self.tail = nn.Sequential(
            _conv(width, 864, 1),
            nn.ReLU6(),
            _conv(864, 864, 3, groups=864),
            nn.ReLU6(),
            _conv(864, 864, 3, groups=864),
            nn.ReLU6(),
            _conv(864, CHANNELS, 1),
            nn.ReLU6(),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.tail(self._later_blocks(self._fixed_part(image), len(self.blocks)))

    def with_tap(self, image: torch.Tensor, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The final map, and the last one of an earlier ``stride`` (8: 32 channels, 16: 88 channels)."""
        count, _ = TAPS[stride]
        early = self._later_blocks(self._fixed_part(image), count)
        return self.tail(self.blocks[count:](early)), early

    def fix_first_blocks(self, count: int) -> None:
        """The stem and so many blocks, at most those up to stride 8, stay as they are: half of a step's time is theirs.

        Raises InputError for a larger count.
        """
        most, _ = TAPS[8]
        if not 0 <= count <= most:
            raise InputError(f"Of BlazePose's blocks 0 to {most} can be fixed, got {count}.")
        self.fixed_blocks = count
        self.requires_grad_(True)
        if count:
            self.stem.requires_grad_(False)
            self.blocks[:count].requires_grad_(False)

    def _fixed_part(self, image: torch.Tensor) -> torch.Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.fixed_blocks == 0):
            features: torch.Tensor = self.blocks[: self.fixed_blocks](self.stem(image))
        return features

    def _later_blocks(self, features: torch.Tensor, end: int) -> torch.Tensor:
        later: torch.Tensor = self.blocks[self.fixed_blocks : end](features)
        return later


class InvertedResidual(nn.Module):
    """Widen, convolve each channel, narrow again; added to the input where the shapes allow."""

    def __init__(self, width: int, inner: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.expand = _conv(width, inner, 1)
        self.depthwise = _conv(inner, inner, kernel, stride, groups=inner)
        self.project = _conv(inner, out, 1)
        self.activation = nn.ReLU6()
        self.residual = stride == 1 and width == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(self.activation(self.depthwise(self.activation(self.expand(x)))))
        return x + y if self.residual else y


def load(engine: str = "blazepose_full") -> BlazePoseEncoder:
    """The encoder with BlazePose's own weights. Raises InputError where the file is missing or another network."""
    spec = load_spec(find_spec(engine))
    path = find_weights(spec.weights, spec.path)
    check_hash(path, spec.weights.sha256)
    encoder = BlazePoseEncoder()
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    stored = list(_stored_convolutions(path))
    if len(stored) != len(convolutions):
        raise InputError(
            f"{path} has {len(stored)} convolutions before its first MaxPool, expected {len(convolutions)}: "
            "this is not BlazePose full."
        )
    with torch.no_grad():
        for number, (module, (weight, bias)) in enumerate(zip(convolutions, stored, strict=True)):
            if weight.size != module.weight.numel() or bias.size != module.out_channels:
                raise InputError(
                    f"{path}: convolution {number} has weights {list(weight.shape)}, expected "
                    f"{list(module.weight.shape)}: this is not BlazePose full."
                )
            module.weight.copy_(torch.from_numpy(weight.reshape(module.weight.shape)))
            module.bias.copy_(torch.from_numpy(bias.ravel()))
    return encoder


def _stored_convolutions(path: Path) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Weight and bias of each convolution between the input and the first MaxPool, in the order of computation.

    The graph is followed backwards along first inputs: those of the residual additions are the convolved branch.
    """
    import openvino as ov

    core = ov.Core()
    model = core.read_model(path)
    pools = [op for op in model.get_ordered_ops() if op.get_type_name() == "MaxPool"]
    if not pools:
        raise InputError(f"{path} has no MaxPool, where the encoder of BlazePose full ends.")
    node = pools[0].input_value(0).get_node()
    outputs = []
    bias = None
    while node.get_type_name() != "Parameter":
        if node.get_type_name() == "Add" and "Convolution" in node.input_value(0).get_node().get_type_name():
            bias = node.input_value(1)
        if "Convolution" in node.get_type_name():
            if bias is None:
                raise InputError(f"{path}: a convolution without bias, which BlazePose full does not have.")
            outputs += [bias, node.input_value(1)]
            bias = None
        node = node.input_value(0).get_node()
    # Weights are stored in half precision, transposed: the runtime unpacks them.
    values = core.compile_model(ov.Model(outputs, []), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])
    arrays = [np.array(values[i], np.float32) for i in range(len(outputs))][::-1]
    yield from zip(arrays[::2], arrays[1::2], strict=True)


def _conv(width: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width, out, kernel, stride, padding=kernel // 2, groups=groups)
