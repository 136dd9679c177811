"""Which runtime an engine is opened on where none is named: the fastest one here that computes the same joints.

It is measured for a second or two, once: the choice is kept in the user's cache until the weights, the runtimes or the
machine are others.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import numpy as np

from metrabs_ros.built_engines import built_engines, write_atomically
from metrabs_ros.engine import BUILT_BACKENDS, Engine, Floats, open_engine
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import ModelSpec
from metrabs_ros.parity import differences
from metrabs_ros.reference_people import crops_for_measuring
from metrabs_ros.strict import parsed
from metrabs_ros.weights import cache_folder

# The first one that can be opened is taken unless another is clearly faster, and what the others are compared with.
CANDIDATES = ("openvino", "onnxruntime", "openvino_bf16", "openvino_gpu")
# Mean distance of the joints, mm, that nobody who named no runtime has asked for.
BOUND_MM = 1.0
# Part of the first one's time that another may take: machines are noisy.
_CLEARLY_FASTER = 0.8
_BATCHES = (1, 4)
_ROUNDS = 6
_COMPARED_CROPS = 8
_PACKAGES = ("openvino", "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")


@dataclass(frozen=True)
class Choice:
    """What was found: ``milliseconds`` a crop of each runtime that is right, why others were ``left_out``, and why the
    rest is ``absent``; on which ``machine``, and the day."""

    backend: str
    milliseconds: dict
    left_out: dict
    absent: dict
    machine: dict
    measured_on: str

    def sentence(self) -> str:
        """Why this one, in one line."""
        times = ", ".join(f"{name} {value:.1f}" for name, value in self.milliseconds.items())
        others = "".join(f"; {name} is left out, {why}" for name, why in self.left_out.items())
        return f"auto took {self.backend}: {times} ms a crop{others}; measured here on {self.measured_on}"


def open_fastest(spec: ModelSpec) -> Engine:
    """The engine on the runtime that suits this machine; its ``reason`` says why. Raises InputError where none can."""
    built, refusals = _built(spec)
    if built is not None:
        return built
    place = cache_folder() / "backends" / f"{spec.name}.json"
    machine = _machine(spec)
    kept = _kept(place)
    if kept is not None and kept.machine == machine:
        return open_engine(spec, kept.backend).because(f"{kept.sentence()}, kept in {place}.{refusals}")
    engines, absent = _opened(spec)
    choice = _chosen(engines, absent, machine)
    for name, engine in engines.items():
        if name != choice.backend:
            engine.close()
    try:
        write_atomically(place, (json.dumps(asdict(choice), indent=1) + "\n").encode())
        where = f", kept in {place}"
    except InputError as error:
        where = f", and will be measured again: {str(error).removesuffix('.')}"
    return engines[choice.backend].because(f"{choice.sentence()}{where}.{refusals}")


def _built(spec: ModelSpec) -> tuple[Engine | None, str]:
    """The engine that was built for this GPU, which nothing is faster than; and why others were not taken."""
    refusals = ""
    for backend in BUILT_BACKENDS:
        try:
            if built_engines(f"{Path(spec.weights.file).stem}.{backend}.*"):
                engine = open_engine(spec, backend)
                return engine.because(f"auto took {backend}, as an engine was built for it."), ""
        except InputError as error:
            refusals += f" {backend} is left out: {error}"
    return None, refusals


def _machine(spec: ModelSpec) -> dict[str, str]:
    """All that another choice may follow from."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        **versions,
        "devices": " ".join(_openvino_devices()),
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "weights": spec.weights.sha256,
        "candidates": " ".join(CANDIDATES),
    }


def _openvino_devices() -> list[str]:
    try:
        openvino = importlib.import_module("metrabs_ros.backends.openvino")
    except ImportError:
        return []
    devices: list[str] = openvino.devices()
    return devices


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "CPU part")))
    return f"{platform.machine()} {next(named, '')}".strip()


def _kept(place: Path) -> Choice | None:
    """An earlier choice; None where there is none that can be read."""
    try:
        choice = parsed(Choice, json.loads(place.read_text(encoding="utf-8")), str(place))
        choice.sentence()
    except (OSError, ValueError, TypeError, InputError):
        return None
    return choice if choice.backend in CANDIDATES else None


def _opened(spec: ModelSpec) -> tuple[dict[str, Engine], dict[str, str]]:
    """All candidates that can be opened, and why the others cannot. Raises InputError where none can."""
    engines, absent, last = {}, {}, None
    for name in CANDIDATES:
        try:
            engines[name] = open_engine(spec, name)
        except InputError as error:
            absent[name], last = str(error), error
    if not engines:
        assert last is not None
        # What is wrong with weights or spec, all of them say.
        raise InputError(absent[CANDIDATES[0]]) from last
    return engines, absent


def _chosen(engines: dict[str, Engine], absent: dict[str, str], machine: dict[str, str]) -> Choice:
    first = next(iter(engines))
    crops = crops_for_measuring(engines[first].spec.input.size)[:_COMPARED_CROPS]
    right, wrong = {first: engines[first]}, {}
    reference = engines[first].infer(crops)
    for name, engine in engines.items():
        apart = differences(reference, engine.infer(crops))[0].mean
        # A NaN is above no bound, and below none.
        if apart <= BOUND_MM:
            right[name] = engine
        else:
            wrong[name] = f"its joints are {apart:.1f} mm away, more than {BOUND_MM:g} mm"
    best = _milliseconds(right, crops)
    fastest = min(best, key=lambda name: best[name])
    backend = fastest if best[fastest] < _CLEARLY_FASTER * best[first] else first
    today = datetime.now(timezone.utc).astimezone().date().isoformat()
    return Choice(backend, best, wrong, absent, machine, today)


def _milliseconds(engines: dict[str, Engine], crops: Floats) -> dict[str, float]:
    """Of a crop: the best of a few calls, in turn, as what else runs here disturbs all alike; mean over batches."""
    found: dict[str, list[float]] = {name: [] for name in engines}
    for size in _BATCHES:
        batch = crops[:size]
        times: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(1 + _ROUNDS):
            for name, engine in engines.items():
                started_s = time.perf_counter()
                engine.infer(batch)
                times[name].append(1e3 * (time.perf_counter() - started_s) / len(batch))
        for name, each in times.items():
            # The first call of a size prepares it.
            found[name].append(min(each[1:]))
    return {name: float(np.mean(each)) for name, each in found.items()}
