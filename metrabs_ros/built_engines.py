"""TensorRT engines built on this machine: where they lie, what was built, and whether one may be run here.

A serialized engine is native code, so one is only opened with a record beside it (NAME.json for NAME.engine) that
names this library, this GPU, the very ONNX it was built from and the engine's own sha256.
"""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from metrabs_ros.cache_files import abandoned_drafts, write_together
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import known_specs
from metrabs_ros.strict import parsed
from metrabs_ros.weights import cache_folder, file_hash

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")
# Of the GPUs that engines are built for where none is named.
_LEAST_CAPABILITY = "8.0"
# Of the GPUs that TensorRT for RTX runs on; all from _RTX_FROM on besides.
_RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9")
_RTX_FROM = "12.0"


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
    """What is written beside an engine. gpu and driver are "" where it was built without a GPU; compute_capabilities ()
    stands for all from 8.0 on.

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

    @property
    def capabilities_shown(self) -> str:
        return ", ".join(self.compute_capabilities) or f"any from {_LEAST_CAPABILITY} on"

    def why_not_here(self, library_version: str, gpu: Gpu | None) -> str | None:
        """What is different here from where it was built, None where it may run; gpu None: whatever the GPU."""
        built_with, here = _numbers(self.library_version), _numbers(library_version)
        later_will_do = self.options.version_compatible and built_with[:1] == here[:1] and built_with <= here
        if self.library_version != library_version and not later_will_do:
            return f"it was built with {self.backend} {self.library_version}, and here is {library_version}"
        if gpu is None:
            return None
        if not runs_on(self.compute_capabilities, gpu.compute_capability):
            return (
                f"it was built for compute capability {self.capabilities_shown}"
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
    def record_path(self) -> Path:
        return self.path.with_suffix(".json")

    @property
    def files(self) -> tuple[Path, Path]:
        """The record first: an engine without one is never run."""
        return self.record_path, self.path

    @property
    def remedy(self) -> str:
        return f"run `{build_command(self.record.spec, self.record.backend, self.record.options.precision)}`"


def build_command(spec: str, backend: str, precision: str | None = None, gpu: Gpu | None = None) -> str:
    """The command line that builds the engine of a spec, its name or path, for this GPU."""
    command = f"metrabs-engine build {spec} --backend {backend}{f' --precision {precision}' if precision else ''}"
    if backend == "tensorrt_rtx" and gpu is not None and not runs_on((), gpu.compute_capability):
        return f"{command} --compute-capability {gpu.compute_capability}"
    return command


def runs_on(capabilities: tuple[str, ...], capability: str) -> bool:
    """Whether what is built for these compute capabilities, () for all from 8.0 on, runs on a GPU of that one."""
    return capability in capabilities if capabilities else _numbers(capability) >= _numbers(_LEAST_CAPABILITY)


def check_gpu(backend: str, gpu: Gpu) -> None:
    """Raises InputError where the backend's library runs on no such GPU, whatever an engine is built for."""
    if backend != "tensorrt_rtx" or gpu.compute_capability in _RTX_CAPABILITIES:
        return
    if _numbers(gpu.compute_capability) < _numbers(_RTX_FROM):
        raise InputError(
            f"TensorRT for RTX does not run on the {gpu.name}, compute capability {gpu.compute_capability}, but on "
            f"{', '.join(_RTX_CAPABILITIES)} and from {_RTX_FROM} on: choose another backend, tensorrt for one."
        )


def engines_folder() -> Path:
    """Of the user's cache: engines fit one machine."""
    return cache_folder() / "engines"


def engine_file(name: str, backend: str, precision: str) -> str:
    return f"{name}.{backend}.{precision}.engine"


def built_engines(stem: str = "*") -> list[BuiltEngine]:
    """Every engine whose record's name is ``stem``, a pattern, but for the ending; the latest built first.

    Damaged records are left out: damaged_records names them.
    """
    found = [read for path in _records(stem) if isinstance(read := _read(path), BuiltEngine)]
    return sorted(found, key=lambda engine: engine.record.built_at, reverse=True)


def damaged_records(stem: str = "*") -> list[str]:
    """A sentence for each record of that name which cannot be read."""
    return [str(read) for path in _records(stem) if isinstance(read := _read(path), InputError)]


def built_of(name: str, backend: str, precision: str | None = None) -> list[BuiltEngine]:
    """The engines of an ONNX by its name, for a backend, whether they may run here or not; the latest built first."""
    return [
        engine
        for engine in built_engines(_stem(name, backend, precision))
        if engine.record.backend == backend
        and engine.record.name == name
        and precision in (None, engine.record.options.precision)
    ]


def find_built(
    onnx: Path, backend: str, library_version: str, gpu: Gpu | None, precision: str | None = None
) -> BuiltEngine:
    """The engine of this ONNX that was last built for this library and GPU. Raises InputError where none may run."""
    name, source_sha256 = onnx.stem, file_hash(onnx)
    reasons = []
    for engine in built_of(name, backend, precision):
        reason = (
            "it was built from another ONNX than the spec names"
            if engine.record.source_sha256 != source_sha256
            else engine.record.why_not_here(library_version, gpu)
        )
        if reason is None:
            return engine
        command = build_command(engine.record.spec, backend, engine.record.options.precision, gpu)
        reasons.append(f"{engine.path} is not used: {reason}; run `{command}`.")
    reasons += damaged_records(_stem(name, backend, precision))
    if reasons:
        raise InputError(reasons[0])
    raise InputError(
        f"There is no {backend} engine of {name}{f' in {precision}' if precision else ''} in {engines_folder()}: run "
        f"`{build_command(_spec_of(onnx), backend, precision, gpu)}` on this machine."
    )


def store(record: EngineRecord, content: bytes) -> BuiltEngine:
    """Writes engine and record. Raises InputError where the disk refuses; what was there before then still runs.

    Whoever is stopped between the two leaves an engine that its record does not fit: it is refused, and built again.
    """
    target = engines_folder() / record.file
    text = json.dumps(asdict(record), indent=1) + "\n"
    built = BuiltEngine(record, target)
    write_together({target: content, built.record_path: text.encode()})
    return built


def leftovers(name: str | None = None) -> list[Path]:
    """What nothing runs: damaged records, engines without a sound one, and drafts whose writer was stopped; of the ONNX
    of a name, or of all, and of the cache's other folders."""
    sound = {file for engine in built_engines() for file in engine.files}
    folder = engines_folder()
    files = [file for file in sorted(folder.glob("*")) if file.suffix in (".json", ".engine") and file not in sound]
    if name is None:
        # `metrabs-engine fetch` does not hold the drafts of its weights.
        folders = [each for each in sorted(cache_folder().glob("*")) if each.name != "weights"]
        return files + [draft for each in folders for draft in abandoned_drafts(each)]
    of_name = re.compile(rf"{re.escape(name)}\.[^.]+\.[^.]+\.(json|engine)(\.\d+\.part)?")
    return [file for file in files + abandoned_drafts(folder) if of_name.fullmatch(file.name)]


def remove(files: Iterable[Path]) -> int:
    """Deletes files; returns the bytes that became free. Raises InputError."""
    freed = 0
    for file in files:
        try:
            size = file.stat().st_size
            file.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(f"Cannot delete {file}: {error.strerror}.") from error
        freed += size
    return freed


def _stem(name: str, backend: str, precision: str | None) -> str:
    """A pattern for the records of an ONNX's name; of one that goes on with ".", too."""
    return f"{glob.escape(name)}.{backend}.{precision or '*'}"


def _records(stem: str) -> list[Path]:
    return sorted(engines_folder().glob(f"{stem}.json"))


def _spec_of(onnx: Path) -> str:
    """What names the spec of an ONNX on a command line: its name, else its path."""
    beside = onnx.with_suffix(".yaml")
    return onnx.stem if onnx.stem in known_specs() or not beside.is_file() else str(beside)


def _read(path: Path) -> BuiltEngine | InputError:
    """An engine by its record; the error where that is damaged."""
    try:
        record = parsed(EngineRecord, json.loads(path.read_text(encoding="utf-8")), "it")
    except OSError as error:
        reason = error.strerror or str(error)
    except (ValueError, InputError) as error:
        reason = str(error).removesuffix(".")
    else:
        return BuiltEngine(record, path.with_suffix(".engine"))
    return InputError(
        f"The engine's record {path} is damaged ({reason}): build the engine again, or delete the record with "
        "`metrabs-engine clean`."
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
