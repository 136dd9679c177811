"""The paper's backbones and their successors: timm's networks without their classifiers, restrided.

[N,3,S,S] float32 RGB in 0..1 -> [N,channels,S/stride,S/stride].
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from metrabs_ros.errors import InputError
from metrabs_ros.strict import nearest
from training.model import blazepose_encoder, blazepose_tower
from training.model.blazepose_encoder import VARIANTS, BlazePoseEncoder
from training.model.blazepose_tower import BlazePoseTower
from training.model.surgery import restride

# Name -> timm's name. The variants are those with symmetric padding, not TensorFlow's.
TIMM_NAMES = {
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "resnet101": "resnet101",
    "resnet152": "resnet152",
    "efficientnetv2_s": "efficientnetv2_s",
    "efficientnetv2_m": "efficientnetv2_m",
    "efficientnetv2_l": "efficientnetv2_l",
    "mobilenetv3_small": "mobilenetv3_small_100",
    "mobilenetv3_large": "mobilenetv3_large_100",
    "efficientnet_lite0": "efficientnet_lite0",
}
# BlazePose heavy to the end of its maps: two of them, so heads must fuse them (metrabs.MetrabsConfig).
TOWER = "blazepose_tower"
NAMES = (*VARIANTS, TOWER, *TIMM_NAMES)
# Behind the name of a BlazePose network: without BlazePose's weights.
UNTRAINED = "_random"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class TimmBackbone(nn.Module):
    """A timm network's features, fed with ImageNet-normalised pixels."""

    native_stride = 32

    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.network = network
        self.channels = channels
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.network.forward_features((image - self.mean) / self.std)
        return features


def build(name: str, stride: int = 32, centred: bool = True, weights: str | Path | None = None) -> Any:
    """A backbone by name. weights: a state dict's file (.pth, .safetensors), for BlazePose's tower what
    checkpoint.averaged reads; BlazePose brings its own.

    Raises InputError for an unknown name or weights that do not fit.
    """
    if name in VARIANTS:
        return restride(blazepose_encoder.load(VARIANTS[name]), stride, centred)
    if name.removesuffix(UNTRAINED) in VARIANTS:
        return restride(BlazePoseEncoder(VARIANTS[name.removesuffix(UNTRAINED)]), stride, centred)
    if name == TOWER:
        return blazepose_tower.load() if weights is None else blazepose_tower.trained(Path(weights))
    if name == TOWER + UNTRAINED:
        return BlazePoseTower()
    if name not in TIMM_NAMES:
        raise InputError(f"There is no backbone named {name!r}{nearest(name, NAMES)}.")
    network = _timm().create_model(TIMM_NAMES[name], num_classes=0, global_pool="")
    _drop_layers_after_features(network)
    if weights is not None:
        load_in_order(network, Path(weights))
    channels = _channels(network)
    return TimmBackbone(restride(network, stride, centred), channels)


def load_in_order(network: nn.Module, path: Path) -> None:
    """ImageNet weights from a file whose names may differ (geffnet's, torchvision's) but whose order does not.

    Classifier weights at the file's end are left out. Raises InputError where a shape does not fit.
    """
    if not path.is_file():
        raise InputError(f"There are no backbone weights at {path}: give the path of an existing state dict.")
    stored = _read_state(path)
    own = network.state_dict()
    if set(own) <= set(stored):
        network.load_state_dict({name: stored[name] for name in own})
        return
    values = [value for name, value in stored.items() if not name.endswith("num_batches_tracked")]
    names = [name for name in own if not name.endswith("num_batches_tracked")]
    for name, value in zip(names, values, strict=False):
        if own[name].shape != value.shape:
            raise InputError(
                f"{path}: expected {list(own[name].shape)} for {name}, got {list(value.shape)}: "
                "these are another network's weights."
            )
    if len(values) < len(names):
        raise InputError(f"{path} holds {len(values)} tensors, expected at least {len(names)}.")
    network.load_state_dict(dict(zip(names, values, strict=False)), strict=False)


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _drop_layers_after_features(network: nn.Module) -> None:
    """Layers that forward_features does not use would be strided stages or parameters without gradients."""
    for name in ("fc", "classifier", "global_pool", "conv_head", "norm_head", "act2"):
        used = name == "conv_head" and hasattr(network, "bn2")
        if hasattr(network, name) and not used and not (name == "act2" and hasattr(network, "bn2")):
            setattr(network, name, nn.Identity())


@torch.no_grad()
def _channels(network: nn.Module) -> int:
    network.eval()
    channels = network.forward_features(torch.zeros(1, 3, 64, 64)).shape[1]
    network.train()
    return int(channels)


def _timm() -> ModuleType:
    """timm, which imports torchvision; of that only Python code is used.

    PyPI's torchvision beside a CPU-only torch cannot load its compiled operators, and fails on import for want of the
    two that it describes to torch: their declaration is all it misses.
    """
    for operator in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):
            torch.library.define(
                f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
    import timm

    return timm
