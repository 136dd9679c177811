"""What every step of the set-up works with: where things are, which ROS 2 it is for, how a command is run."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LOG_TAIL_LINES = 25


class SetupError(Exception):
    """A reason why the set-up cannot go on: one sentence of what was expected, what came and what to do."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class House:
    """The checkout at `root`, set up for `ros_distro`: a sourced apt ROS 2, or the wheels from PyPI where it is None.

    `lock_fd` is handed to every child process: were the set-up killed, its last pip or cmake still holds the lock.
    """

    root: Path
    ros_distro: str | None
    lock_fd: int | None = None

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def venv_python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def state_dir(self) -> Path:
        """Holds the stamps; its presence also tells that this .venv is the set-up's own."""
        return self.venv / ".setup"

    @property
    def build_dir(self) -> Path:
        return self.venv / ".build"

    @property
    def log_file(self) -> Path:
        return self.venv / "setup.log"

    @property
    def site_packages(self) -> Path:
        return self.venv / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

    def child_environment(self) -> dict[str, str]:
        """The environment of pip, cmake and the venv's Python, without what belongs to another Python.

        The ROS wheels mark in `_ROS_WHEELS_BOOTSTRAP_COMPLETE` that LD_LIBRARY_PATH is set for *their* venv. A sourced
        ROS 2 is reached by PYTHONPATH, so it stays in that mode.
        """
        foreign = {"_ROS_WHEELS_BOOTSTRAP_COMPLETE", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
        if self.ros_distro is None:
            foreign |= {"PYTHONPATH", "AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH"}
        return {name: value for name, value in os.environ.items() if name not in foreign}

    def run(self, command: list[str | Path], purpose: str, extra_environment: dict[str, str] | None = None) -> None:
        """Runs `command` into the log.

        Raises:
            SetupError: it failed; with the tail of the log.
        """
        argv = [str(part) for part in command]
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(argv)}\n")
            log.flush()
            result = subprocess.run(
                argv,
                cwd=self.root,
                env=self.child_environment() | (extra_environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=() if self.lock_fd is None else (self.lock_fd,),
                check=False,
            )
        if result.returncode != 0:
            raise SetupError(
                f"{purpose} failed: `{Path(argv[0]).name}` ended with status {result.returncode}. "
                f"The end of {self.log_file} says why; run `make setup` again once that is mended.\n\n{self.log_tail()}"
            )

    def log_tail(self) -> str:
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:])
