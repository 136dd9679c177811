"""Engines: a network opened on a runtime, fed and decoded as its spec says."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.closing import closed_on_failure
from metrabs_ros.crop_plan import CropPlan
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import UNITS, ModelSpec, OutputSpec
from metrabs_ros.network_input import run_network
from metrabs_ros.strict import nearest
from metrabs_ros.weights import file_hash, find_weights

Floats = NDArray[np.float32]

# Instead of a backend's name.
AUTO = "auto"
# In the order in which "auto" tries them where it does not measure (auto_backend does).
BACKENDS = {"openvino": "OpenVinoNetwork", "onnxruntime": "OnnxRuntimeNetwork"}
# These need certain hardware.
SPECIAL_BACKENDS = {
    "openvino_bf16": "OpenVinoBf16Network",
    "openvino_gpu": "OpenVinoGpuNetwork",
    "openvino_gpu_fp16": "OpenVinoGpuFp16Network",
}
# In float32 on the CPU: what the others are compared with.
REFERENCE = "onnxruntime_cpu"
# Nobody gets these who does not name them.
NAMED_BACKENDS = {REFERENCE: "OnnxRuntimeCpuNetwork", "onnxruntime_tensorrt": "OnnxRuntimeTensorRtNetwork"}
# These run what `metrabs-engine build` made.
BUILT_BACKENDS = {"tensorrt": "TensorRtFullNetwork", "tensorrt_rtx": "TensorRtRtxNetwork"}


class Network(Protocol):
    """A network on a runtime: batches in, named output tensors out."""

    backend_name: str
    device: str
    input_names: list[str]
    input_shape: list[int]

    def run(self, batch: Floats) -> dict[str, Floats]: ...

    def close(self) -> None: ...


@runtime_checkable
class WarpingNetwork(Protocol):
    """A network that can also make the crops, normalized and laid out as its spec says, of an image [H,W,3] uint8.

    Networks that several cameras share are none: crops are made on the CPU for them.
    """

    @property
    def can_warp(self) -> bool: ...

    def run_warped(self, image: NDArray[np.uint8], plan: CropPlan) -> dict[str, Floats] | None:
        """As Network.run; None where it cannot after all, and can_warp is False from then on."""


@runtime_checkable
class ReleasingNetwork(Protocol):
    """A network that can give back the memory that its runs have taken, and stay open."""

    def release_memory(self) -> None:
        """Between runs; the next one takes what it needs again."""


@dataclass(frozen=True, eq=False)
class EngineOutput:
    """Of N crops with J joints, those of the network.

    coords2d [N,J,2] px of the crop, (0, 0) the centre of its top-left pixel; coords3d_rel [N,J,3] m, axes of the crop's
    camera, up to translation; confidence [N,J] and person_score [N] in 0..1, 1 where the network gives none;
    spread2d [N,J] px and spread3d [N,J] m: standard deviations of the heatmaps around coords2d and coords3d_rel, all
    axes together, NaN where the network gives none.
    """

    coords2d: Floats
    coords3d_rel: Floats
    confidence: Floats
    person_score: Floats
    spread2d: Floats
    spread3d: Floats

    @classmethod
    def joined(cls, parts: Sequence[EngineOutput]) -> EngineOutput:
        """The crops of all parts, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def scaled(self, size: float) -> EngineOutput:
        """The same people, ``size`` times as large."""
        if size == 1:
            return self
        return replace(self, coords3d_rel=self.coords3d_rel * size, spread3d=self.spread3d * size)


class Engine:
    """A pose network: crops to 2D and metric 3D joints.

    reason: why it runs where it runs; warning: what went wrong in finding that out; each a sentence or "".
    """

    def __init__(self, spec: ModelSpec, network: Network, reason: str = "", warning: str = "") -> None:
        self.spec = spec
        self.reason = reason
        self.warning = warning
        self._network = network

    @property
    def backend_name(self) -> str:
        return self._network.backend_name

    @property
    def device(self) -> str:
        return self._network.device

    @property
    def network(self) -> Network:
        """What runs it."""
        return self._network

    @property
    def scores_people(self) -> bool:
        """Whether the network itself tells if a crop holds a person."""
        return "person_score" in self.spec.outputs

    def infer(self, crops: Floats) -> EngineOutput:
        """crops [N,S,S,3] float32, RGB in 0..1 -> EngineOutput; N = 0 is allowed."""
        count, joints = len(crops), self.spec.network_joints
        if not count:
            shapes = ((0, joints, 2), (0, joints, 3), (0, joints), 0, (0, joints), (0, joints))
            return EngineOutput(*(np.zeros(shape, np.float32) for shape in shapes))
        return self._output(run_network(self._network.run, self.spec, crops), count)

    @property
    def can_warp(self) -> bool:
        """Whether infer_warped is there, as far as is known."""
        return isinstance(self._network, WarpingNetwork) and self._network.can_warp

    def infer_warped(self, image: NDArray[np.uint8], plan: CropPlan) -> EngineOutput | None:
        """As ``infer`` on the crops of a plan, one or more, that the network makes itself of image [H,W,3].

        None where it cannot: make them with crop.made then.
        """
        if not isinstance(self._network, WarpingNetwork):
            return None
        tensors = self._network.run_warped(image, plan)
        return None if tensors is None else self._output(tensors, len(plan))

    def through(self, around: Callable[[Network], Network]) -> Engine:
        """This engine with its network called through ``around(network)``, as where several cameras share it."""
        return Engine(self.spec, around(self._network), self.reason, self.warning)

    def because(self, reason: str, warning: str = "") -> Engine:
        """This engine with a reason and a warning."""
        return Engine(self.spec, self._network, reason, warning)

    def run_raw(self, batch: Floats) -> dict[str, Floats]:
        """The bare network on a batch that is already as it wants it."""
        return self._network.run(batch)

    def release_memory(self) -> None:
        """Give back what runs have taken, where the network can; not while one is under way."""
        release_memory(self._network)

    def close(self) -> None:
        self._network.close()

    def _output(self, tensors: dict[str, Floats], count: int) -> EngineOutput:
        joints = self.spec.network_joints
        values = {name: _decoded(tensors[output.tensor], output, count) for name, output in self.spec.outputs.items()}
        person_score = values.get("person_score")

        def per_joint(name: str, where_none: float) -> Floats:
            value = values.get(name)
            return np.full((count, joints), where_none, np.float32) if value is None else value[:, :joints, 0]

        return EngineOutput(
            values["coords2d"][:, :joints],
            values["coords3d_rel"][:, :joints],
            per_joint("confidence", 1.0),
            np.ones(count, np.float32) if person_score is None else person_score[:, 0, 0],
            per_joint("spread2d", np.nan),
            per_joint("spread3d", np.nan),
        )


def open_engine(spec: ModelSpec, backend: str = AUTO) -> Engine:
    """The pose engine of a spec, with "auto" on the first backend that can run it (auto_backend measures).

    Raises InputError where spec, weights and backend do not fit together.
    """
    if spec.kind != "pose":
        raise InputError(
            f"{spec.name} is an engine of kind {spec.kind}, expected kind pose: give it as the detector instead."
        )
    engine = Engine(spec, open_network(spec, backend, [output.tensor for output in spec.outputs.values()]))
    with closed_on_failure(engine.close):
        _check_outputs(engine)
    return engine


def _check_outputs(engine: Engine) -> None:
    """Raises InputError unless what comes of one crop is shaped as the spec says."""
    spec = engine.spec
    size, joints = spec.input.size, spec.network_joints
    try:
        output = engine.infer(np.zeros((1, size, size, 3), np.float32))
    except InputError:
        raise
    except (IndexError, ValueError) as error:
        raise InputError(
            f"The outputs of {spec.weights.file} are not shaped as its spec {spec.path} says: {error}."
        ) from error
    per_joint = ("coords2d", "coords3d_rel", "confidence", "spread2d", "spread3d")
    rows = {name: getattr(output, name).shape[1] for name in per_joint}
    few = [f"{name} has {count}" for name, count in rows.items() if count != joints]
    if few:
        raise InputError(
            f"The outputs of {spec.weights.file} are not shaped as its spec {spec.path} says: of {joints} joints, "
            f"but {', '.join(few)}; correct joints or outputs."
        )


def release_memory(network: Network) -> None:
    """Where the network can: what its runs have taken is given back."""
    if isinstance(network, ReleasingNetwork):
        network.release_memory()


def open_network(spec: ModelSpec, backend: str, outputs: Sequence[str]) -> Network:
    """The network of a spec on a runtime, its weights' sha256 and its input checked."""
    weights = find_weights(spec.weights, spec.path)
    check_hash(weights, spec.weights.sha256)
    network_class = _network_class(backend, weights)
    network: Network = network_class(weights, spec.input, list(dict.fromkeys(outputs)))
    with closed_on_failure(network.close):
        check_input(spec, weights, network.input_names, network.input_shape)
    return network


def check_input(spec: ModelSpec, weights: Path, names: Sequence[str], shape: Sequence[int]) -> None:
    """Raises InputError unless inputs of these names and of this shape (-1: any) are what the spec says."""
    size = spec.input.size
    image = [size, size, 3] if spec.input.layout == "NHWC" else [3, size, size]
    fits = all(got in (-1, want) for got, want in zip(shape[1:], image, strict=False))
    if spec.input.tensor not in names or len(shape) != 4 or not fits:
        raise InputError(
            f"{weights} takes {list(names)} of shape {list(shape)}, but its spec says "
            f"{spec.input.tensor!r} of [batch, {', '.join(map(str, image))}]: correct input in {spec.path}."
        )
    if spec.input.dynamic_batch and shape[0] != -1:
        raise InputError(
            f"{weights} takes batches of {shape[0]} only: set input: dynamic_batch to false in "
            f"{spec.path}, or export it with a dynamic batch."
        )


def check_hash(path: Path, sha256: str) -> None:
    """Raises InputError unless the file has this sha256."""
    found = file_hash(path)
    if found != sha256:
        raise InputError(
            f"{path} does not match its spec: expected sha256 {sha256[:12]}..., got {found[:12]}...; "
            "delete it and fetch or export it again."
        )


def _network_class(backend: str, weights: Path) -> Any:
    classes = BACKENDS | SPECIAL_BACKENDS | BUILT_BACKENDS | NAMED_BACKENDS
    if backend != AUTO and backend not in classes:
        raise InputError(f"There is no backend named {backend!r}{nearest(backend, [*classes, AUTO])}.")
    refusals = []
    for name in BACKENDS if backend == AUTO else [backend]:
        try:
            module = importlib.import_module(f"metrabs_ros.backends.{name}")
        except ImportError as error:
            refusals.append(f"{name} is not installed ({error})")
            continue
        if weights.suffix in module.SUFFIXES:
            return getattr(module, classes[name])
        refusals.append(f"{name} reads {', '.join(module.SUFFIXES)}")
    raise InputError(f"No backend can run {weights.name}: {'; '.join(refusals)}. Install or choose one that can.")


def _decoded(tensor: Floats, output: OutputSpec, count: int) -> Floats:
    rows = tensor.reshape(count, -1, output.columns)
    start, stop = output.take[0], output.take[-1] + 1
    contiguous = output.take == tuple(range(start, stop))
    values = rows[..., start:stop] if contiguous else rows[..., list(output.take)]
    if output.activation == "sigmoid":
        values = 1 / (1 + np.exp(-np.clip(values, -50, 50)))
    return (values + np.float32(output.offset)) * np.float32(output.scale * UNITS[output.unit])
