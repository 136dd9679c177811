"""From a spec to an engine built for this machine: weights checked, precision chosen, built, recorded, stored."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
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
    built_of,
    check_gpu,
    engine_file,
    engines_folder,
    find_built,
    runs_on,
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
    gpu = _gpu_here(backend) if needs_gpu else None
    order = _Order(spec, spec_argument, backend, module, onnx, _for_network(spec, options), gpu)

    def very_same() -> BuiltEngine | None:
        there = order.usable(order.options.precision)
        if force or there is None or there.record.options != order.options or order.is_requantized(there):
            return None
        return there

    return _built_unless(very_same, order, reports)


def build_if_missing(spec: ModelSpec, spec_argument: str, backend: str, reports: Reports) -> BuiltEngine | None:
    """Builds the engine that ``backend`` would refuse for want of one, with the options of the one that was last built
    of an ONNX of that name, else the usual ones; None where it is there, or where the backend needs none. Raises
    InputError."""
    if backend not in BUILT_BACKENDS:
        return None
    module = _module(backend)
    onnx = checked_onnx(spec)
    gpu = _gpu_here(backend)
    stale = built_of(onnx.stem, backend)
    options = _for_network(spec, stale[0].record.options if stale else BuildOptions())
    if module.BUILDS_WITHOUT_GPU:
        options = _with_gpu(options, gpu)
    order = _Order(spec, spec_argument, backend, module, onnx, options, gpu)
    if order.usable() is not None:
        return None
    built, is_new = _built_unless(order.usable, order, reports)
    return built if is_new else None


def _gpu_here(backend: str) -> Gpu:
    """Raises InputError where there is none, or none that the backend runs on."""
    with contextlib.closing(open_device()) as device:
        check_gpu(backend, device.gpu)
        return device.gpu


@dataclass(frozen=True)
class _Order:
    """What is to be built, in which precision and for which GPU; gpu None: whatever the GPU."""

    spec: ModelSpec
    spec_argument: str
    backend: str
    module: Any
    onnx: Path
    options: BuildOptions
    gpu: Gpu | None

    def usable(self, precision: str | None = None) -> BuiltEngine | None:
        """What is there and may run here, in that precision or any."""
        try:
            there = find_built(self.onnx, self.backend, self.module.library.__version__, self.gpu, precision)
            there.content()
        except InputError:
            return None
        return there

    def network(self) -> tuple[bytes, list[str]]:
        strongly_typed = builder.is_strongly_typed(self.module.library)
        return _network(self.spec, self.onnx, self.options.precision, strongly_typed)

    def is_requantized(self, there: BuiltEngine) -> bool:
        """Whether `metrabs-engine quantize` has made another INT8 network since."""
        if self.options.precision != "int8" or not quantized_file(self.spec).is_file():
            return False
        return hashlib.sha256(self.network()[0]).hexdigest() != there.record.network_sha256


def _built_unless(there: Callable[[], BuiltEngine | None], order: _Order, reports: Reports) -> tuple[BuiltEngine, bool]:
    """What ``there`` finds once no other process builds it, else a new engine; and whether it is new."""
    target = engines_folder() / engine_file(order.onnx.stem, order.backend, order.options.precision)
    with locked(target, reports.waiting):
        found = there()
        return (_built(order, reports.progress), True) if found is None else (found, False)


def _built(order: _Order, progress: builder.Progress) -> BuiltEngine:
    library, options = order.module.library, order.options
    builds_without_gpu = order.module.BUILDS_WITHOUT_GPU
    if builds_without_gpu and options.hardware_compatible:
        raise InputError(
            f"{order.backend} builds for compute capabilities, whatever the GPU: leave --hardware-compatible out, and "
            "name those GPUs with --compute-capability that are older than 8.0."
        )
    started = time.monotonic()
    network, float32_nodes = order.network()
    timing = engines_folder() / f"{order.backend}-{library.__version__}.timing"
    known_timing = timing.read_bytes() if timing.is_file() else b""
    # Without a GPU nothing is measured.
    content, timing_after = builder.build(
        library,
        network,
        options,
        progress,
        functools.partial(check_input, order.spec, order.onnx),
        None if builds_without_gpu else known_timing,
        float32_nodes,
    )
    gpu = None if builds_without_gpu else order.gpu
    record = EngineRecord(
        name=order.onnx.stem,
        spec=order.spec_argument,
        backend=order.backend,
        library_version=library.__version__,
        gpu=gpu.name if gpu else "",
        compute_capabilities=_capabilities(options, order.gpu, builds_without_gpu),
        driver=gpu.driver if gpu else "",
        options=options,
        source_sha256=order.spec.weights.sha256,
        network_sha256=hashlib.sha256(network).hexdigest(),
        engine_sha256=hashlib.sha256(content).hexdigest(),
        engine_bytes=len(content),
        built_at=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
        build_seconds=round(time.monotonic() - started, 3),
    )
    built = store(record, content)
    if timing_after:
        write_atomically(timing, timing_after)
    return built


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
        cpu = importlib.import_module("metrabs_ros.backends.onnxruntime_cpu")
        return Engine(spec, cpu.OnnxRuntimeCpuNetwork(path, spec.input, outputs))


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


def _with_gpu(options: BuildOptions, gpu: Gpu) -> BuildOptions:
    """The options, with this GPU among those that are built for: it may be another than when they were chosen."""
    chosen = options.compute_capabilities
    if builder.CURRENT in chosen or runs_on(chosen, gpu.compute_capability):
        return options
    return replace(options, compute_capabilities=(*chosen, gpu.compute_capability))


def _capabilities(options: BuildOptions, gpu: Gpu | None, builds_without_gpu: bool) -> tuple[str, ...]:
    """Of the GPUs that the engine runs on; () for all from 8.0 on."""
    here = gpu.compute_capability if gpu else builder.CURRENT
    if builds_without_gpu:
        named = (here if each == builder.CURRENT else each for each in options.compute_capabilities)
        return tuple(dict.fromkeys(named))
    return () if options.hardware_compatible else (here,)
