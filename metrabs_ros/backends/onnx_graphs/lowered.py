"""A float32 ONNX in half precision, but for what reads the heatmaps.

Soft-argmax sums thousands of small numbers, and joints are differences of such sums: from each softmax on everything
stays float32.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from metrabs_ros.errors import InputError

# Where a distribution over the heatmap begins, alone or written out.
_HEATMAP_READERS = ("Softmax", "LogSoftmax", "Exp")


def lowered(path: Path, precision: str) -> bytes:
    """The ONNX at ``path`` with weights and convolutions in "fp16" or "bf16"; inputs and outputs stay float32.

    Raises InputError for what is no ONNX.
    """
    model = folded(path)
    model = convert_float_to_float16(model, keep_io_types=True, node_block_list=sorted(decoding_nodes(model)))
    _drop_repeated(model.graph)
    if precision == "bf16":
        _halves_to_bfloat16(model)
    return model.SerializeToString()


def folded(path: Path) -> onnx.ModelProto:
    """The network with constants folded, weights stored as float16 and cast, for one, become float32."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory(prefix="metrabs_ros-") as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        try:
            ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            return onnx.load(options.optimized_model_filepath)
        except Exception as error:  # ONNX Runtime's exception types have no public common base
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise InputError(
                f"ONNX Runtime cannot read {path}: {lines[0] if lines else type(error).__name__} Fetch or export it "
                "again."
            ) from error


def with_decoding(content: bytes) -> tuple[bytes, list[str]]:
    """An ONNX in which all nodes have names, and those of ``decoding_nodes``."""
    model = onnx.load_from_string(content)
    names = sorted(decoding_nodes(model))
    return model.SerializeToString(), names


def decoding_nodes(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes from each softmax to the outputs. Names are given to nodes that have none."""
    nodes = model.graph.node
    for i, node in enumerate(nodes):
        node.name = node.name or f"{node.op_type}_{i}"
    reached: set[str] = set()
    tensors: set[str] = set()
    for node in nodes:  # ONNX stores nodes in the order of execution
        if node.op_type in _HEATMAP_READERS or tensors & set(node.input):
            reached.add(node.name)
            tensors.update(node.output)
    return reached


def _drop_repeated(graph: onnx.GraphProto) -> None:
    """Later versions of ONNX Runtime's converter cast what several nodes read once for each of them, under one name."""
    made: set[str] = set()
    kept = []
    for node in graph.node:
        if not made.issuperset(node.output):
            kept.append(node)
        made.update(node.output)
    graph.ClearField("node")
    graph.node.extend(kept)


def _halves_to_bfloat16(model: onnx.ModelProto) -> None:
    """float16 holds what bfloat16 does but for its range, which weights and features do not need."""
    graph = model.graph
    for weights in graph.initializer:
        if weights.data_type == TensorProto.FLOAT16:
            weights.CopyFrom(_as_bfloat16(weights))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.BFLOAT16
            if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT16:
                attribute.t.CopyFrom(_as_bfloat16(attribute.t))
    for value in [*graph.value_info, *graph.input, *graph.output]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.BFLOAT16


def _as_bfloat16(tensor: onnx.TensorProto) -> onnx.TensorProto:
    bits = numpy_helper.to_array(tensor).astype(np.float32).view(np.uint32)
    nearest_even = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    content = nearest_even.astype(np.uint16).tobytes()
    return helper.make_tensor(tensor.name, TensorProto.BFLOAT16, tensor.dims, content, raw=True)
