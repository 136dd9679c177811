"""What a node with auto_build does where its engine is missing or stale. Only the GPU is a fake."""

from __future__ import annotations

import fcntl
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from engines_for_tests import ADA, HOPPER, SMALL, TURING, built, refusal, small_spec
from fake_gpu import FakeDevice
from networks_for_tests import pose_network

from metrabs_ros.build_engine import Reports, build_if_missing
from metrabs_ros.built_engines import BuildOptions, BuiltEngine, Gpu, built_engines
from metrabs_ros.model_spec import ModelSpec
from metrabs_ros.quantize import quantize

pytestmark = pytest.mark.usefixtures("cache")


def fake_gpu(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    monkeypatch.setattr("metrabs_ros.build_engine.open_device", lambda: FakeDevice(gpu=gpu))


def retrained(folder: Path) -> ModelSpec:
    """The small spec with another network under the same name: what was built of it is stale."""
    return small_spec(folder, pose_network(batch="people"))


@pytest.mark.parametrize("options", [None, replace(SMALL, people=(1, 2, 4))])
def test_of_two_nodes_that_miss_an_engine_the_second_takes_what_the_first_builds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: BuildOptions | None
) -> None:
    """Whether nothing is there or a stale engine; the first one is still building when the second one comes."""
    fake_gpu(monkeypatch, ADA)
    if options is not None:
        built(small_spec(tmp_path), options)
    spec = retrained(tmp_path)
    first_builds, second_waits = threading.Event(), threading.Event()
    results: dict[str, BuiltEngine | None] = {}

    def slow_progress(phase: str, part: float) -> bool:
        first_builds.set()
        return second_waits.wait(20)

    def node(name: str, reports: Reports) -> threading.Thread:
        def missing() -> None:
            results[name] = build_if_missing(spec, "small", "tensorrt_rtx", reports)

        thread = threading.Thread(target=missing)
        thread.start()
        return thread

    first = node("first", Reports(slow_progress))
    assert first_builds.wait(20)
    second = node("second", Reports(waiting=lambda sentence: second_waits.set()))
    first.join(30)
    second.join(30)
    assert second_waits.is_set()
    assert results == {"first": built_engines()[0], "second": None}
    assert built_engines()[0].record.options == (options or BuildOptions())


def test_what_another_builder_made_meanwhile_need_not_be_the_very_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """A node waits to build with the usual options, while a command builds with others."""
    fake_gpu(monkeypatch, ADA)
    spec = small_spec(tmp_path)
    options = BuildOptions("fp16", (1, 2, 3))
    engine = built(spec, options)
    aside = engine.record_path.rename(tmp_path / "record.json")
    results: list[BuiltEngine | None] = []
    waits = threading.Event()
    reports = Reports(waiting=lambda sentence: waits.set())
    with (cache / "engines" / "small.tensorrt_rtx.fp16.engine.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        node = threading.Thread(target=lambda: results.append(build_if_missing(spec, "small", "tensorrt_rtx", reports)))
        node.start()
        assert waits.wait(20)
        aside.rename(engine.record_path)
    node.join(20)
    assert results == [None]
    assert built_engines() == [engine]


def test_a_stale_engine_is_built_anew_with_its_own_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpu(monkeypatch, ADA)
    options = BuildOptions("fp32", (1, 2, 4), workspace_mib=64, optimization_level=2, compute_capabilities=("8.9",))
    built(small_spec(tmp_path), BuildOptions("bf16"))
    built(small_spec(tmp_path), options)
    spec = retrained(tmp_path)
    engine = build_if_missing(spec, "small", "tensorrt_rtx", Reports())
    assert engine is not None
    assert engine.record.options == options
    assert engine.record.source_sha256 == spec.weights.sha256
    assert build_if_missing(spec, "small", "tensorrt_rtx", Reports()) is None


def test_a_stale_int8_engine_does_not_become_another_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpu(monkeypatch, ADA)
    spec = small_spec(tmp_path)
    quantize(spec, 100.0, lambda what, part: None)
    built(spec, BuildOptions("int8", (1, 2, 8)))
    spec = retrained(tmp_path)
    text = refusal(lambda: build_if_missing(spec, "small", "tensorrt_rtx", Reports()))
    assert "There is no quantised ONNX of small" in text
    quantize(spec, 100.0, lambda what, part: None)
    engine = build_if_missing(spec, "small", "tensorrt_rtx", Reports())
    assert engine is not None
    assert engine.record.options == BuildOptions("int8", (1, 2, 8))


@pytest.mark.parametrize(
    ("before", "gpu", "after"),
    [
        (("8.6",), ADA, ("8.6", "8.9")),
        (("8.6", "8.9"), ADA, None),
        ((), ADA, None),
        ((), TURING, ("7.5",)),
    ],
)
def test_a_node_on_another_gpu_builds_for_that_one_too(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: tuple[str, ...],
    gpu: Gpu,
    after: tuple[str, ...] | None,
) -> None:
    """Else it would build at each start what is then refused."""
    fake_gpu(monkeypatch, gpu)
    spec = small_spec(tmp_path)
    built(spec, BuildOptions(compute_capabilities=before))
    engine = build_if_missing(spec, "small", "tensorrt_rtx", Reports())
    assert (engine and engine.record.compute_capabilities) == after
    assert build_if_missing(spec, "small", "tensorrt_rtx", Reports()) is None


def test_nothing_is_built_for_a_gpu_that_tensorrt_for_rtx_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its library refuses such an engine at run time: seen on an H200."""
    fake_gpu(monkeypatch, HOPPER)
    text = refusal(lambda: build_if_missing(small_spec(tmp_path), "small", "tensorrt_rtx", Reports()))
    assert text.startswith("TensorRT for RTX does not run on the NVIDIA H200, compute capability 9.0")
    assert text.endswith("choose another backend, tensorrt for one.")
    assert built_engines() == []
