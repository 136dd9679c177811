"""From a spec to an engine built for this machine: weights checked, precision chosen, built, recorded, stored."""

from __future__ import annotations

import functools
import hashlib
import importlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from metrabs_ros.backends.trt import builder
from metrabs_ros.backends.trt.device import open_device
from metrabs_ros.built_engines import (
    BuildOptions,
    BuiltEngine,
    EngineRecord,
    Gpu,
    engine_file,
    engines_folder,
    find_built,
    store,
)
from metrabs_ros.cache_files import locked, write_atomically
from metrabs_ros.engine import BUILT_BACKENDS, Engine, check_hash, check_input
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import ModelSpec
from metrabs_ros.weights import cache_folder, find_weights


@dataclass(frozen=True)
class Reports:
    """Who hears of a build: ``progress(phase, part done 0..1)`` returns whether to go on, ``waiting(sentence)``."""

    progress: builder.Progress = lambda phase, part: True
    waiting: Callable[[str], None] = lambda sentence: None


def build_engine(
    spec: ModelSpec, spec_argument: str, backend: str, options: BuildOptions, reports: Reports, force: bool = False
) -> tuple[BuiltEngine, bool]:
    """The engine of a spec in the user's cache, and whether it had to be built: not where the very same is there.

    ``spec_argument``: what names the spec on a command line. Raises InputError.
    """
    module = _module(backend)
    onnx = checked_onnx(spec)
    needs_gpu = not module.BUILDS_WITHOUT_GPU or builder.CURRENT in options.compute_capabilities
    gpu = open_device().gpu if needs_gpu else None
    options = _for_network(spec, options)
    with locked(engines_folder() / engine_file(onnx.stem, backend, options.precision), reports.waiting):
        try:
            there = find_built(onnx, backend, module.library.__version__, gpu, options.precision)
            there.content()
        except InputError:
            there = None
        if there is not None and there.record.options == options and not force:
            return there, False
        started = time.monotonic()
        network, float32_nodes = _network(spec, onnx, options.precision, builder.is_strongly_typed(module.library))
        timing = engines_folder() / f"{backend}-{module.library.__version__}.timing"
        known_timing = timing.read_bytes() if timing.is_file() else b""
        # Without a GPU nothing is measured.
        content, timing_after = builder.build(
            module.library,
            network,
            options,
            reports.progress,
            functools.partial(check_input, spec, onnx),
            None if module.BUILDS_WITHOUT_GPU else known_timing,
            float32_nodes,
        )
        record = EngineRecord(
            name=onnx.stem,
            spec=spec_argument,
            backend=backend,
            library_version=module.library.__version__,
            gpu=gpu.name if gpu else "",
            compute_capabilities=_capabilities(options, gpu),
            driver=gpu.driver if gpu else "",
            options=options,
            source_sha256=spec.weights.sha256,
            network_sha256=hashlib.sha256(network).hexdigest(),
            engine_sha256=hashlib.sha256(content).hexdigest(),
            engine_bytes=len(content),
            built_at=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
            build_seconds=round(time.monotonic() - started, 3),
        )
        built = store(record, content)
        if timing_after:
            write_atomically(timing, timing_after)
        return built, True


def build_if_missing(spec: ModelSpec, spec_argument: str, backend: str, reports: Reports) -> BuiltEngine | None:
    """Builds the engine that ``backend`` would refuse for want of one, with the usual options; None where it is there,
    or where the backend needs none. Raises InputError."""
    if backend not in BUILT_BACKENDS:
        return None
    module = _module(backend)
    onnx = checked_onnx(spec)
    gpu = open_device().gpu
    try:
        find_built(onnx, backend, module.library.__version__, gpu).content()
    except InputError:
        return build_engine(spec, spec_argument, backend, BuildOptions(), reports, force=True)[0]
    return None


def open_in_precision(spec: ModelSpec, backend: str, precision: str) -> Engine:
    """The engine that was built in a precision, or with onnxruntime the network that is built from, on the CPU.

    Raises InputError.
    """
    outputs = list(dict.fromkeys(output.tensor for output in spec.outputs.values()))
    onnx = checked_onnx(spec)
    if backend in BUILT_BACKENDS:
        network_class = getattr(_module(backend), BUILT_BACKENDS[backend])
        return Engine(spec, network_class(onnx, spec.input, outputs, precision))
    with tempfile.TemporaryDirectory(prefix="metrabs_ros-") as folder:
        path = Path(folder) / f"{onnx.stem}.{precision}.onnx"
        path.write_bytes(network_in(spec, onnx, precision))
        cpu = importlib.import_module("metrabs_ros.backends.onnxruntime")
        return Engine(spec, cpu.OnnxRuntimeNetwork(path, spec.input, outputs))


def checked_onnx(spec: ModelSpec) -> Path:
    """The spec's ONNX, its sha256 checked. Raises InputError."""
    weights = find_weights(spec.weights, spec.path)
    if weights.suffix != ".onnx":
        raise InputError(
            f"{weights.name} of {spec.name} is no .onnx, which TensorRT needs: run it with the backend openvino."
        )
    check_hash(weights, spec.weights.sha256)
    return weights


def network_in(spec: ModelSpec, onnx: Path, precision: str) -> bytes:
    """The ONNX in a precision, as builders of strongly typed networks read it. Raises InputError."""
    if precision in ("fp32", "tf32"):
        return onnx.read_bytes()
    if precision == "int8":
        quantized = quantized_file(spec)
        if not quantized.is_file():
            raise InputError(
                f"There is no quantised ONNX of {spec.name} at {quantized}: run `metrabs-engine quantize "
                f"{spec.path.stem}` first."
            )
        return quantized.read_bytes()
    content: bytes = onnx_graphs("lowered", precision).lowered(onnx, precision)
    return content


def quantized_file(spec: ModelSpec) -> Path:
    """Where `metrabs-engine quantize` puts the INT8 ONNX of a spec's very weights."""
    return cache_folder() / "quantized" / f"{Path(spec.weights.file).stem}-{spec.weights.sha256[:12]}.int8.onnx"


def _network(spec: ModelSpec, onnx: Path, precision: str, strongly_typed: bool) -> tuple[bytes, list[str]]:
    """What the builder reads, and where networks are weakly typed the names of the nodes that stay float32."""
    if strongly_typed or precision in ("fp32", "tf32"):
        return network_in(spec, onnx, precision), []
    graphs = onnx_graphs("lowered", precision)
    network: tuple[bytes, list[str]] = graphs.with_decoding(
        network_in(spec, onnx, precision) if precision == "int8" else graphs.folded(onnx).SerializeToString()
    )
    return network


def onnx_graphs(module: str, precision: str) -> Any:
    """A module of backends.onnx_graphs. Raises InputError where its packages are missing."""
    try:
        return importlib.import_module(f"metrabs_ros.backends.onnx_graphs.{module}")
    except ImportError as error:
        raise InputError(
            f"A network in {precision} is made with the packages onnx and onnxruntime, and one is missing ({error}): "
            "`pip install onnx onnxruntime sympy`, or choose --precision fp32."
        ) from error


def _module(backend: str) -> Any:
    if backend not in BUILT_BACKENDS:
        raise InputError(f"Engines are built for the backends {', '.join(BUILT_BACKENDS)}, not for {backend!r}.")
    try:
        return importlib.import_module(f"metrabs_ros.backends.{backend}")
    except ImportError as error:
        raise InputError(
            f"The backend {backend} is not installed ({error}): README.md says how to get its library."
        ) from error


def _for_network(spec: ModelSpec, options: BuildOptions) -> BuildOptions:
    """A network for one crop at a time has no other batch."""
    if spec.input.dynamic_batch:
        return options
    return BuildOptions(**{**vars(options), "people": (1, 1, 1)})


def _capabilities(options: BuildOptions, gpu: Gpu | None) -> tuple[str, ...]:
    """Of the GPUs that the engine runs on; () where that is no question of numbers."""
    if gpu is None or options.hardware_compatible:
        return options.compute_capabilities
    return (gpu.compute_capability,)
