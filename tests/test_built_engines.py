"""Built engines on the disk: which may run here, which are refused, and what happens where the disk refuses."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import tensorrt_rtx as trt
import yaml
from engines_for_tests import ADA, SMALL, built, here, refusal, small_spec
from fake_gpu import FakeDevice
from full_disk import run_with_room_for

from metrabs_ros.backends.trt import opening
from metrabs_ros.backends.trt.device import Device
from metrabs_ros.build_engine import Reports
from metrabs_ros.built_engines import BuildOptions, built_engines, find_built, store

pytestmark = pytest.mark.usefixtures("cache")


def test_an_engine_built_elsewhere_is_not_run(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    engine = built(spec, replace(SMALL, compute_capabilities=("8.6", "8.9")))
    command = f"run `metrabs-engine build {spec.path} --backend tensorrt_rtx --precision fp32`"
    assert here(engine) == engine
    text = refusal(lambda: here(engine, replace(ADA, compute_capability="12.0")))
    assert "it was built for compute capability 8.6, 8.9, and here is 12.0 (NVIDIA RTX 4090)" in text
    assert command in text
    text = refusal(lambda: here(engine, version="1.8"))
    assert f"it was built with tensorrt_rtx {trt.__version__}, and here is 1.8; {command}" in text
    of_gpu = store(replace(engine.record, gpu="NVIDIA L4"), engine.path.read_bytes())
    assert "it was built for the NVIDIA L4, and here is a NVIDIA RTX 4090" in refusal(lambda: here(of_gpu))
    options = replace(engine.record.options, version_compatible=True, hardware_compatible=True)
    anywhere = store(replace(of_gpu.record, options=options), engine.path.read_bytes())
    assert here(anywhere, version="1.8") == anywhere
    assert "and here is 2.0" in refusal(lambda: here(anywhere, version="2.0"))


def test_an_engine_of_other_weights_is_not_run(tmp_path: Path) -> None:
    engine = built(small_spec(tmp_path))
    other = onnx.load(tmp_path / "small.onnx")
    other.doc_string = "retrained"
    onnx.save(other, tmp_path / "small.onnx")
    assert "it was built from another ONNX than the spec names" in refusal(lambda: here(engine))


def test_the_last_built_precision_that_fits_is_run(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    first = built(spec)
    second = built(spec, BuildOptions("fp16", (1, 2, 8)))
    assert here(first) == second
    assert "no tensorrt_rtx engine of small in int8" in refusal(
        lambda: find_built(tmp_path / "small.onnx", "tensorrt_rtx", trt.__version__, ADA, "int8")
    )


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "small"}', "\xff"])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    engine = built(small_spec(tmp_path))
    engine.path.with_suffix(".json").write_text(text, encoding="latin-1")
    assert str(engine.path.with_suffix(".json")) in refusal(lambda: here(engine))


def test_the_gpu_is_let_go_where_there_is_nothing_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[FakeDevice] = []

    def open_fake() -> FakeDevice:
        devices.append(FakeDevice(gpu=ADA))
        return devices[-1]

    monkeypatch.setattr(opening, "open_device", open_fake)
    spec = small_spec(tmp_path)

    def found() -> tuple[bytes, bool, Device]:
        return opening.found(trt, "tensorrt_rtx", tmp_path / "small.onnx")

    assert "There is no tensorrt_rtx engine of small" in refusal(found)
    engine = built(spec)
    assert found() == (engine.path.read_bytes(), False, devices[-1])
    engine.path.write_bytes(b"changed")
    assert "is not the engine that was built" in refusal(found)
    assert [device.closed for device in devices] == [True, False, True]


def test_a_damaged_record_of_another_engine_is_in_nobodys_way(tmp_path: Path, cache: Path) -> None:
    engine = built(small_spec(tmp_path))
    (cache / "engines" / "other.tensorrt_rtx.fp32.json").write_text("{")
    (cache / "engines" / "small.tensorrt.fp32.json").write_text("{")
    assert here(engine) == engine
    built(small_spec(tmp_path), replace(SMALL, people=(1, 1, 1)))


def test_an_engine_without_a_record_is_not_run(tmp_path: Path) -> None:
    engine = built(small_spec(tmp_path))
    engine.path.with_suffix(".json").unlink()
    assert "There is no tensorrt_rtx engine of small" in refusal(lambda: here(engine))


def test_a_cache_that_cannot_be_written_is_told_before_building(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/sys takes no folders, whoever asks."""
    spec = small_spec(tmp_path)
    monkeypatch.setenv("METRABS_ROS_CACHE", "/sys/metrabs_ros")
    progress: list[float] = []

    def note(phase: str, part: float) -> bool:
        progress.append(part)
        return True

    text = refusal(lambda: built(spec, reports=Reports(note)))
    assert "Cannot write /sys/metrabs_ros/engines/small.tensorrt_rtx.fp32.engine.lock" in text
    assert "choose another folder with METRABS_ROS_CACHE" in text
    assert progress == []


def test_a_full_disk_keeps_the_engine_that_was_there(tmp_path: Path, cache: Path) -> None:
    """The engine is larger than the room that is left."""
    spec = small_spec(tmp_path)
    before = built(spec)
    limit = before.path.stat().st_size // 2
    command = ["build", spec.path, "--backend", "tensorrt_rtx", "--precision", "fp32", "--force"]
    result = run_with_room_for(limit, [sys.executable, "-m", "metrabs_ros.cli.engine", *command])
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "Cannot write" in result.stderr
    assert "make room there" in result.stderr
    assert built_engines() == [before]
    before.content()
    assert not list((cache / "engines").glob("*.part"))


def test_commands_build_list_and_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from metrabs_ros.cli import engine as command

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["metrabs-engine", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            command.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), " ".join(captured.out.split()), captured.err

    spec = small_spec(tmp_path)
    code, out, _ = run("build", spec.path, "--backend", "tensorrt_rtx", "--precision", "fp32", "--max-people", 8)
    assert code == 0
    assert "small: built in" in out
    assert "1-4-8 people" in out
    assert "any from 8.0 on" in out
    assert (
        "already there"
        in run("build", spec.path, "--backend", "tensorrt_rtx", "--precision", "fp32", "--max-people", 8)[1]
    )
    assert "built tensorrt_rtx fp32" in run("info", spec.path)[1]
    code, _, error = run("verify", spec.path, "--backend", "tensorrt_rtx", "--precision", "fp32")
    if not Path("/dev/nvidiactl").exists():
        assert (code, "There is no usable NVIDIA GPU" in error) == (2, True)
    assert "1 engines deleted" in run("clean", spec.path)[1]
    assert built_engines() == []
    assert run("clean", spec.path)[0] == 2


def test_a_spec_beside_its_network_is_named_by_its_path(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    text = refusal(lambda: find_built(tmp_path / "small.onnx", "tensorrt", "10.3", ADA))
    assert f"run `metrabs-engine build {spec.path} --backend tensorrt` on this machine" in text
    assert yaml.safe_load(spec.path.read_text())["name"] == "small"
