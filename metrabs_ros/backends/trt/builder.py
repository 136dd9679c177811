"""ONNX to a serialized TensorRT engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from metrabs_ros.backends.trt.messages import logger_of
from metrabs_ros.built_engines import BuildOptions
from metrabs_ros.errors import InputError

# In the place of a compute capability: that of this machine's GPU.
CURRENT = "current"
# (phase, part of it that is done, 0..1) as the builder goes on; returns whether to.
Progress = Callable[[str, float], bool]


def is_strongly_typed(trt: Any) -> bool:
    """Whether the precision lives in the ONNX: from TensorRT 10 on networks can be so, from 11 on they must."""
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def build(
    trt: Any,
    onnx: bytes,
    options: BuildOptions,
    progress: Progress,
    check_input: Callable[[list[str], list[int]], None],
    timing_cache: bytes | None = None,
    float32_nodes: Sequence[str] = (),
) -> tuple[bytes, bytes]:
    """The serialized engine and the timing cache after it, b"" where none is kept.

    ``onnx`` is already in the options' precision; ``check_input(names, shape of the first)`` raises where the network
    is another than expected; ``float32_nodes`` are those that must stay float32 where networks are weakly typed (8.6);
    ``timing_cache`` is what an earlier build returned, None to keep none. Raises InputError with what TensorRT said.
    """
    logger = logger_of(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(_creation_flags(trt))
    parser = trt.OnnxParser(network, logger)
    with logger.listening() as said:
        is_read = parser.parse(onnx) and network.num_outputs
    if not is_read:
        faults = [str(parser.get_error(i)) for i in range(parser.num_errors)] or [said.reason or "it holds nothing"]
        raise InputError(
            f"TensorRT cannot read the ONNX ({' '.join(faults[0].split())}): fetch or export it again, or take another "
            "backend."
        )
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    check_input([tensor.name for tensor in inputs], list(inputs[0].shape))
    config = builder.create_builder_config()
    _set_precision(trt, network, config, options, float32_nodes)
    if options.workspace_mib:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    config.builder_optimization_level = options.optimization_level
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    _set_compute_capabilities(trt, config, options)
    config.add_optimization_profile(_profile(builder, network, options))
    cache = None if timing_cache is None else _timing_cache(config, timing_cache)
    if hasattr(trt, "IProgressMonitor"):
        monitor = _monitor(trt, progress)
        config.progress_monitor = monitor
    with logger.listening() as said:
        serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise InputError(
            f"TensorRT could not build the engine ({said.reason or 'it gave no reason'}): try more "
            "--workspace, fewer people (--max-people), another precision, or without --version-compatible."
        )
    return bytes(serialized), b"" if cache is None else bytes(cache.serialize())


def _creation_flags(trt: Any) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    if is_strongly_typed(trt):
        return 1 << int(flags.STRONGLY_TYPED)
    return 1 << int(flags.EXPLICIT_BATCH)


def _set_precision(trt: Any, network: Any, config: Any, options: BuildOptions, float32_nodes: Sequence[str]) -> None:
    if options.precision == "tf32":
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    if is_strongly_typed(trt) or options.precision in ("fp32", "tf32"):
        return
    flags = {"fp16": ("FP16",), "bf16": ("BF16",), "int8": ("INT8", "FP16")}[options.precision]
    missing = [flag for flag in flags if not hasattr(trt.BuilderFlag, flag)]
    if missing:
        raise InputError(f"TensorRT {trt.__version__} knows no {', '.join(missing)}: choose another precision.")
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    kept = set(float32_nodes)
    for layer in (network.get_layer(i) for i in range(network.num_layers)):
        if layer.name in kept:
            layer.precision = trt.float32


def _set_compute_capabilities(trt: Any, config: Any, options: BuildOptions) -> None:
    if not options.compute_capabilities:
        return
    known = getattr(trt, "ComputeCapability", None)
    if known is None:
        raise InputError(
            f"TensorRT {trt.__version__} builds for the GPU of this machine only: leave --compute-capability out, or "
            "use --backend tensorrt_rtx."
        )
    names = {f"{name[2:-1]}.{name[-1]}": name for name in known.__members__ if name.startswith("SM")}
    names[CURRENT] = "CURRENT"
    config.num_compute_capabilities = len(options.compute_capabilities)
    for i, capability in enumerate(options.compute_capabilities):
        if capability not in names:
            raise InputError(
                f"TensorRT-RTX {trt.__version__} builds for compute capability {', '.join(names)}, not for "
                f"{capability}: choose some of these, or none to build for all from 8.0 on."
            )
        config.set_compute_capability(getattr(known, names[capability]), i)


def _profile(builder: Any, network: Any, options: BuildOptions) -> Any:
    profile = builder.create_optimization_profile()
    for tensor in (network.get_input(i) for i in range(network.num_inputs)):
        batch, *rest = tensor.shape
        people = options.people if batch == -1 else (batch,) * 3
        profile.set_shape(tensor.name, *((count, *rest) for count in people))
    return profile


def _timing_cache(config: Any, content: bytes) -> Any:
    """Of the config, begun with ``content``; from nothing where that is another version's."""
    cache = config.create_timing_cache(content)
    if not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):
        """Turns nested phases into (outermost phase, part of all that is done)."""

        def __init__(self) -> None:
            super().__init__()
            self._steps: dict[str, int] = {}
            self._parents: dict[str, str | None] = {}
            self._done: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = max(num_steps, 1)
            self._parents[phase_name] = parent_phase
            self._done[phase_name] = 0

        def phase_finish(self, phase_name: str) -> None:
            self._done[phase_name] = self._steps[phase_name]
            if self._parents[phase_name] is None:
                progress(phase_name, 1.0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._done[phase_name] = step + 1
            return progress(phase_name, self._part(phase_name))

        def _part(self, phase_name: str) -> float:
            """What is done of the outermost phase, this one counting as one of its parent's steps."""
            part, name = 0.0, phase_name
            while True:
                part = min((self._done[name] + part) / self._steps[name], 1.0)
                parent = self._parents[name]
                if parent is None or parent not in self._steps:
                    return part
                name = parent

    return Monitor()
