"""TensorRT engines built on this machine: where they lie, what was built, and whether one may be run here.

A serialized engine is native code, so one is only opened with a record beside it (NAME.json for NAME.engine) that
names this library, this GPU, the very ONNX it was built from and the engine's own sha256.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import known_specs
from metrabs_ros.strict import parsed
from metrabs_ros.weights import cache_folder, file_hash

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built. Raises InputError for values outside their range.

    people: the batch's (least, usual, most) crops; workspace_mib 0: as much as the GPU has; optimization_level 0..5;
    compute_capabilities of tensorrt_rtx, which builds for GPUs that are not there: ("8.6", "12.0"), () for all from
    8.0 on.
    """

    precision: str = "fp16"
    people: tuple[int, int, int] = (1, 4, 32)
    workspace_mib: int = 0
    optimization_level: int = 3
    version_compatible: bool = False
    hardware_compatible: bool = False
    compute_capabilities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        least, usual, most = self.people
        if self.precision not in PRECISIONS:
            raise InputError(f"The precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}.")
        if not 1 <= least <= usual <= most:
            raise InputError(
                f"The batch must have 1 <= least <= usual <= most people, got {least}, {usual}, {most}: give e.g. "
                "--min-people 1 --opt-people 4 --max-people 32."
            )
        if not 0 <= self.optimization_level <= 5:
            raise InputError(f"The optimisation level must lie in 0..5, got {self.optimization_level}.")
        if self.workspace_mib < 0:
            raise InputError(f"The workspace must be 0 (no limit) or more MiB, got {self.workspace_mib}.")


@dataclass(frozen=True)
class Gpu:
    """A GPU: compute_capability like "9.0"; driver's version, "" where the system does not tell."""

    name: str
    compute_capability: str
    driver: str


@dataclass(frozen=True)
class EngineRecord:
    """What is written beside an engine. gpu and driver are "" where it was built without a GPU.

    name is the ONNX's without its ending; spec what `metrabs-engine build` takes to build it again. source_sha256 is
    that of the spec's ONNX, network_sha256 of what the builder read: the same in another precision.
    """

    name: str
    spec: str
    backend: str
    library_version: str
    gpu: str
    compute_capabilities: tuple[str, ...]
    driver: str
    options: BuildOptions
    source_sha256: str
    network_sha256: str
    engine_sha256: str
    engine_bytes: int
    built_at: str
    build_seconds: float

    @property
    def file(self) -> str:
        return engine_file(self.name, self.backend, self.options.precision)

    def why_not_here(self, library_version: str, gpu: Gpu | None) -> str | None:
        """What is different here from where it was built, None where it may run; gpu None: whatever the GPU."""
        same_version = self.library_version == library_version
        same_major = self.library_version.split(".")[0] == library_version.split(".")[0]
        if not same_version and not (self.options.version_compatible and same_major):
            return f"it was built with {self.backend} {self.library_version}, and here is {library_version}"
        if gpu is None:
            return None
        if self.compute_capabilities and gpu.compute_capability not in self.compute_capabilities:
            return (
                f"it was built for compute capability {', '.join(self.compute_capabilities)}"
                f"{f' ({self.gpu})' if self.gpu else ''}, and here is {gpu.compute_capability} ({gpu.name})"
            )
        if self.compute_capabilities and self.gpu and self.gpu != gpu.name and not self.options.hardware_compatible:
            return f"it was built for the {self.gpu}, and here is a {gpu.name}"
        return None


@dataclass(frozen=True)
class BuiltEngine:
    """A record and the engine's file beside it."""

    record: EngineRecord
    path: Path

    def content(self) -> bytes:
        """The engine's bytes. Raises InputError where they are not those that were built."""
        try:
            found = file_hash(self.path)
            content = self.path.read_bytes()
        except OSError as error:
            raise InputError(f"Cannot read the engine {self.path}: {error.strerror}; {self.remedy}.") from error
        if found != self.record.engine_sha256 or len(content) != self.record.engine_bytes:
            raise InputError(
                f"{self.path} is not the engine that was built: expected sha256 {self.record.engine_sha256[:12]}..., "
                f"got {found[:12]}...; engines are native code, so it is not run; {self.remedy}."
            )
        return content

    @property
    def remedy(self) -> str:
        return f"run `{build_command(self.record.spec, self.record.backend, self.record.options.precision)}`"


def build_command(spec: str, backend: str, precision: str | None = None) -> str:
    """The command line that builds the engine of a spec, its name or path."""
    return f"metrabs-engine build {spec} --backend {backend}{f' --precision {precision}' if precision else ''}"


def engines_folder() -> Path:
    """Of the user's cache: engines fit one machine."""
    return cache_folder() / "engines"


def engine_file(name: str, backend: str, precision: str) -> str:
    return f"{name}.{backend}.{precision}.engine"


def built_engines(stem: str = "*") -> list[BuiltEngine]:
    """Every engine with a record whose file's name begins so, the latest built first.

    Raises InputError for a record that is damaged.
    """
    records = sorted(engines_folder().glob(f"{stem}.json"))
    found = [BuiltEngine(_record(path), path.with_suffix(".engine")) for path in records]
    return sorted(found, key=lambda engine: engine.record.built_at, reverse=True)


def find_built(
    onnx: Path, backend: str, library_version: str, gpu: Gpu | None, precision: str | None = None
) -> BuiltEngine:
    """The engine of this ONNX that was last built for this library and GPU. Raises InputError where none may run."""
    name, source_sha256 = onnx.stem, file_hash(onnx)
    candidates = [
        engine
        for engine in built_engines(f"{glob.escape(name)}.{backend}.*")
        if engine.record.backend == backend
        and engine.record.name == name
        and precision in (None, engine.record.options.precision)
    ]
    reasons = []
    for engine in candidates:
        reason = (
            "it was built from another ONNX than the spec names"
            if engine.record.source_sha256 != source_sha256
            else engine.record.why_not_here(library_version, gpu)
        )
        if reason is None:
            return engine
        reasons.append(f"{engine.path} is not used: {reason}; {engine.remedy}.")
    if reasons:
        raise InputError(reasons[0])
    raise InputError(
        f"There is no {backend} engine of {name}{f' in {precision}' if precision else ''} in {engines_folder()}: run "
        f"`{build_command(_spec_of(onnx), backend, precision)}` on this machine."
    )


def store(record: EngineRecord, content: bytes) -> BuiltEngine:
    """Writes engine and record, each in one step or not at all: a record never goes with another's engine unnoticed.

    Raises InputError where the disk refuses; what was there before is then still there.
    """
    target = engines_folder() / record.file
    text = json.dumps(asdict(record), indent=1) + "\n"
    write_atomically(target, content)
    write_atomically(target.with_suffix(".json"), text.encode())
    return BuiltEngine(record, target)


def write_atomically(target: Path, content: bytes) -> None:
    """Raises InputError where the disk refuses; the target is then as it was."""
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        with _reason_kept():
            part.unlink(missing_ok=True)
        raise _cannot_write(target, error) from error


@contextmanager
def locked(file: str, waiting: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of an engine's file; ``waiting(sentence)`` is called once where another builder has it.

    Raises InputError where the folder cannot be written, so before hours of building, not after.
    """
    path = engines_folder() / f"{file}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
    except OSError as error:
        raise _cannot_write(path, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting(f"Another process is building {file}; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove(engine: BuiltEngine) -> int:
    """Deletes an engine and its record; returns the bytes that became free. Raises InputError."""
    try:
        size = engine.path.stat().st_size if engine.path.exists() else 0
        # The record goes first: an engine without one is never run.
        engine.path.with_suffix(".json").unlink(missing_ok=True)
        engine.path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"Cannot delete {engine.path}: {error.strerror}.") from error
    return size


def _spec_of(onnx: Path) -> str:
    """What names the spec of an ONNX on a command line: its name, else its path."""
    beside = onnx.with_suffix(".yaml")
    return onnx.stem if onnx.stem in known_specs() or not beside.is_file() else str(beside)


def _record(path: Path) -> EngineRecord:
    try:
        return parsed(EngineRecord, json.loads(path.read_text(encoding="utf-8")), f"The engine's record {path}")
    except OSError as error:
        raise InputError(f"Cannot read the engine's record {path}: {error.strerror}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"The engine's record {path} is damaged ({error}): delete it and build again.") from error


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(
        f"Cannot write {path}: {error.strerror or error}; make room there, or choose another folder with "
        "METRABS_ROS_CACHE."
    )


@contextmanager
def _reason_kept() -> Iterator[None]:
    """Lets a second OSError pass: the first is the one that is reported."""
    try:
        yield
    except OSError:
        return
