"""Which runtime an engine is opened on where none is named: the fastest one here that computes the same joints.

It is measured for a second or two, once: the choice is kept in the user's cache until the weights, the runtimes or the
machine are others.
"""

from __future__ import annotations

import glob
import hashlib
import importlib
import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from time import perf_counter

import numpy as np

from metrabs_ros.built_engines import built_engines, damaged_records
from metrabs_ros.cache_files import write_atomically
from metrabs_ros.engine import (
    AUTO,
    BACKENDS,
    BUILT_BACKENDS,
    SPECIAL_BACKENDS,
    Engine,
    EngineOutput,
    Floats,
    open_engine,
)
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import ModelSpec
from metrabs_ros.parity import differences
from metrabs_ros.reference_people import crops_for_measuring
from metrabs_ros.strict import parsed
from metrabs_ros.weights import cache_folder

# The first one that can be opened is taken unless another is clearly faster, and what the others are compared with.
CANDIDATES = (*BACKENDS, *SPECIAL_BACKENDS, *BUILT_BACKENDS)
# Mean distance of the joints, mm, that nobody who named no runtime has asked for.
BOUND_MM = 1.0
# Part of the first one's time that another may take: machines are noisy.
_CLEARLY_FASTER = 0.8
_COMPARED_CROPS = 8
_BATCHES = (1, 4)
# Each batch is timed so often, less often where that would take longer in all; the first time prepares it.
_ROUNDS, _LEAST_ROUNDS = 7, 3
_BUDGET_S = 1.5
# A network that takes longer for a crop is compared and timed on less, else the measurement would take a minute.
_SLOW_S = 0.25
_SLOW_CROPS, _SLOW_BATCHES = 2, (1,)
# How the distributions' names begin: they go on with the kind of processor, or CUDA's version (tensorrt-rtx-cu13).
_PACKAGES = ("metrabs-ros", "openvino", "onnxruntime", "tensorrt", "pycuda", "cuda-python", "cuda-bindings")


@dataclass(frozen=True)
class Choice:
    """What was found: ``milliseconds`` a crop of each runtime that is right, why others were ``left_out``, and why the
    rest is ``absent``; on which ``machine``, and the day."""

    backend: str
    device: str
    milliseconds: dict[str, float]
    left_out: dict[str, str]
    absent: dict[str, str]
    machine: dict[str, str]
    measured_on: str

    def sentence(self) -> str:
        """Why this one, in one line."""
        times = [f"{self.milliseconds[self.backend]:.1f} ms a crop"]
        times += [f"{name} {value:.1f}" for name, value in self.milliseconds.items() if name != self.backend]
        others = "".join(f"; {name} is left out, {why}" for name, why in self.left_out.items())
        return f"auto took {self.backend} ({self.device}): {', '.join(times)}{others}; measured on {self.measured_on}"


def open_fastest(spec: ModelSpec) -> Engine:
    """The engine on the runtime that suits this machine; its ``reason`` says why. Raises InputError where none can."""
    machine = _machine(spec)
    place = _place(spec, machine)
    kept = _kept(place, machine)
    if kept is not None:
        engine = _tried(spec, kept.backend)
        if isinstance(engine, Engine) and engine.device == kept.device:
            return engine.because(f"{kept.sentence()}, kept in {place}.")
        if isinstance(engine, Engine):
            engine.close()
    engine, choice = _measured(spec, machine)
    try:
        write_atomically(place, (json.dumps(asdict(choice), indent=1) + "\n").encode())
    except InputError as error:
        return engine.because(f"{choice.sentence()}.", f"The choice of {choice.backend} is not kept: {error}")
    return engine.because(f"{choice.sentence()}, kept in {place}.")


def _machine(spec: ModelSpec) -> dict[str, str]:
    """All that another choice may follow from."""
    return {
        **_versions(),
        "weights": spec.weights.sha256,
        "built": "; ".join(filter(None, (_built(spec, backend) for backend in BUILT_BACKENDS))),
        "devices": "; ".join([*_openvino_devices(), *sorted(map(str, Path("/dev").glob("nvidia[0-9]*")))]),
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "candidates": " ".join(CANDIDATES),
    }


def _versions() -> dict[str, str]:
    """Of what is installed of _PACKAGES, by normalised name; of several the one that is imported."""
    versions: dict[str, str] = {}
    for distribution in metadata.distributions():
        described = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        named = re.search(r"^Name: *(\S+)", described, re.MULTILINE)
        name = re.sub(r"[-_.]+", "-", named[1]).lower() if named else ""
        if name.startswith(_PACKAGES):
            versions.setdefault(name, distribution.version)
    return versions


def _built(spec: ModelSpec, backend: str) -> str:
    """The hashes of what `metrabs-engine build` made of the weights, or what is wrong with it; "" for nothing."""
    stem = f"{glob.escape(Path(spec.weights.file).stem)}.{backend}.*"
    return " ".join([*(engine.record.engine_sha256 for engine in built_engines(stem)), *damaged_records(stem)])


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


def _place(spec: ModelSpec, machine: Mapping[str, str]) -> Path:
    """Of a spec on a machine: several may share a home, and a process may be held to some of the cores."""
    digest = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "backends" / f"{spec.path.stem}-{digest[:12]}.json"


def _kept(place: Path, machine: Mapping[str, str]) -> Choice | None:
    """An earlier choice; None where there is none that can be read and is of this machine."""
    try:
        choice = parsed(Choice, json.loads(place.read_text(encoding="utf-8")), str(place))
        choice.sentence()
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return choice if choice.backend in CANDIDATES and choice.machine == machine else None


def _tried(spec: ModelSpec, backend: str) -> Engine | str:
    """The engine, or a sentence on why it cannot be opened."""
    try:
        return open_engine(spec, backend)
    except InputError as error:
        return str(error)
    except Exception as error:  # what drivers raise has no common base, and none of it keeps another one from running
        return f"It failed ({_told(error)})."


def _measured(spec: ModelSpec, machine: dict[str, str]) -> tuple[Engine, Choice]:
    """The best engine, the others closed. Raises InputError where none can be opened."""
    engines: dict[str, Engine] = {}
    left_out: dict[str, str] = {}
    absent: dict[str, str] = {}
    for name in CANDIDATES:
        if name in BUILT_BACKENDS and not _built(spec, name):
            absent[name] = "No engine was built for it."
            continue
        engine = _tried(spec, name)
        if isinstance(engine, Engine):
            engines[name] = engine
        else:
            # Whoever built an engine expects it to run; the others are nobody's wish.
            (left_out if name in BUILT_BACKENDS else absent)[name] = engine
    if not engines:
        # What is wrong with weights, spec or installation, the first one that should read them says best.
        raise InputError(str(_tried(spec, AUTO)))
    best, milliseconds, wrong = _compared(engines)
    for name, engine in engines.items():
        if name != best:
            engine.close()
    today = datetime.now(timezone.utc).astimezone().date().isoformat()
    left_out = {name: why.removesuffix(".") for name, why in (left_out | wrong).items()}
    choice = Choice(best, engines[best].device, milliseconds, left_out, absent, machine, today)
    return engines[best], choice


def _compared(engines: Mapping[str, Engine]) -> tuple[str, dict[str, float], dict[str, str]]:
    """The best one's name, the milliseconds a crop of those that are right, and what is wrong with the others."""
    first = next(iter(engines))
    crops = crops_for_measuring(engines[first].spec.input.size)
    started_s = perf_counter()
    engines[first].infer(crops[:1])
    is_slow = perf_counter() - started_s > _SLOW_S
    compared, batches = (_SLOW_CROPS, _SLOW_BATCHES) if is_slow else (_COMPARED_CROPS, _BATCHES)
    reference = engines[first].infer(crops[:compared])
    judged = {name: "" if name == first else _wrong(reference, engines[name], crops[:compared]) for name in engines}
    times = _milliseconds({name: engines[name] for name, why in judged.items() if not why}, crops, batches)
    fastest = min(times, key=lambda name: times[name])
    best = fastest if times[fastest] < _CLEARLY_FASTER * times[first] else first
    return best, times, {name: why for name, why in judged.items() if why}


def _wrong(reference: EngineOutput, engine: Engine, crops: Floats) -> str:
    """Why nobody should get this one unasked; "" where nothing is wrong."""
    try:
        found = differences(reference, engine.infer(crops))
    except Exception as error:  # as in _tried
        return f"it failed on {len(crops)} crops ({_told(error)})"
    joints = found[0]
    # A NaN is above no bound, and below none.
    if not joints.mean <= BOUND_MM:
        return f"its joints are {joints.mean:.1f} mm away, more than {BOUND_MM:g} mm"
    nowhere = [difference.output for difference in found if not np.isfinite(difference.mean)]
    return f"its {', '.join(nowhere)} are no numbers" if nowhere else ""


def _milliseconds(engines: Mapping[str, Engine], crops: Floats, batches: tuple[int, ...]) -> dict[str, float]:
    """Of a crop: the best of a few calls, in turn, as what else runs here disturbs all alike; mean over batches."""
    times: dict[str, list[list[float]]] = {name: [] for name in engines}
    started_s = perf_counter()
    for turn in range(_ROUNDS):
        if turn >= _LEAST_ROUNDS and perf_counter() - started_s > _BUDGET_S:
            break
        for name, engine in engines.items():
            times[name].append([_seconds(engine, crops[:size]) / size for size in batches])
    return {name: round(1e3 * float(np.min(each[1:], axis=0).mean()), 3) for name, each in times.items()}


def _seconds(engine: Engine, batch: Floats) -> float:
    started_s = perf_counter()
    engine.infer(batch)
    return perf_counter() - started_s


def _told(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(".")
