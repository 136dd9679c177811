"""Built engines on the disk: which may run here, which are refused, and what happens where the disk refuses."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import tensorrt_rtx as trt
import yaml
from engines_for_tests import ADA, HOPPER, SMALL, TURING, built, here, refusal, small_spec
from fake_gpu import FakeDevice
from full_disk import run_with_room_for

from metrabs_ros.backends.trt import opening
from metrabs_ros.backends.trt.device import Device
from metrabs_ros.build_engine import Reports
from metrabs_ros.built_engines import BuildOptions, built_engines, damaged_records, find_built, leftovers, store
from metrabs_ros.cache_files import write_together
from metrabs_ros.cli import engine as engine_command

pytestmark = pytest.mark.usefixtures("cache")

Command = Callable[..., tuple[int, str, str]]


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


@pytest.mark.parametrize(("here_is", "runs"), [("10.3.0", True), ("10.13.0", True), ("10.2.9", False), ("11.0", False)])
def test_a_version_compatible_engine_runs_with_later_versions_of_its_major(
    tmp_path: Path, here_is: str, runs: bool
) -> None:
    engine = built(small_spec(tmp_path))
    options = replace(engine.record.options, version_compatible=True)
    record = replace(engine.record, library_version="10.3.0", options=options)
    assert (record.why_not_here(here_is, ADA) is None) == runs
    assert (replace(record, options=SMALL).why_not_here(here_is, ADA) is None) == (here_is == "10.3.0")


def test_an_engine_for_all_gpus_from_8_0_on_is_not_run_on_7_5(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    command = f"run `metrabs-engine build {spec.path} --backend tensorrt_rtx"
    with_option = "--compute-capability 7.5`"
    onnx_path = tmp_path / "small.onnx"
    text = refusal(lambda: find_built(onnx_path, "tensorrt_rtx", trt.__version__, TURING))
    assert f"{command} {with_option} on this machine" in text
    engine = built(spec)
    assert here(engine) == engine
    text = refusal(lambda: here(engine, TURING))
    assert "it was built for compute capability any from 8.0 on, and here is 7.5 (NVIDIA RTX 2080 Ti)" in text
    assert f"{command} --precision fp32 {with_option}" in text
    # TensorRT itself builds for the GPU that is there: it takes no such option.
    compatible = replace(SMALL, hardware_compatible=True)
    full = store(replace(engine.record, backend="tensorrt", options=compatible), b"engine")
    text = refusal(lambda: find_built(onnx_path, "tensorrt", trt.__version__, TURING))
    assert "any from 8.0 on, and here is 7.5" in text
    assert "--compute-capability" not in text
    assert find_built(onnx_path, "tensorrt", trt.__version__, ADA) == full


def test_an_engine_for_7_5_is_run_there(tmp_path: Path) -> None:
    engine = built(small_spec(tmp_path), BuildOptions("fp16", compute_capabilities=("7.5",)))
    assert here(engine, TURING) == engine


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
def test_a_damaged_record_is_named_and_built_anew(tmp_path: Path, text: str) -> None:
    engine = built(small_spec(tmp_path))
    engine.record_path.write_text(text, encoding="latin-1")
    assert f"The engine's record {engine.record_path} is damaged (" in refusal(lambda: here(engine))
    assert "build the engine again, or delete the record with `metrabs-engine clean`" in refusal(lambda: here(engine))
    again = built(small_spec(tmp_path))
    assert here(engine) == again
    assert damaged_records() == []


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


@pytest.mark.parametrize(("capability", "is_refused"), [("8.7", True), ("9.0", True), ("12.1", False), ("13.0", False)])
def test_gpus_that_tensorrt_for_rtx_leaves_out_are_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: str, is_refused: bool
) -> None:
    """Not sent to build an engine that cannot run either."""
    device = FakeDevice(gpu=replace(HOPPER, compute_capability=capability))
    monkeypatch.setattr(opening, "open_device", lambda: device)
    built(small_spec(tmp_path))

    def found() -> tuple[bytes, bool, Device]:
        return opening.found(trt, "tensorrt_rtx", tmp_path / "small.onnx")

    if is_refused:
        assert f"does not run on the NVIDIA H200, compute capability {capability}" in refusal(found)
        assert device.closed
    else:
        found()


def test_a_damaged_record_is_in_no_other_engines_way(tmp_path: Path, cache: Path) -> None:
    engine = built(small_spec(tmp_path))
    names = ["other.tensorrt_rtx.fp32.json", "small.tensorrt.fp32.json", "small.tensorrt_rtx.fp16.json"]
    for name in names:
        (cache / "engines" / name).write_text("{")
    assert here(engine) == engine
    assert built_engines() == [engine]
    assert [name for name in names if any(name in sentence for sentence in damaged_records())] == names
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


def test_a_disk_that_is_full_once_the_engine_is_written_keeps_the_old_pair(tmp_path: Path, cache: Path) -> None:
    """There is room for the new engine, but not for its record, which is longer than 100 bytes."""
    before = built(small_spec(tmp_path))
    program = (
        "from dataclasses import replace; from metrabs_ros.built_engines import built_engines, store;"
        "store(replace(built_engines()[0].record, engine_bytes=6), b'engine')"
    )
    result = run_with_room_for(100, [sys.executable, "-c", program])
    assert f"InputError: Cannot write {before.record_path}: File too large; make room there" in result.stderr
    assert here(before) == before
    before.content()
    assert not list((cache / "engines").glob("*.part"))


def test_a_stop_between_engine_and_record_is_noticed_and_built_anew(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    old = built(spec)
    old_record = old.record_path.read_bytes()
    built(spec, replace(SMALL, people=(1, 4, 4)))
    old.record_path.write_bytes(old_record)
    text = refusal(here(old).content)
    assert "is not the engine that was built" in text
    assert f"run `metrabs-engine build {spec.path} --backend tensorrt_rtx --precision fp32`" in text
    built(spec).content()


def test_drafts_of_stopped_writers_are_left_over_and_those_being_written_are_not(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cache / "engines"
    folder.mkdir(parents=True)
    stopped = [folder / name for name in ("small.tensorrt.fp32.engine.7.part", "tensorrt-10.3.timing.7.part")]
    stopped.append(cache / "quantized" / "small-0123.int8.onnx.7.part")
    stopped[-1].parent.mkdir()
    for draft in stopped:
        draft.write_bytes(b"half")
    seen: list[list[Path]] = []
    fsync = os.fsync

    def fake_slow_disk(file: int) -> None:
        assert len(list(folder.glob(f"*.{os.getpid()}.part"))) > 0
        seen.append(leftovers())
        fsync(file)

    monkeypatch.setattr(os, "fsync", fake_slow_disk)
    write_together({folder / "new.engine.timing": b"1", folder / "new.other.timing": b"2"})
    assert [set(each) for each in seen] == [set(stopped)] * 2
    assert leftovers("small") == stopped[:1]
    assert leftovers("smal") == leftovers("small.tensorrt") == []


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["metrabs-engine", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            engine_command.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), " ".join(captured.out.split()), captured.err

    return run


def test_commands_build_list_and_clean(tmp_path: Path, command: Command) -> None:
    spec = small_spec(tmp_path)
    code, out, _ = command("build", spec.path, "--backend", "tensorrt_rtx", "--precision", "fp32", "--max-people", 8)
    assert code == 0
    assert "small: built in" in out
    assert "1-4-8 people" in out
    assert "any from 8.0 on" in out
    assert (
        "already there"
        in command("build", spec.path, "--backend", "tensorrt_rtx", "--precision", "fp32", "--max-people", 8)[1]
    )
    assert "built tensorrt_rtx fp32" in command("info", spec.path)[1]
    code, _, error = command("verify", spec.path, "--backend", "tensorrt_rtx", "--precision", "fp32")
    if not Path("/dev/nvidiactl").exists():
        assert (code, "There is no usable NVIDIA GPU" in error) == (2, True)
    assert "1 engines deleted" in command("clean", spec.path)[1]
    assert built_engines() == []
    assert command("clean", spec.path)[0] == 2


def test_damaged_records_are_told_in_a_line_and_cleaned(tmp_path: Path, cache: Path, command: Command) -> None:
    spec = small_spec(tmp_path)
    engine = built(spec)
    folder = cache / "engines"
    damaged = folder / "small.tensorrt_rtx.fp16.json"
    of_another = folder / "other.tensorrt.fp16.json"
    for path in (damaged, of_another):
        path.write_text("{")
        path.with_suffix(".engine").write_bytes(b"half an engine")
    (folder / "small.tensorrt.int8.engine").write_bytes(b"without a record")
    (folder / "small.tensorrt.int8.json.7.part").write_bytes(b"{")

    code, out, _ = command("list")
    assert code == 0
    assert "unusable" not in out
    assert out.count(" is damaged (") == 2
    code, out, _ = command("info", spec.path)
    assert code == 0
    assert f"The engine's record {damaged} is damaged (" in out
    assert str(of_another) not in out
    assert "built tensorrt_rtx fp32" in out

    code, out, _ = command("clean", spec.path)
    assert code == 0
    assert "1 engines and 4 files of damaged or unfinished ones deleted" in out
    assert not engine.path.exists()
    assert sorted(file for file in folder.glob("*") if file.suffix != ".lock") == [
        of_another.with_suffix(".engine"),
        of_another,
    ]
    assert command("clean", spec.path)[0] == 2
    assert "0 engines and 2 files" in command("clean")[1]
    assert [file for file in folder.glob("*") if file.suffix != ".lock"] == []
    assert "0 engines deleted" in command("clean")[1]


def test_a_spec_beside_its_network_is_named_by_its_path(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    text = refusal(lambda: find_built(tmp_path / "small.onnx", "tensorrt", "10.3", ADA))
    assert f"run `metrabs-engine build {spec.path} --backend tensorrt` on this machine" in text
    assert yaml.safe_load(spec.path.read_text())["name"] == "small"
