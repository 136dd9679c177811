"""ckpt.pt into the network: plain tensors only, each of the expected name, shape and kind."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from metrabs_ros.errors import InputError
from metrabs_ros.released.directory import CHECKPOINT, ReleasedModel
from metrabs_ros.released.network import ReleasedNetwork

# EfficientNetV2-L with a thousand joints takes 0.6 GB.
_MAX_BYTES = 2 << 30


def load(model: ReleasedModel) -> ReleasedNetwork:
    """The network with its released weights. Raises InputError where the file is not the model's."""
    path = model.path / CHECKPOINT
    state = _state(path)
    with torch.device("meta"):
        expected = ReleasedNetwork(model.config, len(model.joint_names))
    wanted = expected.state_dict()
    # Counts of training steps, which some files lack.
    given = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    weights = {name: value for name, value in wanted.items() if not name.endswith("num_batches_tracked")}
    missing, unknown = sorted(weights.keys() - given.keys()), sorted(given.keys() - weights.keys())
    if missing or unknown:
        lacks = f"lacks {missing[0]}" if missing else f"has {unknown[0]!r:.80}"
        raise InputError(
            f"{path} {lacks} ({len(missing)} missing, {len(unknown)} unknown tensors): expected the weights of "
            f"EfficientNetV2-{model.config.size.upper()} as config.yaml says."
        )
    for name, value in weights.items():
        got = given[name]
        if got.shape != value.shape or not got.dtype.is_floating_point or got.layout != torch.strided:
            raise InputError(
                f"{path}: {name} must hold numbers of shape {list(value.shape)}, got {list(got.shape)} of {got.dtype}: "
                "config.yaml, joint_info.npz and the weights are not of one model."
            )
        if not torch.isfinite(got).all():
            raise InputError(f"{path}: {name} holds numbers that are not finite: copy the model directory again.")
    network = ReleasedNetwork(model.config, len(model.joint_names))
    network.load_state_dict({name: value.float() for name, value in given.items()}, strict=False)
    return network.eval()


def _state(path: Path) -> dict[str, torch.Tensor]:
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise InputError(f"{path} is larger than {_MAX_BYTES >> 30} GiB, which no released model's weights are.")
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                # torch stores without compressing: what unpacks to more than the file was made to fill the memory.
                if sum(member.file_size for member in archive.infolist()) > size:
                    raise InputError(f"{path} unpacks to more than itself, which no weights do; nothing was run.")
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # torch.load raises whatever its parts do
        said = " ".join(str(error).split())
        raise InputError(
            f"{path} cannot be read as plain weights ({said[:120] or type(error).__name__}): it is damaged or holds "
            "more than tensors; nothing in it was run. Get the model from its authors."
        ) from None
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in loaded.items()
    ):
        raise InputError(f"{path} must hold tensors by name, got a {type(loaded).__name__} of other things.")
    return loaded
