"""A small pose network with random weights as ONNX, its spec, and what it computes, in numpy."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

SIZE = 16
JOINTS = ("head", "left_hand", "right_hand", "left_foot", "right_foot")
# Like BlazePose, the network has more rows than there are joints.
ROWS = len(JOINTS) + 2
_CHANNELS = 4
_CELLS = SIZE // 2

SPEC: dict[str, Any] = {
    "name": "small",
    "kind": "pose",
    "description": "A network of a test.",
    "licence": "Apache-2.0",
    "weights": {"file": "small.onnx", "sha256": "0" * 64},
    "input": {"tensor": "image", "size": SIZE, "layout": "NCHW"},
    "outputs": {
        "coords2d": {"tensor": "landmarks", "columns": 4, "take": [0, 1], "unit": "px", "offset": -0.5},
        "confidence": {"tensor": "landmarks", "columns": 4, "take": [3], "activation": "sigmoid"},
        "coords3d_rel": {"tensor": "world", "columns": 3, "take": [0, 1, 2], "unit": "m"},
        "person_score": {"tensor": "score", "activation": "sigmoid"},
    },
    "joints": list(JOINTS),
    "edges": [["head", "left_hand"], ["head", "right_hand"], ["head", "left_foot"], ["head", "right_foot"]],
}


def spec_with(**changes: Any) -> dict[str, Any]:
    """SPEC with some keys replaced; ``section__key`` replaces one key of a section, None removes a key."""
    spec = copy.deepcopy(SPEC)
    for path, value in changes.items():
        *sections, key = path.split("__")
        place = spec
        for section in sections:
            place = place[section]
        if value is None:
            place.pop(key)
        else:
            place[key] = value
    return spec


def write_spec(folder: Path, spec: dict[str, Any], network: bytes | None = None) -> Path:
    """The spec as a file; with a network, that too, and its hash in the spec."""
    if network is not None:
        (folder / spec["weights"]["file"]).write_bytes(network)
        spec["weights"]["sha256"] = hashlib.sha256(network).hexdigest()
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def pose_network(layout: str = "NCHW", batch: int | str = "N", inputs: int = 1) -> bytes:
    """Convolution, ReLU and one linear layer a head, as ONNX."""
    shape = [batch, SIZE, SIZE, 3] if layout == "NHWC" else [batch, 3, SIZE, SIZE]
    source = "image"
    nodes = []
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]))
        source = "planes"
    nodes += [
        helper.make_node("Conv", [source, "kernel"], ["features"], strides=[2, 2], pads=[0, 0, 1, 1]),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("Flatten", ["positive"], ["flat"]),
    ]
    nodes += [helper.make_node("Gemm", ["flat", f"{head}_weight", f"{head}_bias"], [head]) for head in _HEADS]
    ends = [helper.make_tensor_value_info(head, TensorProto.FLOAT, [batch, size]) for head, size in _HEADS.items()]
    starts = [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)]
    if inputs == 2:
        starts.append(helper.make_tensor_value_info("intrinsics", TensorProto.FLOAT, [3, 3]))
        ends.append(helper.make_tensor_value_info("K", TensorProto.FLOAT, [3, 3]))
        nodes.append(helper.make_node("Identity", ["intrinsics"], ["K"]))
    weights = [numpy_helper.from_array(value, name) for name, value in _weights().items()]
    graph = helper.make_graph(nodes, "small", starts, ends, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def computed(crops: np.ndarray, mean: Any = 0.0, std: Any = 1.0) -> dict[str, np.ndarray]:
    """What the network says of crops [N,S,S,3]: tensor name -> [N,numbers]."""
    weights = _weights()
    x = np.pad((crops - np.array(mean)) / np.array(std), ((0, 0), (0, 1), (0, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2]
    features = np.maximum(np.einsum("nyxcij,ocij->noyx", windows, weights["kernel"].astype(np.float64)), 0)
    flat = features.reshape(len(crops), -1)
    return {head: flat @ weights[f"{head}_weight"] + weights[f"{head}_bias"] for head in _HEADS}


_HEADS = {"landmarks": ROWS * 4, "world": ROWS * 3, "score": 1}


def _weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    weights = {"kernel": rng.normal(0, 0.5, (_CHANNELS, 3, 3, 3)).astype(np.float32)}
    for head, size in _HEADS.items():
        weights[f"{head}_weight"] = rng.normal(0, 0.05, (_CHANNELS * _CELLS**2, size)).astype(np.float32)
        weights[f"{head}_bias"] = rng.normal(0, 1, size).astype(np.float32)
    return weights
