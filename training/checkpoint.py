"""Checkpoints that a run resumes from exactly: safetensors for tensors, JSON for the rest, a folder each.

A checkpoint is written beside its place and renamed into it, so that one that exists is whole.
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from metrabs_ros.errors import InputError

Tensors = dict[str, torch.Tensor]

_PREFIX = "step-"
# Ends the name of a tensor that an engine stores in float16.
HALF = "_half"


@dataclass(frozen=True)
class Checkpoint:
    """What training was at ``step``: after so many updates, with so many batches of the stream consumed by each
    process; facts: whatever else shall be read back (config, network, errors), JSON."""

    step: int
    batches: int
    model: Tensors
    ema: Tensors
    optimizer: Tensors
    rng: Tensors
    facts: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write ``folder``/step-NNNNNNN and delete all but the newest ``keep``."""
    place = folder / f"{_PREFIX}{checkpoint.step:07d}"
    draft = folder / f".{place.name}.part"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name in ("model", "ema", "optimizer", "rng"):
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in getattr(checkpoint, name).items()}
        save_file(tensors, draft / f"{name}.safetensors")
    about = {"step": checkpoint.step, "batches": checkpoint.batches, "facts": checkpoint.facts}
    (draft / "state.json").write_text(json.dumps(about, indent=1, sort_keys=True), encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    draft.rename(place)
    for old in steps(folder)[:-keep]:
        shutil.rmtree(old)
    return place


def steps(folder: Path) -> list[Path]:
    """The checkpoints in a run's folder, oldest first."""
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if (path / "state.json").is_file())


def latest(folder: Path) -> Path | None:
    found = steps(folder)
    return found[-1] if found else None


def found(place: Path) -> Path:
    """A checkpoint's folder as it is, of a run's the latest. Raises InputError where there is none."""
    checkpoint = place if (place / "state.json").is_file() else latest(place)
    if checkpoint is None:
        raise InputError(
            f"There is no checkpoint in {place}: train first, or give a run's folder or one of its step-NNNNNNN."
        )
    return checkpoint


def load(place: Path) -> Checkpoint:
    """Raises InputError where files of the checkpoint are missing or damaged."""
    try:
        about = json.loads((place / "state.json").read_text(encoding="utf-8"))
        tensors = {name: load_file(place / f"{name}.safetensors") for name in ("model", "ema", "optimizer", "rng")}
        return Checkpoint(about["step"], about["batches"], **tensors, facts=about["facts"])
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise InputError(
            f"The checkpoint {place} cannot be read ({error}): delete it to resume from the one before."
        ) from error


def save_averaged(place: Path, target: Path, only: str = "") -> None:
    """The averaged weights of a checkpoint, in float16, as one file for other runs to start from; those whose names
    begin with ``only``."""
    averaged = {name: value for name, value in load(place).ema.items() if name.startswith(only)}
    half = {name: value.half() if value.dtype == torch.float32 else value for name, value in averaged.items()}
    part = target.with_suffix(".part")
    save_file(half, part)
    part.replace(target)


def averaged(place: Path) -> Tensors:
    """The averaged weights, float32, of a checkpoint's folder, of a file by save_averaged, or of an engine that
    training.export made (.onnx). Raises InputError."""
    if place.is_dir():
        return load(place).ema
    try:
        if place.suffix == ".onnx":
            return of_engine(onnx.load(str(place)))
        return {name: value.float() if value.is_floating_point() else value for name, value in load_file(place).items()}
    except (OSError, SafetensorError, DecodeError) as error:
        raise InputError(f"The weights {place} cannot be read ({error}): give a checkpoint or its weights.") from error


def between(first: Tensors, second: Tensors, part: float) -> Tensors:
    """Weights ``part`` of the way from the first to the second: what a network knew before it was trained on is part of
    the mixture (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). Raises InputError where they are not
    of one network."""
    if not 0 <= part <= 1:
        raise InputError(f"Weights can be mixed by a part of 0 to 1, got {part}.")
    if {name: value.shape for name, value in first.items()} != {name: value.shape for name, value in second.items()}:
        raise InputError("Weights of two different networks cannot be mixed: give one that this run began with.")
    return {
        name: value.lerp(second[name].to(value), part) if value.is_floating_point() else value
        for name, value in first.items()
    }


def begin_with(network: nn.Module, place: Path) -> None:
    """Give a network the averaged weights of ``place`` that fit by name and shape. Raises InputError without any."""
    own = network.state_dict()
    fitting = {name: value for name, value in averaged(place).items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise InputError(f"Nothing in {place} fits this network: give weights of its own kind.")
    network.load_state_dict(fitting, strict=False)


def of_engine(model: onnx.ModelProto) -> Tensors:
    """What training.export stored under the network's own names, whether halved or not, float32."""
    stored = model.graph.initializer
    names = [tensor.name.removesuffix(HALF) for tensor in stored]
    return {
        name.removeprefix("network."): torch.from_numpy(onnx.numpy_helper.to_array(tensor).astype(np.float32))
        for name, tensor in zip(names, stored, strict=True)
        if name.startswith("network.")
    }


def random_state() -> Tensors:
    """The generators of Python and torch, as tensors; nothing draws from NumPy's global one."""
    version, words, gauss = random.getstate()
    tensors = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "python_rest": torch.tensor([version, gauss is not None], dtype=torch.int64),
        "python_gauss": torch.tensor([gauss or 0.0], dtype=torch.float64),
    }
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    return tensors


def set_random_state(tensors: Tensors) -> None:
    version, has_gauss = tensors["python_rest"].tolist()
    gauss = float(tensors["python_gauss"][0]) if has_gauss else None
    random.setstate((version, tuple(tensors["python"].tolist()), gauss))
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])


def seed_everything(seed: int, rank: int) -> None:
    """The generators of Python and torch, different in every process."""
    own = seed * 1009 + rank
    random.seed(own)
    torch.manual_seed(own)


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> Tensors:
    """An optimizer's state by "parameter name/key"; names: id of each parameter -> its name."""
    return {
        f"{names[id(parameter)]}/{key}": torch.as_tensor(value)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def set_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Tensors, parameters: dict[str, Any]) -> None:
    """The inverse; parameters: name -> parameter."""
    for name_and_key, value in tensors.items():
        name, _, key = name_and_key.rpartition("/")
        parameter = parameters[name]
        # Adam keeps its step count on the CPU.
        device = "cpu" if key == "step" else parameter.device
        optimizer.state[parameter][key] = value.to(device)
