"""The processes of the demo: started in a ROS domain of their own, watched, and ended by their ids."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
_LAST_LINES = 15
# What SIGTERM gets before something stronger follows.
_GRACE_S = 5.0


class ChildError(RuntimeError):
    """A process of the demo ended when it should not have; the message has its last lines."""


class Children:
    """Named processes that end when the block ends, the last started first.

    They are out of the terminal's process group, so that Ctrl-C reaches only the demo, which ends them in order.
    """

    def __init__(self, environment: dict[str, str], log_folder: Path) -> None:
        self._environment = environment
        self._log_folder = log_folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str]) -> None:
        """Runs `python -m COMMAND...`, its output in a log of its own."""
        with self._log(name).open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def is_running(self, name: str) -> bool:
        """Whether the process has not ended. Raises ChildError where it ended with trouble."""
        code = self._processes[name].poll()
        if code not in (None, 0):
            raise self.failure(name, f"ended with {'signal' if code < 0 else 'exit code'} {abs(code)}")
        return code is None

    def wait(self, name: str, seconds: float) -> bool:
        """Waits for the end of a process; whether it came."""
        try:
            self._processes[name].wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def ask_to_end(self, name: str) -> None:
        """Tells a process to finish what it does. SIGTERM, as SIGINT is ignored below a shell's background job."""
        if self._processes[name].poll() is None:
            self._processes[name].send_signal(signal.SIGTERM)

    def failure(self, name: str, what: str) -> ChildError:
        """The error that says what happened to a process, with its last lines."""
        lines = self._log(name).read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
        return ChildError("\n".join([f"{name} {what}; its last lines:", *(f"  {line}" for line in lines)]))

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in reversed(self._processes):
            self.end(name)

    def end(self, name: str) -> None:
        """Ends a process, kindly first."""
        self.ask_to_end(name)
        if not self.wait(name, _GRACE_S):
            self._processes[name].kill()
            self._processes[name].wait()

    def _log(self, name: str) -> Path:
        return self._log_folder / f"{name}.log"


def ros_environment(log_folder: Path) -> dict[str, str]:
    """A domain that nobody uses, nothing beyond this machine, and room for large images in Fast DDS."""
    profile = str(ROOT / "config" / "fastdds.xml")
    # Humble only knows the older variable; where both are known, the older one replaces the profile's transports.
    local = {"ROS_LOCALHOST_ONLY": "1"} if os.environ.get("ROS_DISTRO") == "humble" else {}
    return {
        **os.environ,
        **local,
        "ROS_DOMAIN_ID": str(free_domain()),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTRTPS_DEFAULT_PROFILES_FILE": profile,
        "FASTDDS_DEFAULT_PROFILES_FILE": profile,
        "ROS_LOG_DIR": str(log_folder),
        "PYTHONUNBUFFERED": "1",
    }


def free_domain() -> int:
    """A ROS_DOMAIN_ID of which no participant is on this machine."""
    # Domains above 101 reach into the ports that Linux hands out to clients.
    for domain in random.sample(range(1, 102), 101):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                # Where the domain's first participant listens (RTPS 9.6.1.1).
                probe.bind(("", 7410 + 250 * domain))
            except OSError:
                continue
            return domain
    raise ChildError("No free ROS_DOMAIN_ID below 102 on this machine: end some ROS programs.")
