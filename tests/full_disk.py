"""A program whose disk is full."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_with_room_for(file_bytes: int, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """A limit on the size of files stands for the disk: what is larger cannot be written."""
    return subprocess.run(
        command,
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes)),
        capture_output=True,
        text=True,
        check=False,
    )
