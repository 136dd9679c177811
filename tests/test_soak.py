"""What the soak calls drift, and a short one with the real node."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from demo.soak import Drift, Reading

pytestmark = pytest.mark.ros
ROOT = Path(__file__).parents[1]


def readings(memory: list[float], handles: list[int] | None = None, latency_s: float = 0.1) -> list[Reading]:
    counts = handles or [30] * len(memory)
    return [
        Reading(10.0 * i, mb, count, 9, (latency_s + 0.001 * i,) * 5)
        for i, (mb, count) in enumerate(zip(memory, counts, strict=True))
    ]


def test_a_node_that_fills_its_caches_and_stays_has_not_grown() -> None:
    drift = Drift.of(readings([100, 200, 300] + [301.0, 300, 302] * 3))
    assert abs(drift.memory_mb) < 3
    assert not drift.grew
    assert drift.latency_ms == pytest.approx(6, abs=1.5), "1 ms a reading, a third of nine to the next but one"


def test_a_leak_of_memory_or_handles_is_seen() -> None:
    leak = Drift.of(readings([300 + 12.0 * i for i in range(12)]))
    assert leak.memory_mb == pytest.approx(24 * 3)
    assert leak.grew
    assert Drift.of(readings([300.0] * 12, handles=[30 + i for i in range(12)])).grew


@pytest.mark.slow
def test_a_short_soak_prints_memory_handles_and_latency() -> None:
    command = [sys.executable, "-m", "demo.soak", "--seconds", "2", "--period", "0.5", "--engine", "blazepose_full"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    rows = re.findall(
        r"(\d+\.\d) MB, +(\d+) handles, +\d+ threads, +(\d+) frames, latency median +(\d+) ms", done.stdout
    )
    assert len(rows) == 4, done.stdout + done.stderr
    for memory_mb, handles, frames, latency_ms in rows:
        assert 30 < float(memory_mb) < 3000
        assert int(handles) > 5
        assert int(frames) > 0
        assert 0 < int(latency_ms) < 5000
    assert re.search(
        r"drift over 2 s.*: memory [+-]\d+\.\d MB, handles [+-]\d+, median latency [+-]\d+ ms", done.stdout
    )
    # In so short a time the engine may still fill its caches.
    assert done.returncode == ("something grew" in done.stdout)
