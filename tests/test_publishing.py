"""The command that times what publishing people takes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros


@pytest.mark.slow
def test_publishing_is_timed_for_one_to_sixteen_people() -> None:
    command = [sys.executable, "-m", "demo.publishing", "--rounds", "2", "--engine", "blazepose_full"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    rows = re.findall(r"(\d+) people: median +(\d+\.\d\d) ms, 90th percentile +(\d+\.\d\d) ms", done.stdout)
    assert [int(count) for count, _, _ in rows] == [1, 2, 4, 8, 16], done.stdout + done.stderr
    assert all(0 < float(median) <= float(p90) for _, median, p90 in rows)
    assert done.returncode == 0
