"""Which layers of a network bear INT8: measured in millimetres of the joints, on the CPU, on crops of real people."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.build_engine import checked_onnx, onnx_graphs, quantized_file
from metrabs_ros.cache_files import write_atomically
from metrabs_ros.engine import Engine, EngineOutput
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import ModelSpec
from metrabs_ros.network_input import network_input
from metrabs_ros.parity import Difference, differences
from metrabs_ros.reference_people import crops_for_choosing, crops_for_measuring

Floats = NDArray[np.float32]

# Crops on which single layers are judged: there are many layers.
_FOR_LAYERS = 6
# Part of the bound that may be spent on the crops that are calibrated and chosen on: other crops cost more. Of the
# 5 mm for metrabs_base 0.8 was too much: 5.1 mm on the others.
_SPENT = 0.64


@dataclass(frozen=True)
class Quantized:
    """What came of it: the file, its layers in INT8 and those left in float32, and the differences from float32 on
    crops that nothing was chosen on. ``alone_mm``: what each layer costs when only it is quantised."""

    path: Path
    layers: tuple[str, ...]
    left: tuple[str, ...]
    found: tuple[Difference, ...]
    alone_mm: dict[str, float]


def quantize(spec: ModelSpec, bound_mm: float, progress: Callable[[str, float], None]) -> Quantized:
    """Writes the INT8 ONNX of a spec to the user's cache, with as many layers as keep the joints within 64 % of
    ``bound_mm`` on average on the crops they are chosen on, the harmless ones first. Raises InputError."""
    onnx = checked_onnx(spec)
    size = spec.input.size
    choosing, measuring = crops_for_choosing(size), crops_for_measuring(size)
    progress("calibrating", 0.0)
    quantizer = onnx_graphs("quantized", "int8").Quantizer(onnx, network_input(spec, choosing))
    if not quantizer.layers:
        raise InputError(f"{onnx} has no convolutions outside its decoding: there is nothing to quantise.")

    def inferred(content: bytes, crops: Floats) -> EngineOutput:
        return _on_cpu(spec, content, crops)

    exact = quantizer.quantized([])
    few = choosing[:: max(1, len(choosing) // _FOR_LAYERS)]
    reference = inferred(exact, few)
    alone_mm = {}
    for i, layer in enumerate(quantizer.layers):
        progress(layer, i / len(quantizer.layers))
        alone_mm[layer] = _joints_mm(reference, inferred(quantizer.quantized([layer]), few))
    harmless_first = sorted(quantizer.layers, key=lambda layer: alone_mm[layer])
    reference = inferred(exact, choosing)

    def fits(count: int) -> bool:
        progress(f"{count} layers together", 1.0)
        return (
            _joints_mm(reference, inferred(quantizer.quantized(harmless_first[:count]), choosing)) <= _SPENT * bound_mm
        )

    count = most_that_fit(len(harmless_first), fits)
    if not count:
        raise InputError(
            f"Not even one layer of {spec.name} bears INT8 within {_SPENT:.0%} of {bound_mm:g} mm (the most harmless "
            f"costs {alone_mm[harmless_first[0]]:.2f} mm): raise --bound, or use fp16."
        )
    content = quantizer.quantized(harmless_first[:count])
    found = differences(inferred(exact, measuring), inferred(content, measuring))
    path = quantized_file(spec)
    write_atomically(path, content)
    in_order: Sequence[str] = quantizer.layers
    layers = set(harmless_first[:count])
    return Quantized(
        path,
        tuple(layer for layer in in_order if layer in layers),
        tuple(layer for layer in in_order if layer not in layers),
        tuple(found),
        alone_mm,
    )


def most_that_fit(most: int, fits: Callable[[int], bool]) -> int:
    """The largest count in 0..most that fits, by bisection: more layers cost more, but for noise. 0 where none does."""
    if fits(most):
        return most
    good, bad = 0, most
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def _joints_mm(reference: EngineOutput, other: EngineOutput) -> float:
    return differences(reference, other)[0].mean


def _on_cpu(spec: ModelSpec, content: bytes, crops: Floats) -> EngineOutput:
    from metrabs_ros.backends.onnxruntime_cpu import OnnxRuntimeCpuNetwork

    with tempfile.TemporaryDirectory(prefix="metrabs_ros-") as folder:
        path = Path(folder) / "candidate.onnx"
        path.write_bytes(content)
        outputs = list(dict.fromkeys(output.tensor for output in spec.outputs.values()))
        engine = Engine(spec, OnnxRuntimeCpuNetwork(path, spec.input, outputs))
        output = engine.infer(crops)
        engine.close()
        return output
