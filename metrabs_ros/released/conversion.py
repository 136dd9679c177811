"""A released model's directory to an engine: NAME.onnx and NAME.yaml, complete or not at all."""

from __future__ import annotations

import importlib.util
import re
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from metrabs_ros.errors import InputError
from metrabs_ros.joint_transform import encoded
from metrabs_ros.model_spec import DEFAULT_DETECTOR, load_spec
from metrabs_ros.released import directory
from metrabs_ros.released.directory import ReleasedModel, Selection
from metrabs_ros.skeleton import Skeleton
from metrabs_ros.weights import file_hash

if TYPE_CHECKING:
    from metrabs_ros.released.network import ReleasedNetwork

LICENCE = "non-commercial use only (weights released by the authors of MeTRAbs)"
OUTPUTS = ("coords2d", "coords3d_rel", "spread2d", "spread3d")
# TensorRT 8.6 takes it.
OPSET = 17
# What the authors' code does at test time, with no configuration of its own (ptu3d.py, multiperson_model.py): the
# middle of the range of gammas where there is one view, a part of the stride as border, a ridge of 0.01 whose measure
# is taken over a batch.
_ONE_VIEW_GAMMA = 0.8
_BORDER_STRIDES = 0.75
_RIDGE = 0.01
_BATCH = 64
# Joints of the released skeletons whose names mean the same as ours; others keep theirs.
_SIDES = {"l": "left", "r": "right"}
_ON_SIDES = {
    "hip": "hip", "kne": "knee", "ank": "ankle", "sho": "shoulder", "elb": "elbow", "wri": "wrist", "han": "hand",
    "eye": "eye", "ear": "ear",
}  # fmt: skip
_IN_THE_MIDDLE = {"pelv": "pelvis", "htop": "head_top"}


def convert(source: Path, folder: Path, name: str | None = None, skeleton: str = "") -> Path:
    """Write folder/NAME.onnx and folder/NAME.yaml of the model in ``source``; returns the spec's path.

    Raises InputError, and leaves nothing behind, where the directory is not a released model's, torch or onnx is
    missing, or the folder cannot be written.
    """
    name = name or re.sub(r"[^A-Za-z0-9_.-]+", "_", source.resolve().name)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise InputError(f"--name must be letters, digits, _, . and -, got {name!r}.")
    model = directory.read(source)
    selection = model.selected(skeleton)
    _require_packages()
    from metrabs_ros.released import checkpoint

    network = checkpoint.load(model)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as temporary:
            weights, spec = Path(temporary, f"{name}.onnx"), Path(temporary, f"{name}.yaml")
            write_onnx(network, weights)
            text = yaml.safe_dump(
                _spec(model, selection, weights, skeleton), sort_keys=False, default_flow_style=None, width=118
            )
            spec.write_text(text, encoding="utf-8")
            load_spec(spec)
            # The weights first: a spec without its weights is no engine, weights without a spec are no harm.
            weights.replace(folder / weights.name)
            spec.replace(folder / spec.name)
    except OSError as error:
        raise InputError(
            f"Cannot write to {folder}: {error.strerror or error}; make room or choose another folder (--output)."
        ) from error
    return folder / f"{name}.yaml"


def write_onnx(network: ReleasedNetwork, target: Path) -> None:
    """The network with a dynamic batch, soft-argmax included, everything in float32."""
    import onnx
    import torch

    side = network.config.side
    with warnings.catch_warnings():
        # Tracing warns about every shape it takes as constant: all but the batch are.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(1, side, side, 3),),
            str(target),
            opset_version=OPSET,
            dynamo=False,
            input_names=["image"],
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "batch"} for name in ("image", *OUTPUTS)},
        )
    onnx.checker.check_model(str(target), full_check=True)


def _spec(model: ReleasedModel, selection: Selection, weights: Path, skeleton: str) -> dict[str, Any]:
    config = model.config
    names = _our_names(selection.names)
    renamed = dict(zip(selection.names, names, strict=True))
    border = config.stride_train * _BORDER_STRIDES
    # Where striding is not centred, the authors' bounds lie half a stride further left and up.
    shift = 0.0 if config.centred else config.stride_train / 2
    spec = {
        "name": weights.stem,
        "kind": "pose",
        "description": (
            f"MeTRAbs as released by its authors for PyTorch: EfficientNetV2-{config.size.upper()}, {config.side} px, "
            f"{f'skeleton {skeleton}' if skeleton else 'all joints'}."
        ),
        "licence": LICENCE,
        "detector": DEFAULT_DETECTOR,
        "weights": {"file": weights.name, "sha256": file_hash(weights)},
        "input": {"tensor": "image", "size": config.side, "layout": "NHWC"},
        "crop": {
            "focal": "camera",
            "lens": "iterated",
            "resampling": "pyramid",
            "mirror_about": "principal_point",
            "gamma": _ONE_VIEW_GAMMA,
        },
        "outputs": {
            "coords2d": {"tensor": "coords2d", "columns": 2, "take": [0, 1], "unit": "px"},
            "coords3d_rel": {"tensor": "coords3d_rel", "columns": 3, "take": [0, 1, 2], "unit": "m"},
            "spread2d": {"tensor": "spread2d", "unit": "px"},
            "spread3d": {"tensor": "spread3d", "unit": "m"},
        },
        "reconstruction": {
            "perspective": "weak" if config.weak_perspective else "full",
            "border": border - shift,
            "border_far": border + shift,
            "inside": "crop",
            "mix_3d": config.mix_3d,
            "ridge": _RIDGE,
            "coupled_crops": _BATCH,
        },
        "trust_given_boxes": True,
        "joints": list(names),
        "edges": [[renamed[a], renamed[b]] for a, b in selection.edges],
    }
    if not _is_plain(model, selection, names):
        spec["joint_transform"] = {"mirror": list(model.mirror), "matrix": encoded(selection.weights)}
    return spec


def _is_plain(model: ReleasedModel, selection: Selection, names: tuple[str, ...]) -> bool:
    """Whether the joints are the network's own, and their names alone tell which mirror each other."""
    weights: NDArray[np.float32] = selection.weights
    if weights.shape[0] != weights.shape[1] or not np.array_equal(weights, np.eye(len(weights))):
        return False
    return Skeleton(names, ()).mirror.tolist() == list(model.mirror)


def _our_names(names: tuple[str, ...]) -> tuple[str, ...]:
    ours = tuple(_our_name(name) for name in names)
    return ours if len(set(ours)) == len(ours) else names


def _our_name(name: str) -> str:
    if name in _IN_THE_MIDDLE:
        return _IN_THE_MIDDLE[name]
    side, joint = _SIDES.get(name[:1]), _ON_SIDES.get(name[1:])
    return f"{side}_{joint}" if side and joint else name


def _require_packages() -> None:
    missing = [package for package in ("torch", "onnx") if importlib.util.find_spec(package) is None]
    if missing:
        raise InputError(
            f"Importing a released model needs {' and '.join(missing)}, once and on any machine: "
            f"`pip install {' '.join(missing)}`, or import it elsewhere and copy the two files."
        )
