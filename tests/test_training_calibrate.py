"""Measuring an engine's calibration: known ones are recovered, and the command works on a real engine."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

pytest.importorskip("torch", reason="training/ needs torch: see requirements/training.txt")
pytest.importorskip("anny", reason="synthetic people need anny: see requirements/training.txt")

from metrabs_ros.uncertainty import Calibration
from training.calibrate import Observed, app, compared, fitted

VIEWS = 5
COUNT = 40_000


def drawn(truth: Calibration, with_heatmaps: bool = True) -> tuple[Observed, Observed]:
    """Errors as they are where an engine is calibrated like ``truth``, of people at 2 to 8 m."""
    rng = np.random.default_rng(0)
    distance = rng.uniform(2, 8, COUNT)
    shown = rng.uniform(0.01, 0.04, COUNT) * distance
    whole = truth.distance * distance
    of_one = np.hypot(truth.heatmap * shown, whole)
    of_mean = np.sqrt((1 / VIEWS + truth.views**2) * shown**2 + whole**2)
    error_of_one, error_of_mean = (
        np.linalg.norm(rng.normal(size=(COUNT, 3)), axis=-1) / np.sqrt(3) * rms for rms in (of_one, of_mean)
    )
    heatmaps = shown if with_heatmaps else np.full(COUNT, np.nan)
    taken_for = rng.normal(truth.height, 0.1, COUNT // 20)
    one, mean = (error_of_one, heatmaps), (error_of_mean, shown)
    return Observed(*one, distance, taken_for), Observed(*mean, distance, taken_for)


@pytest.mark.parametrize(
    "truth", [Calibration(0.5, 1.5, 0.06, 1.6), Calibration(2.0, 0.4, 0.0, 1.7), Calibration(1.0, 0.0, 0.1, 1.5)]
)
def test_a_known_calibration_is_recovered(truth: Calibration) -> None:
    found = fitted(*drawn(truth), VIEWS)
    assert found.heatmap == pytest.approx(truth.heatmap, abs=0.15)
    assert found.views == pytest.approx(truth.views, abs=0.3)
    assert found.distance == pytest.approx(truth.distance, abs=0.01)
    assert found.height == pytest.approx(truth.height, abs=0.01)
    sheet = compared(*drawn(truth), VIEWS, found)
    for label in ("0-3 m", "3-5 m", "5-8 m"):
        assert sheet.rows[label][3] == pytest.approx(1, abs=0.1)
        assert sheet.rows[label][6] == pytest.approx(1, abs=0.1)
    assert sheet.rows["8-12 m"][0] == 0


def test_an_engine_without_heatmaps_is_calibrated_by_its_views() -> None:
    found = fitted(*drawn(Calibration(1.0, 1.0, 0.05), with_heatmaps=False), VIEWS)
    assert found.heatmap == 1.0
    assert found.views == pytest.approx(1.0, abs=0.2)
    assert found.distance == pytest.approx(0.05, abs=0.01)


def test_the_command_prints_what_goes_into_the_spec() -> None:
    result = CliRunner().invoke(app, ["blazepose_full", "--frames", "10", "--num-aug", "2"])
    assert result.exit_code == 0, result.output
    section = yaml.safe_load(result.output.split("###")[0])["calibration"]
    assert Calibration(**section).heatmap == 1.0
    assert 1.2 < Calibration(**section).height < 2.0
    assert "Uncertainty against error, 2 views" in result.output
    refused = CliRunner().invoke(app, ["blazepose_ful"])
    assert refused.exit_code == 2
    assert "did you mean 'blazepose_full'" in refused.output
