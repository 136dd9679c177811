"""BlazePose heavy up to where it stops being a picture: encoder, heatmap decoder and regression tower.

BlazePose finds its landmarks in two passes. An encoder and a decoder as thin as 48 channels draw heatmaps at a quarter
of the picture's size; a second tower goes down again from the decoder's last map, joined by the encoder's maps on its
way, to the vector of landmarks. The encoder alone (blazepose_encoder) knows nothing of the heatmaps. This network ends
with the tower's maps of stride 16 and 32, which know both; what follows in the file turns them into landmarks. Weights
come out of the .tflite file, Apache-2.0; batch norms are folded in, all activations are ReLU6.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from metrabs_ros.errors import InputError
from training import checkpoint
from training.model import blazepose_encoder
from training.model.blazepose_encoder import HEAVY, BlazePoseEncoder, StridedDepthwise, Weights, bias_of, unpacked

_COLOURS = 3
_DECODED = 48
# Channels and residual blocks of the tower's maps at stride 8, 16 and 32.
_TOWER = ((96, 6), (192, 7), (288, 7))


class BlazePoseTower(nn.Module):
    """[N,3,S,S] float32 RGB in 0..1, or what ``stored`` makes of it -> maps [N,288,S/32,S/32] and [N,192,S/16,S/16].

    Random weights; see ``load``.

    Cell i of the map of stride s is centred at pixel i·s in the encoder, and half a cell farther in the tower.
    """

    channels, early_channels = _TOWER[2][0], _TOWER[1][0]

    def __init__(self) -> None:
        super().__init__()
        encoder = BlazePoseEncoder(HEAVY)
        self.stem, self.blocks = encoder.stem, encoder.blocks
        self.fixed_blocks = 0
        self.widened = nn.Sequential(*list(encoder.tail)[:4])
        self.lengths = tuple(HEAVY.tap(stride)[0] for stride in (4, 8, 16))
        widths = [HEAVY.tap(stride)[1] for stride in (4, 8, 16)] + [HEAVY.tail]
        self.to_decoder = nn.ModuleList(Lateral(width, _DECODED) for width in reversed(widths))
        self.down, self.residuals, self.to_tower = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        width = _DECODED
        for (out, count), lateral in zip(_TOWER, widths[1:], strict=True):
            self.down.append(Down(width, out))
            self.residuals.append(nn.Sequential(*(Residual(out) for _ in range(count))))
            self.to_tower.append(Lateral(lateral, out))
            width = out

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if image.shape[1] != _COLOURS:
            return image[:, : self.channels], functional.pixel_shuffle(image[:, self.channels :], 2)
        laterals = self.encoded(image)
        x = self.decoded(laterals)
        maps = []
        for down, residuals, to_tower, lateral in zip(
            self.down, self.residuals, self.to_tower, laterals[1:], strict=True
        ):
            x = residuals(down(x)) + to_tower(lateral)
            maps.append(x)
        return maps[2], maps[1]

    def fix_first_blocks(self, count: int) -> None:
        """The stem and so many of the encoder's blocks stay as they are. Raises InputError where there are fewer."""
        if not 0 <= count <= len(self.blocks):
            raise InputError(f"Of the tower's encoder's blocks 0 to {len(self.blocks)} can be fixed, got {count}.")
        self.fixed_blocks = count
        blazepose_encoder.train_from_block(self, count)

    def stored(self, image: torch.Tensor) -> torch.Tensor:
        """Both maps in one [N,1056,S/32,S/32], to be kept for heads that are trained alone."""
        deep, early = self(image)
        return torch.cat([deep, functional.pixel_unshuffle(early, 2)], 1)

    def encoded(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The encoder's maps of stride 4, 8, 16 and 32, the last one widened."""
        x, maps, first = self.stem(image), [], 0
        for end in (*self.lengths, len(self.blocks)):
            x = self.blocks[first:end](x)
            maps.append(x)
            first = end
        return [*maps[:3], self.widened(maps[3])]

    def decoded(self, laterals: list[torch.Tensor]) -> torch.Tensor:
        """[N,48,S/4,S/4] from which BlazePose reads its heatmaps by one 1×1 convolution."""
        x: torch.Tensor | None = None
        for lateral, to_decoder in zip(reversed(laterals), self.to_decoder, strict=True):
            fine = to_decoder(lateral)
            if x is not None:
                fine = fine + functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = fine
        assert x is not None
        return x

    def in_file_order(self) -> list[nn.Conv2d]:
        """The convolutions as BlazePose's file computes them."""
        parts: list[nn.Module] = [self.stem, self.blocks, self.widened, self.to_decoder]
        for level in zip(self.down, self.residuals, self.to_tower, strict=True):
            parts += level
        return [module for part in parts for module in part.modules() if isinstance(module, nn.Conv2d)]


class Lateral(nn.Sequential):
    """Each channel convolved, then mixed: how a map of the encoder joins the decoder or the tower."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__(
            nn.Conv2d(width, width, 3, padding=1, groups=width), nn.ReLU6(), nn.Conv2d(width, out, 1), nn.ReLU6()
        )


class Residual(nn.Module):
    """The input plus what a depthwise and a 1×1 convolution make of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.mixed = nn.Conv2d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu6(x + self.mixed(functional.relu6(self.depthwise(x))))


class Down(nn.Module):
    """Half the size, more channels: the largest of four, channels of zeros behind them, plus strided convolutions."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.more = out - width
        self.depthwise = StridedDepthwise(width, width, 3, stride=2, groups=width)
        self.mixed = nn.Conv2d(width, out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        convolved = self.mixed(functional.relu6(self.depthwise(functional.pad(x, (0, 1, 0, 1)))))
        largest = functional.pad(functional.max_pool2d(x, 2), (0, 0, 0, 0, 0, self.more))
        return functional.relu6(largest + convolved)


def load() -> BlazePoseTower:
    """With BlazePose heavy's own weights. Raises InputError where the file is missing or another network."""
    path = blazepose_encoder.file_of(HEAVY.engine)
    tower = BlazePoseTower()
    own = tower.in_file_order()
    blazepose_encoder.fill(own, _first_convolutions(str(path), len(own)), path, HEAVY.engine)
    return tower


def trained(place: Path) -> BlazePoseTower:
    """With the weights of a network trained here: a checkpoint, its weights, or the engine that was made of it.

    Raises InputError where the tower's are not among them.
    """
    tower = BlazePoseTower()
    given = {
        name.removeprefix("encoder."): value
        for name, value in checkpoint.averaged(place).items()
        if name.startswith("encoder.")
    }
    try:
        tower.load_state_dict(given)
    except RuntimeError as error:
        raise InputError(f"{place} does not hold BlazePose's tower: give a network on it. ({error})") from error
    return tower


def _first_convolutions(path: str, count: int) -> Weights:
    """Weight and bias of the file's first convolutions, in the order of computation."""
    import openvino as ov

    convolutions = [op for op in ov.Core().read_model(path).get_ordered_ops() if "Convolution" in op.get_type_name()]
    if len(convolutions) < count:
        raise InputError(f"{path} has {len(convolutions)} convolutions, expected {count}: this is not {HEAVY.engine}.")
    return unpacked([port for op in convolutions[:count] for port in (op.input_value(1), bias_of(op))])
