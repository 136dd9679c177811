"""The runtime that auto takes: the fastest one that is right, measured once, said in one line."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from networks_for_tests import pose_network, spec_with, write_spec

from metrabs_ros import auto_backend
from metrabs_ros.auto_backend import open_fastest
from metrabs_ros.engine import Engine, Network, open_engine
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import ModelSpec, find_spec, load_spec

PAUSE_S = 0.01


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("METRABS_ROS_CACHE", str(folder))
    return folder


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return load_spec(write_spec(tmp_path, spec_with(), pose_network()))


class FakeSlow:
    """A network that takes longer, and may be wrong."""

    def __init__(self, network: Network, pause_s: float, shift: float) -> None:
        self._network, self._pause_s, self._shift = network, pause_s, shift
        self.closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        time.sleep(self._pause_s)
        return {name: values + np.float32(self._shift) for name, values in self._network.run(batch).items()}

    def close(self) -> None:
        self.closed = True
        self._network.close()


class Runtimes:
    """The real runtimes, each slowed down; ``opened`` counts. What is not named cannot be opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pauses_s: dict[str, float]) -> None:
        self.pauses_s, self.shifts = pauses_s, dict.fromkeys(pauses_s, 0.0)
        self.opened: list[str] = []
        self.networks: dict[str, FakeSlow] = {}
        monkeypatch.setattr(auto_backend, "open_engine", self.open)

    def open(self, spec: ModelSpec, backend: str) -> Engine:
        if backend not in self.pauses_s:
            raise InputError(f"{backend} is not here.")
        self.opened.append(backend)
        real = "openvino" if backend.startswith("openvino") else backend

        def around(network: Network) -> FakeSlow:
            self.networks[backend] = FakeSlow(network, self.pauses_s[backend], self.shifts[backend])
            self.networks[backend].backend_name = backend
            return self.networks[backend]

        return open_engine(spec, real).through(around)


def test_a_clearly_faster_runtime_is_taken_and_the_others_closed(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    runtimes = Runtimes(monkeypatch, {"openvino": 3 * PAUSE_S, "onnxruntime": PAUSE_S})
    engine = open_fastest(spec)
    assert engine.backend_name == "onnxruntime"
    assert runtimes.networks["openvino"].closed
    assert not runtimes.networks["onnxruntime"].closed
    assert engine.reason.startswith("auto took onnxruntime: openvino ")
    assert "openvino_gpu" not in engine.reason
    assert f"kept in {cache / 'backends' / 'small.json'}." in engine.reason
    assert "\n" not in engine.reason


def test_the_first_one_stays_where_another_is_hardly_faster(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    Runtimes(monkeypatch, {"openvino": 1.1 * PAUSE_S, "onnxruntime": PAUSE_S})
    assert open_fastest(spec).backend_name == "openvino"


@pytest.mark.parametrize("shift", [0.002, float("nan")])
def test_a_fast_runtime_whose_joints_are_elsewhere_is_left_out(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, shift: float
) -> None:
    runtimes = Runtimes(monkeypatch, {"openvino": PAUSE_S, "openvino_bf16": 0.0})
    runtimes.shifts["openvino_bf16"] = shift
    engine = open_fastest(spec)
    assert engine.backend_name == "openvino"
    # The network's joints are vectors: the shift goes along each axis.
    expected = "nan" if np.isnan(shift) else f"{1000 * shift * 3**0.5:.1f}"
    assert f"openvino_bf16 is left out, its joints are {expected} mm away, more than 1 mm" in engine.reason


def test_a_choice_is_kept_until_the_machine_is_another(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    runtimes = Runtimes(monkeypatch, {"openvino": 3 * PAUSE_S, "onnxruntime": PAUSE_S})
    first = open_fastest(spec)
    runtimes.opened.clear()
    again = open_fastest(spec)
    assert again.backend_name == "onnxruntime"
    assert runtimes.opened == ["onnxruntime"], "what was not chosen is not opened"
    assert again.reason == first.reason
    # The machine gets a processor on which the other one is faster.
    runtimes.pauses_s["openvino"] = 0.0
    monkeypatch.setattr(auto_backend, "_processor", lambda: "another")
    assert open_fastest(spec).backend_name == "openvino"
    assert json.loads((cache / "backends" / "small.json").read_text())["machine"]["processor"] == "another"


WHOLE = b'{"backend": "%s", "milliseconds": {"a": %s}, "left_out": {}, "absent": {}, "machine": {}, "measured_on": ""}'


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[]", b'{"backend": "openvino"}', WHOLE % (b"sh", b"1"), WHOLE % (b"openvino", b'"fast"')],
)
def test_a_damaged_choice_is_measured_anew(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, cache: Path, content: bytes
) -> None:
    monkeypatch.setattr(auto_backend, "_machine", lambda spec: {})
    place = cache / "backends" / "small.json"
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    runtimes = Runtimes(monkeypatch, {"openvino": 3 * PAUSE_S, "onnxruntime": PAUSE_S})
    assert open_fastest(spec).backend_name == "onnxruntime"
    assert runtimes.opened == ["openvino", "onnxruntime"]
    assert json.loads(place.read_text())["backend"] == "onnxruntime"


def test_a_cache_that_cannot_be_written_costs_the_keeping_alone(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/sys takes no folders, whoever asks."""
    monkeypatch.setenv("METRABS_ROS_CACHE", "/sys/metrabs_ros")
    engine = open_fastest(spec)
    assert "and will be measured again: Cannot write /sys/metrabs_ros/backends/small.json" in engine.reason
    assert "choose another folder with METRABS_ROS_CACHE." in engine.reason
    assert np.isfinite(engine.infer(np.zeros((1, 16, 16, 3), np.float32)).coords3d_rel).all()


def test_a_full_disk_costs_the_keeping_alone(spec: ModelSpec, cache: Path) -> None:
    """A limit on the size of files stands for the disk."""
    program = (
        "import sys; from metrabs_ros.auto_backend import open_fastest; from metrabs_ros.model_spec import load_spec;"
        "from pathlib import Path; print(open_fastest(load_spec(Path(sys.argv[1]))).reason)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(spec.path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "will be measured again: Cannot write" in result.stdout
    assert list((cache / "backends").iterdir()) == [], "no half of a file is left"


def test_where_nothing_can_run_it_the_first_ones_reason_is_said(spec: ModelSpec) -> None:
    Path(spec.path).with_name("small.onnx").write_bytes(b"no network")
    with pytest.raises(InputError, match="does not match its spec: expected sha256"):
        open_fastest(spec)


def test_an_engine_that_was_built_but_cannot_run_here_is_told(
    spec: ModelSpec, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "engines").mkdir(parents=True)
    (cache / "engines" / "small.tensorrt_rtx.fp16.json").write_text("{")
    Runtimes(monkeypatch, {"openvino": 0.0})
    engine = open_fastest(spec)
    assert engine.backend_name == "openvino"
    assert "tensorrt_rtx is left out: The engine's record" in engine.reason
    assert "delete it and build again." in engine.reason


def test_an_engine_that_was_built_is_taken_without_measuring(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(auto_backend, "built_engines", lambda stem: [stem] if "tensorrt_rtx" in stem else [])
    runtimes = Runtimes(monkeypatch, {"openvino": 0.0})
    runtimes.pauses_s["tensorrt_rtx"] = 0.0
    monkeypatch.setattr(runtimes, "open", lambda spec, backend: open_engine(spec, "onnxruntime"))
    monkeypatch.setattr(auto_backend, "open_engine", runtimes.open)
    assert open_fastest(spec).reason == "auto took tensorrt_rtx, as an engine was built for it."
    assert not (cache / "backends").exists()


def test_the_default_engine_is_measured_on_this_machine() -> None:
    engine = open_fastest(load_spec(find_spec("metrabs_base")))
    assert engine.backend_name in ("openvino", "onnxruntime")
    assert " ms a crop" in engine.reason


@pytest.mark.parametrize(
    ("backend", "apart", "without"),
    [("openvino_bf16", (1e-5, 0.1), "has no instructions for bf16"), ("openvino_gpu", (0, 1e-3), "finds no GPU here")],
)
def test_special_hardware_is_used_or_missed_in_a_sentence(
    spec: ModelSpec, backend: str, apart: tuple[float, float], without: str
) -> None:
    core = ov.Core()
    here = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if backend == "openvino_gpu":
        here = any(device.startswith("GPU") for device in core.available_devices)
    if not here:
        with pytest.raises(InputError, match=without):
            open_engine(spec, backend)
        return
    crops = np.random.default_rng(0).random((3, 16, 16, 3)).astype(np.float32)
    exact, found = open_engine(spec, "openvino").infer(crops), open_engine(spec, backend).infer(crops)
    least, most = apart
    assert least <= float(np.abs(found.coords3d_rel - exact.coords3d_rel).mean()) < most
