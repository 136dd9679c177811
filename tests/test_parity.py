"""Parity with float32 on crops of real people, and the people themselves."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engines_for_tests import refusal, small_spec

from metrabs_ros.engine import open_engine
from metrabs_ros.model_spec import find_spec, load_spec
from metrabs_ros.parity import check, differences
from metrabs_ros.reference_people import crops_for_choosing, crops_for_measuring

pytestmark = pytest.mark.usefixtures("cache")


def test_the_reference_people_are_two_halves_that_share_nobody() -> None:
    choosing, measuring = crops_for_choosing(128), crops_for_measuring(128)
    assert len(choosing) >= 16
    assert len(measuring) >= 16
    assert choosing.dtype == np.float32
    assert choosing.shape[1:] == (128, 128, 3)
    assert not any((crop == other).all() for crop in choosing for other in measuring)


def test_the_reference_people_are_people() -> None:
    spec = load_spec(find_spec("metrabs_base"))
    engine = open_engine(spec, "onnxruntime")
    scores = engine.infer(crops_for_measuring(spec.input.size)).person_score
    engine.close()
    assert (scores > 0.5).mean() > 0.8


def test_verify_tells_the_joints_and_refuses_what_is_too_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from metrabs_ros import parity
    from metrabs_ros.cli import engine as command

    def run(name: object) -> tuple[int, str, str]:
        arguments = ["verify", str(name), "--backend", "onnxruntime", "--precision", "fp16"]
        monkeypatch.setattr(sys, "argv", ["metrabs-engine", *arguments])
        with pytest.raises(SystemExit) as ended:
            command.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), " ".join(captured.out.split()), captured.err

    code, out, _ = run("metrabs_base")
    assert code == 0
    for output in ("coords3d_rel", "coords2d", "spread3d", "confidence", "person_score"):
        assert output in out
    assert "within the bound of fp16: 1 mm" in out
    monkeypatch.setitem(parity.BOUNDS_MM, "fp16", 1e-6)
    code, out, error = run(small_spec(tmp_path).path)
    assert code == 2
    assert "coords3d_rel" in out
    assert "mm away from float32 on the CPU" in error
    assert "expected at most 1e-06 mm in fp16" in error


def test_joints_that_are_no_numbers_fail_parity() -> None:
    spec = load_spec(find_spec("metrabs_base"))
    engine = open_engine(spec, "onnxruntime")
    output = engine.infer(crops_for_measuring(spec.input.size)[:1])
    engine.close()
    check(differences(output, output), "fp32", "it")
    nowhere = replace(output, coords3d_rel=np.full_like(output.coords3d_rel, np.nan))
    assert "nan mm away" in refusal(lambda: check(differences(output, nowhere), "fp32", "it"))
