"""Networks in half precision: near float32, and decoding in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from engines_for_tests import small_spec
from networks_for_tests import SIZE, computed
from onnxruntime.transformers.float16 import convert_float_to_float16

from metrabs_ros.backends.onnx_graphs.lowered import decoding_nodes, folded, lowered, with_decoding
from metrabs_ros.build_engine import network_in, open_in_precision
from metrabs_ros.engine import open_engine
from metrabs_ros.model_spec import find_spec, load_spec
from metrabs_ros.parity import check, differences
from metrabs_ros.reference_people import crops_for_measuring
from metrabs_ros.weights import find_weights

pytestmark = pytest.mark.usefixtures("cache")


def test_the_lowered_network_is_near_float32_and_decodes_in_it() -> None:
    spec = load_spec(find_spec("metrabs_base"))
    crops = crops_for_measuring(spec.input.size)
    reference, lowered = open_engine(spec, "onnxruntime"), open_in_precision(spec, "onnxruntime", "fp16")
    found = differences(reference.infer(crops), lowered.infer(crops))
    reference.close()
    lowered.close()
    check(found, "fp16", "fp16 on the CPU")
    assert found[0].mean > 0.01, "nothing was lowered"
    model = onnx.load_from_string(network_in(spec, find_weights(spec.weights, spec.path), "fp16"))
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    soft = [node for node in model.graph.node if node.op_type == "Softmax"]
    assert len(soft) == 2
    assert {types[name] for node in soft for name in (*node.input, *node.output)} == {onnx.TensorProto.FLOAT}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert {types[node.output[0]] for node in convolutions} == {onnx.TensorProto.FLOAT16}


def test_what_later_versions_of_onnx_runtime_cast_twice_is_cast_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime 1.30 does; here its converter is this version's, with every cast repeated."""

    def repeating(model: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
        converted = convert_float_to_float16(model, **options)
        converted.graph.node.extend([node for node in converted.graph.node if node.op_type == "Cast"])
        return converted

    path = find_weights(small_spec(tmp_path).weights, tmp_path / "small.yaml")
    expected = onnx.load_from_string(lowered(path, "fp16"))
    monkeypatch.setattr("metrabs_ros.backends.onnx_graphs.lowered.convert_float_to_float16", repeating)
    once = onnx.load_from_string(lowered(path, "fp16"))
    assert list(once.graph.node) == list(expected.graph.node)
    assert any(node.op_type == "Cast" for node in once.graph.node)


def test_decoding_is_what_follows_a_softmax() -> None:
    spec = load_spec(find_spec("metrabs_base"))
    model = folded(find_weights(spec.weights, spec.path))
    names = decoding_nodes(model)
    kinds = {node.op_type for node in model.graph.node if node.name in names}
    assert {"Softmax", "MatMul", "Sqrt"} <= kinds
    assert "Conv" not in kinds
    content, again = with_decoding(model.SerializeToString())
    assert set(again) == names
    assert names <= {node.name for node in onnx.load_from_string(content).graph.node}


def test_bfloat16_weights_are_rounded_halves(tmp_path: Path) -> None:
    onnx_file = tmp_path / "small.onnx"
    spec = small_spec(tmp_path)
    model = onnx.load_from_string(network_in(spec, onnx_file, "bf16"))
    kernel = next(each for each in model.graph.initializer if each.data_type == onnx.TensorProto.BFLOAT16)
    exact = next(each for each in onnx.load(onnx_file).graph.initializer if list(each.dims) == list(kernel.dims))
    weights = onnx.numpy_helper.to_array(exact)
    bits = np.frombuffer(kernel.raw_data, np.uint16).astype(np.uint32) << 16
    rounded = bits.view(np.float32).reshape(weights.shape)
    np.testing.assert_allclose(rounded, weights, rtol=2**-8)
    assert (rounded != weights).any()


def test_a_lowered_network_computes_what_the_network_does(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    session = ort.InferenceSession(network_in(spec, tmp_path / "small.onnx", "fp16"))
    crops = np.random.default_rng(0).random((2, SIZE, SIZE, 3)).astype(np.float32)
    names = [output.name for output in session.get_outputs()]
    got = dict(zip(names, session.run(names, {"image": crops.transpose(0, 3, 1, 2)}), strict=True))
    for name, values in computed(crops).items():
        np.testing.assert_allclose(got[name], values, atol=0.02)
