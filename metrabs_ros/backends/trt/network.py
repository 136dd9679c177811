"""A serialized engine opened on a GPU, with the Network interface of engine.py."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.backends.trt.buffers import Buffers
from metrabs_ros.backends.trt.crop_warper import CropWarper
from metrabs_ros.backends.trt.device import Device, DeviceError, OutOfMemoryError
from metrabs_ros.backends.trt.messages import logger_of
from metrabs_ros.backends.trt.tensors import Tensors
from metrabs_ros.closing import closed_on_failure
from metrabs_ros.crop_plan import CropPlan
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import InputSpec

_LOG = logging.getLogger(__name__)

Floats = NDArray[np.float32]

# Batches of these sizes are recorded as CUDA graphs, each with an execution context of its own: a graph is only valid
# as long as its context keeps its shapes. What fills the input is not recorded: crops are uploaded or made there.
GRAPH_SIZES = (1, 2, 4, 8, 16, 32)

_MAKE_ROOM = "end what else uses the GPU (`nvidia-smi` shows it), or choose another backend."


class TensorRtNetwork:
    """An engine on the GPU. Batches above the engine's profile, or above what the GPU has room for, run in parts.

    One thread works at a time, whichever it is. ``use_graphs`` may be switched off, to compare. close() frees all that
    was taken from the GPU, and closes ``device``; so it is where the network cannot be opened.
    """

    def __init__(
        self,
        trt: Any,
        backend_name: str,
        engine: bytes,
        outputs: Sequence[str],
        device: Device,
        host_code_allowed: bool = False,
        warps_for: InputSpec | None = None,
    ) -> None:
        """``host_code_allowed``: the engine may bring the runtime it was built with, as version-compatible ones do.
        ``warps_for``: the input of the spec, for run_warped, of whose kernel nothing is compiled before it is used.

        Raises InputError where TensorRT cannot read the engine or its tensors are others than expected.
        """
        self._trt = trt
        self.backend_name = backend_name
        self._device = device
        self._lock = threading.Lock()
        self._logger = logger_of(trt)
        with closed_on_failure(device.close), device.current():
            self._runtime = trt.Runtime(self._logger)
            if host_code_allowed:
                self._runtime.engine_host_code_allowed = True
            self._engine = self._deserialized(engine)
            self._tensors = Tensors.of(trt, self._engine, outputs)
            self._new_context = _context_maker(trt, self._engine)
            self._buffers = Buffers(self._engine, self._tensors, outputs, device)
        self.input_names = [self._tensors.source]
        self.input_shape = list(self._tensors.shapes[self._tensors.source])
        self._at_once = self._tensors.most
        self._general: Any = None
        self._own: dict[int, Any] = {}
        self._graphs: dict[int, Any] = {}
        self._runs: dict[int, int] = {}
        self._graphs_refused = ""
        self.use_graphs = True
        self._warps_for = warps_for
        self._warper: CropWarper | None = None

    @property
    def device(self) -> str:
        return f"{self._device.gpu.name}, compute capability {self._device.gpu.compute_capability}"

    @property
    def graph_sizes(self) -> list[int]:
        """Batch sizes that run as CUDA graphs by now."""
        return sorted(self._graphs)

    @property
    def at_once(self) -> int:
        """Crops that run in one part: the engine's most, less where the GPU had no room."""
        return self._at_once

    @property
    def graphs_refused(self) -> str:
        """Why there are no graphs, "" where there is no reason."""
        return self._graphs_refused

    @property
    def can_warp(self) -> bool:
        """Whether run_warped is there, as far as is known."""
        return self._warps_for is not None

    def run(self, batch: Floats) -> dict[str, Floats]:
        """One forward pass, in as few parts as fit; the arrays returned are the caller's own."""
        with self._lock, self._device.current():
            return self._run_in_parts(len(batch), lambda part: self._buffers.upload(batch[part]))

    def run_warped(self, image: NDArray[np.uint8], plan: CropPlan) -> dict[str, Floats] | None:
        """As ``run`` on the crops of a plan, which are made of image [H,W,3] uint8 on the GPU.

        None where the GPU cannot, which it says once: from then on can_warp is False.
        """
        with self._lock:
            if self._warps_for is None:
                return None
            at_once = self._at_once
            try:
                with self._device.current():
                    if self._warper is None:
                        self._warper = CropWarper(self._device, self._warps_for)
                    warper = self._warper
                    warper.show(image, plan)
                    return self._run_in_parts(len(plan), lambda part: warper.put(part, self._buffers.source_address))
            except (DeviceError, InputError) as error:
                said = str(error).rstrip(".")
                _LOG.warning("Crops are not made on the %s but on the CPU: %s.", self._device.gpu.name, said)
            self._warps_for, self._at_once = None, at_once
            with self._device.current():
                self._release_warper()
            self._warper = None
            return None

    def release_memory(self) -> None:
        """Gives back all but the engine itself, its weights and kernels: contexts, graphs, buffers. Runs make them
        again, in as large parts as there is room for then."""
        with self._lock, self._device.current():
            self._release()
            self._at_once = self._tensors.most

    def close(self) -> None:
        with self._lock, self._device.current():
            self._release()
            # All that holds the engine, which holds the weights on the GPU.
            del self._new_context, self._buffers, self._engine, self._runtime
        self._device.close()

    def _deserialized(self, content: bytes) -> Any:
        gpu = self._device.gpu
        with self._logger.listening() as said:
            engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None and said.is_full:
            raise InputError(f"The {gpu.name} has no room for the engine ({said.reason}): {_MAKE_ROOM}")
        if engine is None:
            raise InputError(
                f"TensorRT {self._trt.__version__} cannot read its engine ({said.reason or 'no reason given'}) on the "
                f"{gpu.name}, compute capability {gpu.compute_capability}: build it again with `metrabs-engine build`, "
                "or choose another backend."
            )
        return engine

    def _release(self) -> None:
        self._forget_contexts()
        self._buffers.release()
        self._release_warper()

    def _release_warper(self) -> None:
        if self._warper is not None:
            self._warper.release()

    def _halve(self, count: int, error: OutOfMemoryError) -> None:
        self._forget_contexts()
        self._buffers.release()
        least = self._tensors.least
        if count <= least:
            crops = "a single crop" if least == 1 else f"the {least} crops that its engine takes at least"
            fewer = "" if least == 1 else "build the engine with a smaller --min-people, "
            raise InputError(
                f"The {self._device.gpu.name} has no room for {crops} ({error}): {fewer}{_MAKE_ROOM}"
            ) from error
        self._at_once = max((count + 1) // 2, least)
        _LOG.warning(
            "The %s has no room for %d crops at once: going on with %d at a time.",
            self._device.gpu.name,
            count,
            self._at_once,
        )

    def _run_in_parts(self, total: int, put: Callable[[slice], None]) -> dict[str, Floats]:
        """``put`` a part of all crops into the network's input, run it, and so on."""
        parts, start = [], 0
        while start < total:
            part = slice(start, min(start + self._at_once, total))
            count = part.stop - part.start
            try:
                parts.append(self._run_part(count, functools.partial(put, part)))
                start += count
            except OutOfMemoryError as error:
                self._halve(count, error)
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run_part(self, filled: int, put: Callable[[], None]) -> dict[str, Floats]:
        count = max(filled, self._tensors.least)
        if count > self._buffers.capacity:
            self._forget_contexts()
            # Room for some more, so that people who come do not cost it each time.
            self._buffers.reserve(max(count, min(1 << (count - 1).bit_length(), self._at_once)))
        put()
        if self.use_graphs and count in self._graphs:
            self._device.launch(self._graphs[count])
        else:
            self._run_or_record(count)
        self._device.synchronize()
        return self._buffers.results(filled)

    def _run_or_record(self, count: int) -> None:
        """The second run of a size becomes a graph: the first one loads kernels, which cannot be recorded."""
        context = self._context(count)
        self._runs[count] = self._runs.get(count, 0) + 1
        if self._runs[count] > 1 and self._may_record(count):
            if not getattr(context, "is_stream_capturable", lambda _: True)(self._device.stream):
                # TensorRT-RTX compiles kernels for the shape meanwhile: the next run may be recorded.
                self._enqueue(context, count)
                return
            try:
                graph = self._device.captured(lambda: self._enqueue(context, count))
            except DeviceError as error:
                self._graphs_refused = str(error)
                _LOG.warning("CUDA graphs are not used: %s.", error)
                graph = None
            if graph is not None:
                self._graphs[count] = graph
                self._device.launch(graph)
                return
        self._enqueue(context, count)

    def _may_record(self, count: int) -> bool:
        return self.use_graphs and not self._graphs_refused and count in GRAPH_SIZES and count not in self._graphs

    def _enqueue(self, context: Any, count: int) -> None:
        with self._logger.listening() as said:
            if not context.execute_async_v3(self._device.stream):
                raise said.error(f"TensorRT could not run {count} crops")
        self._buffers.download(count)

    def _context(self, count: int) -> Any:
        """With shapes, tensors and memory set for ``count`` crops."""
        keeps_shape = count in GRAPH_SIZES
        if count in self._own:
            return self._own[count]
        context = None if keeps_shape else self._general
        with self._logger.listening() as said:
            if context is None:
                context = self._new_context()
            if context is None:
                raise said.error("TensorRT made no execution context")
            if not context.set_input_shape(self.input_names[0], (count, *self.input_shape[1:])):
                raise said.error(f"TensorRT takes no {count} crops at once")
            if self._buffers.attach(context):
                # The scratch memory moved: what others remember of it is no longer true.
                self._forget_contexts()
        if keeps_shape:
            self._own[count] = context
        else:
            self._general = context
        return context

    def _forget_contexts(self) -> None:
        """Ends graphs and contexts."""
        for graph in self._graphs.values():
            self._device.free_graph(graph)
        self._graphs.clear()
        self._runs.clear()
        self._own.clear()
        self._general = None


def _context_maker(trt: Any, engine: Any) -> Any:
    """Makes contexts whose scratch memory is ours to give, so that it is one for all and as large as a batch needs."""
    strategies = getattr(trt, "ExecutionContextAllocationStrategy", None)
    if strategies is None:
        return engine.create_execution_context_without_device_memory  # 8.6
    config = engine.create_runtime_config() if hasattr(engine, "create_runtime_config") else None
    if config is None or not hasattr(config, "create_runtime_cache"):
        return lambda: engine.create_execution_context(strategies.USER_MANAGED)
    # TensorRT-RTX compiles kernels when contexts are made: one cache for all saves doing it once for each.
    config.set_execution_context_allocation_strategy(strategies.USER_MANAGED)
    cache = config.create_runtime_cache()
    config.set_runtime_cache(cache)
    return functools.partial(_context_with, engine, config, cache)


def _context_with(engine: Any, config: Any, cache: Any) -> Any:
    """``cache`` is only kept alive: the config does not do it."""
    return engine.create_execution_context(config)
