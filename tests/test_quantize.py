"""INT8: which layers are chosen, and that what is quantised still computes the network and is read by TensorRT."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from networks_for_tests import SIZE, computed, pose_network, spec_with, write_spec

from metrabs_ros.backends.onnx_graphs.quantized import Quantizer
from metrabs_ros.build_engine import Reports, build_engine, open_in_precision, quantized_file
from metrabs_ros.built_engines import BuildOptions
from metrabs_ros.cli import engine as command
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import ModelSpec, find_spec, load_spec
from metrabs_ros.parity import BOUNDS_MM, differences
from metrabs_ros.quantize import most_that_fit, quantize
from metrabs_ros.reference_people import crops_for_choosing, crops_for_measuring
from metrabs_ros.weights import find_weights

pytestmark = pytest.mark.usefixtures("cache")

CROPS = np.random.default_rng(0).random((4, 3, SIZE, SIZE)).astype(np.float32)


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return load_spec(write_spec(tmp_path, spec_with(), pose_network()))


def outputs_of(network: bytes, crops: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(network)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": crops}), strict=True))


def test_a_quantised_network_computes_nearly_the_same(spec: ModelSpec, tmp_path: Path) -> None:
    quantizer = Quantizer(tmp_path / "small.onnx", CROPS)
    got = outputs_of(quantizer.quantized(quantizer.layers), CROPS)
    expected = computed(CROPS.transpose(0, 2, 3, 1))
    for name, values in expected.items():
        apart = np.abs(got[name] - values)
        assert 1e-5 < apart.mean() < 0.03 * np.abs(values).mean()
    for name, values in outputs_of(quantizer.quantized([]), CROPS).items():
        np.testing.assert_allclose(values, expected[name], atol=1e-4)


def test_only_what_is_asked_for_is_quantised() -> None:
    spec = load_spec(find_spec("metrabs_base"))
    crops = crops_for_choosing(spec.input.size)[:1]
    quantizer = Quantizer(find_weights(spec.weights, spec.path), crops)
    assert len(quantizer.layers) > 50
    one = onnx.load_from_string(quantizer.quantized(quantizer.layers[3:4]))
    weights = {node.name: node.input[1] for node in one.graph.node if node.op_type == "Conv"}
    dequantized = {output for node in one.graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    assert [name for name, weight in weights.items() if weight in dequantized] == quantizer.layers[3:4]
    zero_points = [
        onnx.numpy_helper.to_array(each) for each in one.graph.initializer if each.name.endswith("zero_point")
    ]
    assert zero_points
    assert not any(point.any() for point in zero_points), "TensorRT takes symmetric ranges only"


def test_quantised_networks_are_compiled(spec: ModelSpec) -> None:
    done = quantize(spec, 100.0, lambda what, part: None)
    assert done.path == quantized_file(spec)
    assert len(done.layers) == 1
    assert set(done.alone_mm) == set(done.layers)
    options = BuildOptions("int8", compute_capabilities=("8.9", "12.0"))
    record = build_engine(spec, "small", "tensorrt_rtx", options, Reports())[0].record
    assert record.network_sha256 != record.source_sha256
    crops = crops_for_measuring(SIZE)
    engine, exact = open_in_precision(spec, "onnxruntime", "int8"), open_in_precision(spec, "onnxruntime", "fp32")
    assert differences(exact.infer(crops), engine.infer(crops)) == list(done.found)


def test_a_bound_that_no_layer_keeps_is_a_sentence(spec: ModelSpec) -> None:
    with pytest.raises(InputError, match=r"Not even one layer of small bears INT8 within 64% of 1e-06 mm .* use fp16"):
        quantize(spec, 1e-6, lambda what, part: None)
    assert not quantized_file(spec).exists()


def test_part_of_the_bound_is_kept_for_other_crops(spec: ModelSpec) -> None:
    quantize(spec, 100.0, lambda what, part: None)
    crops = crops_for_choosing(SIZE)
    exact, engine = (open_in_precision(spec, "onnxruntime", precision) for precision in ("fp32", "int8"))
    cost_mm = differences(exact.infer(crops), engine.infer(crops))[0].mean
    assert quantize(spec, 1.01 * cost_mm / 0.64, lambda what, part: None).layers
    with pytest.raises(InputError, match="Not even one layer"):
        quantize(spec, 0.99 * cost_mm / 0.64, lambda what, part: None)


def test_the_command_spends_of_the_very_bound_that_verify_holds_it_to(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The small network's only layer costs more."""
    monkeypatch.setattr(sys, "argv", ["metrabs-engine", "quantize", str(spec.path)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert f"bears INT8 within 64% of {BOUNDS_MM['int8']:g} mm" in capsys.readouterr().err


def test_the_most_layers_that_fit() -> None:
    for fitting in range(12):
        tried: Counter[int] = Counter()

        def fits(count: int, fitting: int = fitting, tried: Counter[int] = tried) -> bool:
            tried[count] += 1
            return count <= fitting

        assert most_that_fit(11, fits) == fitting
        assert sum(tried.values()) <= 5


def test_the_command(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["metrabs-engine", "quantize", str(spec.path), "--bound", "100"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    out = " ".join(capsys.readouterr().out.split())
    assert not ended.value.code
    assert "small: 1 of 1 convolutions in INT8" in out
    assert "coords3d_rel" in out
