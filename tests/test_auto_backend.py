"""The runtime that auto takes: the fastest one that is right, measured once, said in one line."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from engines_for_tests import SMALL, built
from full_disk import run_with_room_for
from networks_for_tests import pose_network, spec_with, write_spec

from metrabs_ros import auto_backend, pipeline
from metrabs_ros.auto_backend import open_fastest
from metrabs_ros.engine import Engine, Network, open_engine
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import ModelSpec, find_spec, load_spec

pytestmark = pytest.mark.usefixtures("cache")

CROPS = np.random.default_rng(0).random((3, 16, 16, 3)).astype(np.float32)


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return load_spec(write_spec(tmp_path, spec_with(), pose_network()))


def kept_in(cache: Path) -> list[Path]:
    return sorted((cache / "backends").glob("*"))


class FakeNetwork:
    """A real network that takes ``pause_s`` on the clock of its Runtimes, and may be wrong or fail."""

    def __init__(self, network: Network, runtimes: Runtimes, backend: str) -> None:
        self._network, self._runtimes, self.backend_name = network, runtimes, backend
        self.device = network.device
        self.closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        self._runtimes.now_s += self._runtimes.pauses_s[self.backend_name]
        if self.backend_name in self._runtimes.failing and len(batch) > 1:
            raise RuntimeError("the driver has\nlost the device")
        shift = np.float32(self._runtimes.shifts.get(self.backend_name, 0.0))
        return {name: values + shift for name, values in self._network.run(batch).items()}

    def close(self) -> None:
        self.closed = True
        self._network.close()


class Runtimes:
    """Fake runtimes around the real OpenVINO and ONNX Runtime: those of ``pauses_s`` are here, on a clock of their own.

    What computes nothing takes no time on it, so that other work on this machine decides no test.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pauses_s: dict[str, float]) -> None:
        self.pauses_s = pauses_s
        self.shifts: dict[str, float] = {}
        self.failing: set[str] = set()
        self.opened: list[str] = []
        self.networks: dict[str, FakeNetwork] = {}
        self.now_s = 0.0
        monkeypatch.setattr(auto_backend, "open_engine", self.open)
        monkeypatch.setattr(auto_backend, "perf_counter", lambda: self.now_s)

    def open(self, spec: ModelSpec, backend: str) -> Engine:
        if backend not in self.pauses_s:
            raise InputError(f"{backend} is not here.")
        self.opened.append(backend)

        def around(network: Network) -> FakeNetwork:
            self.networks[backend] = FakeNetwork(network, self, backend)
            return self.networks[backend]

        return open_engine(spec, "openvino" if backend.startswith("openvino") else "onnxruntime").through(around)


def test_a_clearly_faster_runtime_is_taken_and_the_others_closed(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    runtimes = Runtimes(monkeypatch, {"openvino": 0.040, "onnxruntime": 0.016})
    engine = open_fastest(spec)
    assert engine.backend_name == "onnxruntime"
    assert runtimes.networks["openvino"].closed
    assert not runtimes.networks["onnxruntime"].closed
    # The mean of a crop alone and of one of four.
    assert engine.reason.startswith("auto took onnxruntime (CPU): 10.0 ms a crop, openvino 25.0; measured on 20")
    assert engine.reason.endswith(f", kept in {kept_in(cache)[0]}.")
    assert "\n" not in engine.reason
    assert engine.warning == ""


@pytest.mark.parametrize(("other_s", "taken"), [(0.0081, "openvino"), (0.0079, "onnxruntime")])
def test_the_first_one_stays_unless_another_saves_a_fifth(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, other_s: float, taken: str
) -> None:
    Runtimes(monkeypatch, {"openvino": 0.010, "onnxruntime": other_s})
    assert open_fastest(spec).backend_name == taken


def test_a_slow_network_is_measured_on_little(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    runtimes = Runtimes(monkeypatch, {"openvino": 0.2, "onnxruntime": 0.2})
    open_fastest(spec)
    assert runtimes.now_s < 4, "three rounds of two batches"
    runtimes.pauses_s |= {"openvino": 2.0, "onnxruntime": 2.0}
    monkeypatch.setattr(auto_backend, "_processor", lambda: "another")
    before_s = runtimes.now_s
    open_fastest(spec)
    assert runtimes.now_s - before_s < 24, "three rounds of one crop"


@pytest.mark.parametrize("shift", [0.002, float("nan")])
def test_a_fast_runtime_whose_joints_are_elsewhere_is_left_out(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, shift: float
) -> None:
    runtimes = Runtimes(monkeypatch, {"openvino": 0.01, "openvino_bf16": 0.001})
    runtimes.shifts["openvino_bf16"] = shift
    engine = open_fastest(spec)
    assert engine.backend_name == "openvino"
    assert runtimes.networks["openvino_bf16"].closed
    # The network's joints are vectors: the shift goes along each axis.
    expected = "nan" if np.isnan(shift) else f"{1000 * shift * 3**0.5:.1f}"
    assert f"openvino_bf16 is left out, its joints are {expected} mm away, more than 1 mm; measured" in engine.reason


def test_a_fast_runtime_whose_joints_are_nearly_the_same_is_taken(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtimes = Runtimes(monkeypatch, {"openvino": 0.01, "openvino_bf16": 0.001})
    runtimes.shifts["openvino_bf16"] = 0.0005
    assert open_fastest(spec).backend_name == "openvino_bf16"


def test_a_runtime_that_fails_is_left_out(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    runtimes = Runtimes(monkeypatch, {"openvino": 0.01, "openvino_gpu": 0.001})
    runtimes.failing.add("openvino_gpu")
    engine = open_fastest(spec)
    assert engine.backend_name == "openvino"
    failure = "it failed on 8 crops (RuntimeError: the driver has lost the device)"
    assert f"openvino_gpu is left out, {failure}; measured" in engine.reason


def test_a_runtime_that_cannot_even_be_opened_stops_no_other(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    runtimes = Runtimes(monkeypatch, {"openvino": 0.01, "onnxruntime": 0.001})
    opening_all = runtimes.open

    def one_fails(spec: ModelSpec, backend: str) -> Engine:
        if backend == "openvino":
            raise OSError("libopenvino.so: wrong ELF class")
        return opening_all(spec, backend)

    monkeypatch.setattr(auto_backend, "open_engine", one_fails)
    assert open_fastest(spec).backend_name == "onnxruntime"


def test_a_choice_is_kept_until_the_machine_is_another(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    runtimes = Runtimes(monkeypatch, {"openvino": 0.03, "onnxruntime": 0.01})
    first = open_fastest(spec)
    runtimes.opened.clear()
    again = open_fastest(spec)
    assert again.backend_name == "onnxruntime"
    assert runtimes.opened == ["onnxruntime"], "what was not chosen is not opened"
    assert again.reason == first.reason
    # The machine gets a processor on which the other one is faster, and then the old one again.
    runtimes.pauses_s["openvino"] = 0.0
    with monkeypatch.context() as another:
        another.setattr(auto_backend, "_processor", lambda: "another")
        assert open_fastest(spec).backend_name == "openvino"
    assert open_fastest(spec).reason == first.reason
    assert len(kept_in(cache)) == 2


@pytest.mark.parametrize("key", ["weights", "openvino", "onnxruntime", "devices", "processor", "cores", "built"])
def test_whatever_changes_the_choice_is_noted(spec: ModelSpec, key: str) -> None:
    machine = auto_backend._machine(spec)
    assert key in machine
    assert auto_backend._place(spec, machine) != auto_backend._place(spec, machine | {key: "another"})


def install(site: Path, name: str, version: str) -> None:
    """Puts a distribution's description there, as pip does."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: none\n")


@pytest.mark.parametrize(
    "name", ["tensorrt", "tensorrt_cu12", "tensorrt-rtx-cu99", "pycuda", "cuda-python", "onnxruntime_gpu"]
)
def test_what_is_installed_later_is_measured(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """An engine was built elsewhere; what runs it comes later, and then in another version."""
    built(spec)
    monkeypatch.syspath_prepend(tmp_path / "site")
    runtimes = Runtimes(monkeypatch, {"openvino": 0.01})
    assert "tensorrt_rtx is left out" in open_fastest(spec).reason
    runtimes.pauses_s["tensorrt_rtx"] = 0.001
    assert open_fastest(spec).backend_name == "openvino", "nothing tells that it is here"
    install(tmp_path / "site", name, "10.1")
    assert open_fastest(spec).backend_name == "tensorrt_rtx"
    runtimes.opened.clear()
    install(tmp_path / "site", "unrelated", "1.0")
    assert open_fastest(spec).backend_name == "tensorrt_rtx"
    assert runtimes.opened == ["tensorrt_rtx"]
    shutil.rmtree(tmp_path / "site" / f"{name}-10.1.dist-info")
    install(tmp_path / "site", name, "10.2")
    runtimes.opened.clear()
    open_fastest(spec)
    assert "openvino" in runtimes.opened


def test_a_distribution_without_a_description_is_passed_over(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = auto_backend._machine(spec)
    (tmp_path / "site" / "tensorrt-10.1.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert auto_backend._machine(spec) == before


def test_a_kept_runtime_that_cannot_be_opened_any_more_is_measured_anew(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtimes = Runtimes(monkeypatch, {"openvino": 0.03, "onnxruntime": 0.01})
    assert open_fastest(spec).backend_name == "onnxruntime"
    del runtimes.pauses_s["onnxruntime"]
    assert open_fastest(spec).backend_name == "openvino"
    assert "onnxruntime" not in open_fastest(spec).reason


def test_a_kept_runtime_that_is_now_on_another_device_is_measured_anew(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    Runtimes(monkeypatch, {"openvino": 0.03, "onnxruntime": 0.01})
    open_fastest(spec)
    (place,) = kept_in(cache)
    place.write_text(place.read_text().replace('"device": "CPU"', '"device": "CUDA"'))
    assert open_fastest(spec).reason.startswith("auto took onnxruntime (CPU)")
    assert json.loads(place.read_text())["device"] == "CPU"


@pytest.mark.parametrize(
    ("changes", "content"),
    [
        ({}, b""),
        ({}, b"\xff\xfe"),
        ({}, b"[]"),
        ({}, b'{"backend": "openvino"}'),
        ({"backend": "sh"}, b""),
        ({"milliseconds": {"openvino": "fast"}}, b""),
        ({"milliseconds": {}}, b""),
        ({"machine": {}}, b""),
    ],
)
def test_a_damaged_choice_is_measured_anew(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, cache: Path, changes: dict[str, Any], content: bytes
) -> None:
    runtimes = Runtimes(monkeypatch, {"openvino": 0.01, "onnxruntime": 0.02})
    assert open_fastest(spec).backend_name == "openvino"
    (place,) = kept_in(cache)
    whole = json.loads(place.read_text())
    place.write_bytes(json.dumps(whole | changes).encode() if changes else content)
    runtimes.opened.clear()
    assert open_fastest(spec).backend_name == "openvino"
    assert runtimes.opened == ["openvino", "onnxruntime"]
    assert json.loads(place.read_text()) == whole


def test_a_cache_that_cannot_be_written_costs_the_keeping_alone(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/sys takes no folders, whoever asks."""
    monkeypatch.setenv("METRABS_ROS_CACHE", "/sys/metrabs_ros")
    engine = open_fastest(spec)
    assert "kept in" not in engine.reason
    assert engine.warning.startswith(
        f"The choice of {engine.backend_name} is not kept: Cannot write /sys/metrabs_ros/backends/small-"
    )
    assert engine.warning.endswith("; make room there, or choose another folder with METRABS_ROS_CACHE.")
    assert np.isfinite(engine.infer(CROPS).coords3d_rel).all()


def test_a_full_disk_costs_the_keeping_alone(spec: ModelSpec, cache: Path) -> None:
    program = (
        "import sys; from metrabs_ros.auto_backend import open_fastest; from metrabs_ros.model_spec import load_spec;"
        "from pathlib import Path; print(open_fastest(load_spec(Path(sys.argv[1]))).warning)"
    )
    result = run_with_room_for(100, [sys.executable, "-c", program, spec.path])
    assert result.returncode == 0, result.stderr
    assert " is not kept: Cannot write " in result.stdout
    assert "make room there" in result.stdout
    assert kept_in(cache) == [], "no half of a file is left"


def test_where_nothing_can_run_it_the_reason_is_said(spec: ModelSpec) -> None:
    spec.path.with_name("small.onnx").write_bytes(b"no network")
    with pytest.raises(InputError, match="does not match its spec: expected sha256"):
        open_fastest(spec)


def test_an_engine_that_was_built_but_cannot_run_here_is_told(
    spec: ModelSpec, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "engines").mkdir(parents=True)
    (cache / "engines" / "small.tensorrt_rtx.fp16.json").write_text("{")
    engine = open_fastest(spec)
    assert "tensorrt_rtx is left out, " in engine.reason
    (cache / "engines" / "small.tensorrt_rtx.fp16.json").unlink()
    assert "tensorrt_rtx" not in open_fastest(spec).reason, "what was kept knew of it"


@pytest.mark.parametrize(("shift", "taken"), [(0.0, "tensorrt_rtx"), (0.002, "openvino")])
def test_an_engine_that_was_built_for_the_gpu_is_held_to_the_same_bound(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, shift: float, taken: str
) -> None:
    """Built in int8 or bf16, it may be faster and wrong."""
    built(spec)
    runtimes = Runtimes(monkeypatch, {"openvino": 0.01, "tensorrt_rtx": 0.001})
    runtimes.shifts["tensorrt_rtx"] = shift
    engine = open_fastest(spec)
    assert engine.backend_name == taken
    assert ("tensorrt_rtx is left out, its joints are 3.5 mm away" in engine.reason) == (taken == "openvino")
    runtimes.opened.clear()
    open_fastest(spec)
    assert runtimes.opened == [taken]
    built(spec, replace(SMALL, people=(1, 4, 4)))
    open_fastest(spec)
    assert runtimes.opened == [taken, "openvino", "tensorrt_rtx"], "another engine is measured anew"


def test_a_pipeline_measures_where_no_backend_is_named(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "open_fastest", open_fastest)
    engine = pipeline.PosePipeline.from_engine(spec.path).engine
    assert engine.reason.startswith(f"auto took {engine.backend_name} (")
    assert engine.through(lambda network: network).reason == engine.reason, "cameras that share it know, too"
    assert pipeline.PosePipeline.from_engine(spec.path, "onnxruntime").engine.reason == ""


@pytest.mark.slow
def test_the_default_engine_is_measured_on_this_machine() -> None:
    engine = open_fastest(load_spec(find_spec("metrabs_base")))
    print(f"\n{engine.reason}")
    assert " ms a crop" in engine.reason
    assert open_fastest(engine.spec).reason == engine.reason


@pytest.mark.parametrize(
    ("backend", "apart", "without"),
    [
        ("openvino_bf16", (1e-5, 0.1), "has no instructions for bf16"),
        ("openvino_gpu", (0, 1e-3), "finds no GPU here"),
        ("openvino_gpu_fp16", (0, 0.1), "finds no GPU here"),
    ],
)
def test_special_hardware_is_used_or_missed_in_a_sentence(
    spec: ModelSpec, backend: str, apart: tuple[float, float], without: str
) -> None:
    core = ov.Core()
    here = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "gpu" in backend:
        here = any(device.startswith("GPU") for device in core.available_devices)
    if not here:
        with pytest.raises(InputError, match=without):
            open_engine(spec, backend)
        return
    exact, found = open_engine(spec, "openvino").infer(CROPS), open_engine(spec, backend).infer(CROPS)
    least, most = apart
    assert least <= float(np.abs(found.coords3d_rel - exact.coords3d_rel).mean()) < most


class CoreWithFakeGpu:
    """OpenVINO's Core on a machine with a GPU of these capabilities, which computes on the CPU."""

    def __init__(self, core: ov.Core, capabilities: list[str], asked: list[tuple[str, dict[str, str]]]) -> None:
        self._core, self._capabilities, self._asked = core, capabilities, asked
        self.available_devices = ["CPU", "GPU.0", "GPU.1"]

    def get_property(self, device: str, name: str) -> Any:
        return self._capabilities if device == "GPU" else self._core.get_property(device, name)

    def read_model(self, path: Path) -> ov.Model:
        return self._core.read_model(path)

    def compile_model(self, model: ov.Model, device: str, options: dict[str, str]) -> ov.CompiledModel:
        self._asked.append((device, options))
        if not self._capabilities:
            raise RuntimeError("Check failed:\n[GPU] clBuildProgram")
        return self._core.compile_model(model, "CPU", {})


@pytest.mark.parametrize(
    ("backend", "capabilities", "precision", "device", "refusal"),
    [
        ("openvino_gpu", ["FP32", "FP16"], "f32", "GPU", ""),
        ("openvino_gpu_fp16", ["FP32", "FP16"], "f16", "GPU, f16", ""),
        ("openvino_gpu_fp16", ["FP32"], "", "", "This GPU has no instructions for f16, only for FP32"),
        ("openvino_gpu", [], "f32", "", r"cannot compile .*small.onnx for this GPU: \[GPU\] clBuildProgram Take"),
    ],
)
def test_a_gpu_of_openvino_is_asked_for_the_precision(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, backend: str, capabilities: list[str], precision: str,
    device: str, refusal: str,
) -> None:  # fmt: skip
    """The GPU is a fake: what is asked of OpenVINO is seen, not what a GPU computes."""
    asked: list[tuple[str, dict[str, str]]] = []
    core = CoreWithFakeGpu(ov.Core(), capabilities, asked)
    monkeypatch.setattr(ov, "Core", lambda: core)
    if refusal:
        with pytest.raises(InputError, match=refusal):
            open_engine(spec, backend)
        return
    assert open_engine(spec, backend).device == device
    assert [(where, options["INFERENCE_PRECISION_HINT"]) for where, options in asked] == [("GPU", precision)]
