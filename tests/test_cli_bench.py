"""metrabs-bench on a photo: what it measures adds up, and what it cannot do it says."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import pytest
from skimage import data
from typer.testing import CliRunner

from metrabs_ros import benchmark
from metrabs_ros.cli import bench, bench_report
from metrabs_ros.errors import InputError


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "astronaut.png"
    cv2.imwrite(str(path), data.astronaut()[..., ::-1])
    return path


def test_the_figures_add_up(photo: Path, tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    plot = tmp_path / "bench.svg"
    options = ["--engine", "blazepose_full", "--rounds", "10", "--crowd-rounds", "3", "--crowd-size", "640x480"]
    # Letters stay text in the SVG, not outlines.
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        result = CliRunner().invoke(bench.app, [str(photo), *options, "--json", str(target), "--plot", str(plot)])
    assert result.exit_code == 0, result.output
    figures = json.loads(target.read_text())
    assert_plotted(figures, plot.read_text(encoding="utf-8"))
    given = figures["boxes_given"]
    assert [cost["people"] for cost in given] == [1, 2, 4, 8, 16]
    assert set(figures["crops_per_s"]) <= {"1", "2", "4", "8", "16", "32"}
    for cost in [*given, *figures["people_found"]]:
        assert 0 < cost["networks"] < cost["seconds"]
        assert cost["overhead"] > 0
    assert given[-1]["seconds"] > given[0]["seconds"]
    assert figures["cost_16_to_1"] == pytest.approx(given[-1]["seconds"] / given[0]["seconds"])
    assert figures["start_up_s"] > 0
    assert 20 < figures["peak_memory_mb"] < 1e5
    assert figures["gpu_memory_mb"] is None, "on the CPU"
    assert "cost of 16 people : 1" in result.output


def assert_plotted(figures: dict[str, Any], svg: str) -> None:
    """Titles, axes and legend are there, and each line goes through as many markers as there are figures."""
    words = [figures["engine"], f"{figures['backend']} ({figures['device']})"]
    words += ["people", "frames/s", "batch", "crops/s", "boxes given", "found and followed", "paper, RTX 2080 Ti"]
    for word in words:
        assert f">{word}</text>" in svg, word
    markers = [[line.count("<use ") for line in lines_of(axes)] for axes in re.split(r'<g id="axes_\d+">', svg)[1:]]
    assert markers == [[5, 5, 5], [len(figures["crops_per_s"])]]


def lines_of(axes: str) -> list[str]:
    """The lines with markers, in their order; ticks are markers, too, but not clipped to the axes."""
    plotted = axes.partition('<g id="legend_')[0]
    return [line for line in re.split(r'<g id="line2d_\d+">', plotted) if "clip-path" in line and "<use " in line]


@pytest.mark.parametrize(
    ("name", "reason"), [("none/plot.png", "No such file"), ("plot.xyz", "'xyz' is not supported")]
)
def test_the_file_that_cannot_be_written_is_named(tmp_path: Path, name: str, reason: str) -> None:
    figures = {"engine": "small", "backend": "openvino", "device": "CPU", "crops_per_s": {1: 20.0}}
    figures |= {"boxes_given": [], "people_found": [], "paper_frames_per_s": {1: 128}}
    with pytest.raises(InputError, match=rf"Cannot write {re.escape(str(tmp_path / name))}: .*{reason}"):
        bench_report.write(figures, tmp_path / "bench.json", tmp_path / name)
    assert json.loads((tmp_path / "bench.json").read_text())["engine"] == "small"


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16])
def test_a_crowd_has_as_many_people_as_asked_for_apart_from_each_other(count: int) -> None:
    person = np.full((130, 65, 3), 255, np.uint8)
    scene = benchmark.crowd([person], count, (640, 480))
    assert scene.image.shape == (480, 640, 3)
    covered = np.zeros((480, 640), int)
    for x, y, w, h in scene.boxes.astype(int):
        assert (scene.image[y : y + h, x : x + w] == 255).all()
        covered[y : y + h, x : x + w] += 1
    assert len(scene.boxes) == count
    assert covered.max() == 1


def test_a_picture_without_people_is_refused() -> None:
    with pytest.raises(InputError, match="Nobody was found in INPUT"):
        benchmark.crowd([], 4, (640, 480))


def test_a_plot_without_matplotlib_is_refused(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = CliRunner().invoke(bench.app, [str(photo), "--plot", str(tmp_path / "plot.png")])
    assert isinstance(result.exception, InputError)
    assert "--plot needs matplotlib" in str(result.exception)


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ("echo 1, 900; echo $PPID, 512; echo $PPID, 100", 612.0),
        ("echo 1, 900", None),
        ("echo '$PPID, [N/A]' | sed s/.PPID/$PPID/", None),
        ("echo No devices were found", None),
        ("exit 9", None),
    ],
)
def test_gpu_memory_is_what_nvidia_smi_says_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, told: float | None
) -> None:
    fake = tmp_path / "nvidia-smi"
    fake.write_text(f"#!/bin/sh\n{says}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert benchmark.gpu_memory_mb() == told


def test_gpu_memory_is_unknown_without_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert benchmark.gpu_memory_mb() is None
