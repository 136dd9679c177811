"""Lays the package itself into the venv as `ros2 run` and launch files look for it, and fetches the weights."""

from __future__ import annotations

from pathlib import Path

from setup_common import House, SetupError

PACKAGE = "metrabs_ros"
CONSOLE_SCRIPTS = ("pose_node", "video_source", "metrabs-pose", "metrabs-engine", "metrabs-bench")
# blazepose_heavy, a peer to compare with and train from, is 50 MB of npm for those who want it.
ENGINES = ("metrabs_base", "blazepose_full")
SHARED_FOLDERS = ("launch", "rviz", "config", "engines")
WEIGHT_SUFFIXES = {".onnx", ".tflite", ".bin", ".xml"}


def install_package(house: House) -> list[Path]:
    """Installs the checkout editable and adds what pip leaves out: the ament marker, share/ and lib/."""
    command: list[str | Path] = [house.venv_python, "-m", "pip", "--disable-pip-version-check", "install"]
    house.run([*command, "--no-deps", "--no-build-isolation", "--editable", house.root], f"Installing {PACKAGE}")
    marker = house.venv / "share" / "ament_index" / "resource_index" / "packages" / PACKAGE
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    share = house.venv / "share" / PACKAGE
    _link(share / "package.xml", house.root / "package.xml")
    for folder in shared_folders(house):
        _link(share / folder, house.root / folder)
    for script in CONSOLE_SCRIPTS:
        _link(house.venv / "lib" / PACKAGE / script, house.venv / "bin" / script)
    return [marker, *(house.venv / "lib" / PACKAGE / script for script in CONSOLE_SCRIPTS)]


def shared_folders(house: House) -> list[str]:
    """The folders of the checkout that nodes and launch files look for in share/."""
    return [folder for folder in SHARED_FOLDERS if (house.root / folder).is_dir()]


def fetch_weights(house: House) -> list[Path]:
    """Fetches the weights of the engines that run, test and demonstrate the package.

    The command checks their sha256 and replaces files atomically.

    Raises:
        SetupError: the command is not there yet, or it failed.
    """
    if not (house.root / PACKAGE / "cli" / "engine" / "fetch.py").is_file():
        raise SetupError(
            f"Everything but the weights is set up: {PACKAGE}/cli/engine/fetch.py, which fetches them, is not in this "
            "checkout; run `make setup` again once it is."
        )
    engines = house.root / "engines"
    house.run([house.venv / "bin" / "metrabs-engine", "fetch", *ENGINES, "--to", engines], "Fetching the weights")
    return [file for file in engines.iterdir() if file.suffix in WEIGHT_SUFFIXES]


def _link(link: Path, target: Path) -> None:
    """Makes `link` point at `target`, whatever stood there from an earlier set-up."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() or link.is_file():
        link.unlink()
    link.symlink_to(target)
