"""What was opened is closed where what comes after it fails: a network holds memory of a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from engines_for_tests import refusal, small_spec
from networks_for_tests import spec_with, write_spec

from metrabs_ros.backends.onnxruntime import OnnxRuntimeNetwork
from metrabs_ros.engine import open_engine
from metrabs_ros.errors import InputError
from metrabs_ros.pipeline import PosePipeline

pytestmark = pytest.mark.usefixtures("cache")

EIGHT_JOINTS = {"joints": [f"joint{i}" for i in range(8)], "edges": []}


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[OnnxRuntimeNetwork]:
    """The networks of ONNX Runtime that were closed."""
    networks: list[OnnxRuntimeNetwork] = []
    close = OnnxRuntimeNetwork.close

    def noted(network: OnnxRuntimeNetwork) -> None:
        close(network)
        networks.append(network)

    monkeypatch.setattr(OnnxRuntimeNetwork, "close", noted)
    return networks


@pytest.mark.parametrize("changes", [{"input__size": 32}, EIGHT_JOINTS])
def test_a_network_that_does_not_fit(tmp_path: Path, closed: list[OnnxRuntimeNetwork], changes: dict[str, Any]) -> None:
    assert "its spec" in refusal(lambda: open_engine(small_spec(tmp_path, **changes), "onnxruntime"))
    assert len(closed) == 1


def test_a_first_run_that_finds_no_room_says_so(
    tmp_path: Path, closed: list[OnnxRuntimeNetwork], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> Any:
        raise InputError("The GPU has no room for a single crop.")

    monkeypatch.setattr(OnnxRuntimeNetwork, "run", run)
    text = refusal(lambda: open_engine(small_spec(tmp_path), "onnxruntime"))
    assert text == "The GPU has no room for a single crop."
    assert len(closed) == 1


def test_an_engine_whose_detector_cannot_be_opened(tmp_path: Path, closed: list[OnnxRuntimeNetwork]) -> None:
    path = small_spec(tmp_path, detector="nobody").path
    assert "nobody" in refusal(lambda: PosePipeline.from_engine(path, "onnxruntime"))
    assert len(closed) == 1


def test_what_is_no_direction_is_told_before_an_engine_is_opened(tmp_path: Path) -> None:
    path = write_spec(tmp_path, spec_with())
    text = refusal(lambda: PosePipeline.from_engine(path, "onnxruntime", up=(0, 0, 0)))
    assert text.startswith("up must be three numbers")
