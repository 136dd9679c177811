"""BlazePose's encoders (Apache-2.0, MediaPipe) as trainable torch modules, their weights read out of the .tflite files.

Inverted-residual networks from 256×256 RGB in 0..1 to a 288×8×8 map. Batch norms are folded into the convolutions, so
there is none to freeze. All padding is symmetric: cell i of a map of stride s is centred at pixel i·s, and
surgery.restride applies.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from metrabs_ros.engine import check_hash
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import find_spec, load_spec
from metrabs_ros.weights import find_weights

CHANNELS = 288
# Weight and bias of convolutions, one after the other.
Weights = list[tuple[NDArray[np.float32], NDArray[np.float32]]]
_COLOURS = 3


@dataclass(frozen=True)
class Variant:
    """engine: whose file holds the weights; stem: the stem's last channels; blocks: channels inside and out of each
    block, kernel, stride (stride 1 with the channels kept is residual); tail: channels inside the tail."""

    engine: str
    stem: int
    blocks: tuple[tuple[int, int, int, int], ...]
    tail: int

    def tap(self, stride: int) -> tuple[int, int]:
        """How many blocks lead to the last map of a ``stride`` (4, 8 or 16), and its channels."""
        reached = 2
        for number, (_, _, _, step) in enumerate(self.blocks):
            if step == 2 and reached == stride:
                return number, self.blocks[number - 1][1]
            reached *= step
        raise InputError(f"BlazePose's encoder has maps of stride 4, 8 and 16 to tap, got {stride}.")


FULL = Variant(
    "blazepose_full",
    16,
    (
        *((64, 24, 3, 2), (144, 24, 3, 1)),
        *((144, 32, 5, 2), (192, 32, 5, 1)),
        *((192, 64, 3, 2), *[(384, 64, 3, 1)] * 2, (384, 88, 5, 1), *[(528, 88, 5, 1)] * 2),
        *((528, 144, 5, 2), *[(864, 144, 5, 1)] * 3),
    ),
    864,
)
HEAVY = Variant(
    "blazepose_heavy",
    24,
    (
        *((96, 32, 3, 2), (128, 32, 3, 1), *[(192, 32, 3, 1)] * 2),
        *((192, 56, 5, 2), *[(336, 56, 5, 1)] * 3),
        *((336, 112, 3, 2), *[(672, 112, 3, 1)] * 5, (672, 160, 5, 1), *[(960, 160, 5, 1)] * 5),
        *((960, 272, 5, 2), *[(1632, 272, 5, 1)] * 7),
    ),
    1632,
)
VARIANTS = {"blazepose": FULL, "blazepose_heavy": HEAVY}


class BlazePoseEncoder(nn.Module):
    """[N,3,S,S] float32 RGB in 0..1, or the map that the fixed blocks make of it -> [N,288,S/32,S/32].

    Random weights; see ``load``.
    """

    channels = CHANNELS
    native_stride = 32

    def __init__(self, variant: Variant = FULL) -> None:
        super().__init__()
        self.variant = variant
        self.stem = nn.Sequential(
            _conv(3, 24, 3, stride=2), nn.ReLU6(), _conv(24, 24, 3, groups=24), nn.ReLU6(), _conv(24, variant.stem, 1)
        )
        blocks, width = [], variant.stem
        for inner, out, kernel, stride in variant.blocks:
            blocks.append(InvertedResidual(width, inner, out, kernel, stride))
            width = out
        self.blocks = nn.Sequential(*blocks)
        self.fixed_blocks = 0
        self.tail = nn.Sequential(
            _conv(width, variant.tail, 1),
            nn.ReLU6(),
            _conv(variant.tail, variant.tail, 3, groups=variant.tail),
            nn.ReLU6(),
            _conv(variant.tail, variant.tail, 3, groups=variant.tail),
            nn.ReLU6(),
            _conv(variant.tail, CHANNELS, 1),
            nn.ReLU6(),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.between(self.fixed_part(image), self.fixed_blocks, len(self.blocks) + 1)

    def with_tap(self, image: torch.Tensor, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The final map, and the last one of an earlier ``stride``: see Variant.tap."""
        count, _ = self.variant.tap(stride)
        early = self.between(self.fixed_part(image), self.fixed_blocks, count)
        return self.between(early, count, len(self.blocks) + 1), early

    def fix_first_blocks(self, count: int) -> None:
        """The stem and so many blocks stay as they are: most of a step's time. One more than there are: the tail, too.

        Raises InputError for a larger count.
        """
        most = len(self.blocks) + 1
        if not 0 <= count <= most:
            raise InputError(f"Of this encoder's blocks 0 to {most}, the tail included, can be fixed, got {count}.")
        self.fixed_blocks = count
        train_from_block(self, count)
        if count == most:
            self.tail.requires_grad_(False)

    def fixed_part(self, image: torch.Tensor) -> torch.Tensor:
        """What the stem and the fixed blocks make of images; their map, stored before, is passed on."""
        if self.fixed_blocks and image.shape[1] != _COLOURS:
            return image
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.fixed_blocks == 0):
            return self.between(self.stem(image), 0, self.fixed_blocks)

    def between(self, features: torch.Tensor, first: int, end: int) -> torch.Tensor:
        """Through blocks first..end-1, and the tail where ``end`` is one more than there are blocks."""
        features = self.blocks[first:end](features)
        through_tail = first <= len(self.blocks) < end
        return self.tail(features) if through_tail else features


def train_from_block(network: Any, first: int) -> None:
    """Everything is trained but, where ``first`` is not 0, the stem and the blocks before that one."""
    network.requires_grad_(True)
    network.stem.requires_grad_(first == 0)
    network.blocks[:first].requires_grad_(False)


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


def load(variant: Variant = FULL) -> BlazePoseEncoder:
    """The encoder with BlazePose's own weights. Raises InputError where the file is missing or another network."""
    path = file_of(variant.engine)
    encoder = BlazePoseEncoder(variant)
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    stored = _stored_convolutions(path, variant)
    if len(stored) != len(convolutions):
        raise InputError(
            f"{path} has {len(stored)} convolutions before its {CHANNELS}×8×8 map, expected {len(convolutions)}: "
            f"this is not {variant.engine}."
        )
    fill(convolutions, stored, path, variant.engine)
    return encoder


def file_of(engine: str) -> Path:
    """The engine's weights, their hash checked."""
    spec = load_spec(find_spec(engine))
    path = find_weights(spec.weights, spec.path)
    check_hash(path, spec.weights.sha256)
    return path


@torch.no_grad()
def fill(
    convolutions: list[nn.Conv2d],
    stored: Weights,
    path: Path,
    engine: str,
) -> None:
    """Weights and biases of a file put into convolutions, one after the other. Raises InputError where one is of
    another size."""
    for number, (module, (weight, bias)) in enumerate(zip(convolutions, stored, strict=True)):
        if weight.size != module.weight.numel() or bias.size != module.out_channels:
            raise InputError(
                f"{path}: convolution {number} has weights {list(weight.shape)}, expected "
                f"{list(module.weight.shape)}: this is not {engine}."
            )
        module.weight.copy_(torch.from_numpy(weight.reshape(module.weight.shape)))
        assert module.bias is not None
        module.bias.copy_(torch.from_numpy(bias.ravel()))


def bias_of(convolution: Any) -> Any:
    """The port of what is added behind a convolution."""
    addition = next(iter(convolution.output(0).get_target_inputs())).get_node()
    ports = [port for port in addition.input_values() if port.get_node().get_name() != convolution.get_name()]
    return ports[0]


def unpacked(ports: list[Any]) -> Weights:
    """The constants at weight, bias, weight, ...: stored in half precision, transposed, so that the runtime unpacks
    them."""
    import openvino as ov

    values = ov.Core().compile_model(ov.Model(ports, []), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])
    arrays = [np.array(values[i], np.float32) for i in range(len(ports))]
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def _stored_convolutions(path: Path, variant: Variant) -> Weights:
    """Weight and bias of each convolution between the input and the encoder's last, in the order of computation.

    The graph is followed backwards along first inputs: those of the residual additions are the convolved branch.
    """
    import openvino as ov

    core = ov.Core()
    model = core.read_model(path)
    ends = [op for op in model.get_ordered_ops() if _is_last_of_encoder(op, variant)]
    if len(ends) != 1:
        raise InputError(
            f"{path} has {len(ends)} convolutions of {variant.tail} to {CHANNELS} channels at 8×8, expected one: "
            f"this is not {variant.engine}."
        )
    # The bias is added behind the convolution.
    node = next(iter(ends[0].output(0).get_target_inputs())).get_node()
    outputs: list[Any] = []
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
    return unpacked(outputs[::-1])


def _is_last_of_encoder(op: Any, variant: Variant) -> bool:
    if op.get_type_name() != "Convolution":
        return False
    shapes = [list(port.get_partial_shape().to_shape()) for port in (op.input(0), op.output(0))]
    return shapes == [[1, variant.tail, 8, 8], [1, CHANNELS, 8, 8]]


class StridedDepthwise(nn.Conv2d):
    """A strided convolution of each channel, which a CPU computes in float32 under autocast as well: its backward pass
    takes six times as long in bfloat16."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


def _conv(width: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    kind = StridedDepthwise if groups > 1 and stride > 1 else nn.Conv2d
    return kind(width, out, kernel, stride, padding=kernel // 2, groups=groups)
