"""The venv and the pinned Python packages in it, and the check that a sourced ROS 2 has what the node needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setup_common import House, SetupError

# Import name -> what follows ros-DISTRO- in the name of its apt package.
SOURCED_ROS_PACKAGES = {
    "rclpy": "rclpy",
    "tf2_msgs": "tf2-msgs",
    "vision_msgs": "vision-msgs",
    "visualization_msgs": "visualization-msgs",
    "sensor_msgs": "sensor-msgs",
    "std_srvs": "std-srvs",
    "diagnostic_msgs": "diagnostic-msgs",
}


def remove_venv(house: House) -> None:
    """Removes the venv so that, killed half-way, what is left is neither taken for whole nor for somebody else's.

    Raises:
        SetupError: there is a .venv that this set-up did not make.
    """
    if not os.path.lexists(house.venv):
        return
    is_plain_folder = house.venv.is_dir() and not house.venv.is_symlink()
    if not is_plain_folder or (any(house.venv.iterdir()) and not house.state_dir.is_dir()):
        raise SetupError(
            f"{house.venv} was not made by this set-up, so it is left alone; move it away or remove it, then run "
            "`make setup` again."
        )
    if house.state_dir.is_dir():
        for stamp in house.state_dir.iterdir():
            stamp.unlink()
    for entry in house.venv.iterdir():
        if entry != house.state_dir:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    shutil.rmtree(house.venv)


def make_venv(house: House) -> list[Path]:
    """Makes the venv. With a sourced ROS 2 it sees the system's packages: rclpy's apt dependencies lie there."""
    options = [] if house.ros_distro is None else ["--system-site-packages"]
    house.run([sys.executable, "-m", "venv", *options, house.venv], "Making the virtual environment")
    return [house.venv / "pyvenv.cfg"]


def requirement_files(house: House) -> list[Path]:
    """The files of pins, the robot's first."""
    folder = house.root / "requirements"
    ros = "ros-wheels.txt" if house.ros_distro is None else "constraints-sourced-ros.txt"
    return [folder / "run.txt", folder / "dev.txt", folder / ros]


def install_packages(house: House) -> list[Path]:
    """Installs every pin and checks that what is installed fits together."""
    run, dev, ros = requirement_files(house)
    ros_options: list[str | Path] = ["-r", ros] if house.ros_distro is None else ["-c", ros]
    pip: list[str | Path] = [house.venv_python, "-m", "pip", "--disable-pip-version-check"]
    house.run([*pip, "install", "-r", run, "-r", dev, *ros_options], "Installing the pinned Python packages")
    house.run([*pip, "install", "--no-deps", "-r", alone_file(house)], "Installing what the tests parse URDFs with")
    if house.ros_distro is None:
        house.run([*pip, "check"], "Checking that the installed Python packages fit together")
    # Beside a sourced ROS 2 the system's own may do: Ubuntu 24.04 has the very numpy that is pinned.
    witnesses = [house.site_packages / name / "__init__.py" for name in ("numpy", "cv2", "pytest")]
    return [file for file in witnesses if file.is_file()]


def alone_file(house: House) -> Path:
    """The pins that are installed without their dependencies."""
    return house.root / "requirements" / "dev-alone.txt"


def training_file(house: House) -> Path:
    """The pins of what only training/ needs."""
    return house.root / "requirements" / "training.txt"


def install_training(house: House) -> list[Path]:
    """Installs torch and what else training/ needs; the file names all of it, so pip resolves nothing."""
    pip: list[str | Path] = [house.venv_python, "-m", "pip", "--disable-pip-version-check"]
    house.run([*pip, "install", "--no-deps", "-r", training_file(house)], "Installing what training needs")
    return [house.site_packages / "torch" / "__init__.py"]


def check_sourced_ros(house: House) -> list[Path]:
    """Checks that the sourced ROS 2 can be used from the venv; makes nothing.

    Raises:
        SetupError: a package of it cannot be imported; names the apt packages.
    """
    failures = {module: error for module in SOURCED_ROS_PACKAGES if (error := _import_error(house, module))}
    if failures:
        packages = " ".join(f"ros-{house.ros_distro}-{SOURCED_ROS_PACKAGES[module]}" for module in failures)
        raise SetupError(
            f"ROS_DISTRO is {house.ros_distro}, but Python {sys.version_info.major}.{sys.version_info.minor} cannot "
            f"import {', '.join(failures)} ({next(iter(failures.values()))}); run "
            f"`source /opt/ros/{house.ros_distro}/setup.bash` and `sudo apt-get install {packages}`, use the Python "
            "this ROS 2 is built for "
            "(`make setup PYTHON=/usr/bin/python3`), or unset ROS_DISTRO to have the wheels from PyPI.",
            exit_code=2,
        )
    return []


def _import_error(house: House, module: str) -> str | None:
    """The last line of what importing `module` in the venv's Python says, None where it works."""
    code = f"import {module}.msg" if module.endswith("_msgs") else f"import {module}"
    result = subprocess.run(
        [house.venv_python, "-c", code], env=house.child_environment(), capture_output=True, text=True, check=False
    )
    if result.returncode == 0:
        return None
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else f"status {result.returncode}"
