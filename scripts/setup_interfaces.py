"""Generates the message packages in interfaces/ into the venv, with the ROS 2 wheels' own rosidl, and checks them.

Only where no ROS 2 is sourced: the wheels on PyPI lack these packages.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from setup_common import House, SetupError

PACKAGES = ("tf2_msgs", "vision_msgs", "hri_msgs")

# The wheels were built in /opt/python/cp311-cp311 (and its like); their CMake files still name it.
BUILD_HOST_PREFIX = r"/opt/python/cp3\d+-cp3\d+t?"
BUILD_HOST_FOLDERS = (
    ("numpy", r"/lib/python3\.\d+t?/site-packages/numpy/_?core/include"),
    ("purelib", r"/lib/python3\.\d+t?/site-packages"),
    ("include", r"/include/python3\.\d+t?"),
    ("prefix", r"(?=[/;\"'\s)]|$)"),
)


def generate_interfaces(house: House) -> list[Path]:
    """Builds and installs every package of interfaces/, then checks the type hashes."""
    rewrite_build_host_paths(house)
    for package in PACKAGES:
        _remove_installed(house, package)
    for package in PACKAGES:
        _build(house, package)
    shutil.rmtree(house.build_dir)
    check_type_hashes(house)
    return [type_description(house, type_name) for type_name in expected_type_hashes(house.root)]


def expected_type_hashes(root: Path) -> dict[str, str]:
    """How the RIHS01 hash of each type begins, by type, from interfaces/type_hashes.txt."""
    lines = (root / "interfaces" / "type_hashes.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


def type_description(house: House, type_name: str) -> Path:
    """Where rosidl leaves the description, and with it the hash, of `package/Name`."""
    package, name = type_name.split("/")
    return house.venv / "share" / package / "msg" / f"{name}.json"


def generated_type_hashes(house: House) -> dict[str, str]:
    """The RIHS01 hash, in hexadecimal, of each type that was generated."""
    hashes = {}
    for package in PACKAGES:
        for file in sorted((house.venv / "share" / package / "msg").glob("*.json")):
            type_name = f"{package}/{file.stem}"
            entries = json.loads(file.read_text(encoding="utf-8"))["type_hashes"]
            full_name = f"{package}/msg/{file.stem}"
            hash_string = next(entry["hash_string"] for entry in entries if entry["type_name"] == full_name)
            hashes[type_name] = hash_string.removeprefix("RIHS01_")
    return hashes


def check_type_hashes(house: House) -> None:
    """
    Raises:
        SetupError: a generated type is not the one that robots run, or types are missing or too many.
    """
    expected, generated = expected_type_hashes(house.root), generated_type_hashes(house)
    if expected.keys() != generated.keys():
        raise SetupError(
            "interfaces/type_hashes.txt and the generated types differ in "
            f"{', '.join(sorted(expected.keys() ^ generated.keys()))}; list each .msg file in its CMakeLists.txt and "
            "its hash in interfaces/type_hashes.txt."
        )
    for type_name, beginning in expected.items():
        if not generated[type_name].startswith(beginning):
            raise SetupError(
                f"The type hash of {type_name} should begin with {beginning}, but what was generated has "
                f"{generated[type_name][:16]}, so no robot could talk to it; mend the field names, types and their "
                f"order in interfaces/{type_name.replace('/', '/msg/')}.msg or in a type it uses."
            )


def rewrite_build_host_paths(house: House) -> None:
    """Points the wheels' CMake files at this venv. Idempotent; each file is replaced atomically."""
    folders = _this_host_folders(house)
    for file in (house.venv / "share").rglob("*.cmake"):
        text = file.read_text(encoding="utf-8")
        rewritten = rewritten_build_host_paths(text, folders)
        if rewritten != text:
            part = file.with_suffix(".part")
            part.write_text(rewritten, encoding="utf-8")
            part.replace(file)


def rewritten_build_host_paths(text: str, folders: dict[str, str]) -> str:
    """`text` with the build host's folders replaced by `folders`: numpy, purelib, include, prefix."""
    for name, tail in BUILD_HOST_FOLDERS:
        # No backslash of a folder's name may be taken for a group reference.
        text = re.sub(BUILD_HOST_PREFIX + tail, folders[name].replace("\\", r"\\"), text)
    return text


def _this_host_folders(house: House) -> dict[str, str]:
    code = (
        "import json, numpy, sysconfig\n"
        "print(json.dumps([numpy.get_include(), sysconfig.get_path('purelib'), sysconfig.get_path('include')]))"
    )
    result = subprocess.run(
        [house.venv_python, "-c", code], env=house.child_environment(), capture_output=True, text=True, check=True
    )
    numpy, purelib, include = json.loads(result.stdout)
    return {"numpy": numpy, "purelib": purelib, "include": include, "prefix": str(house.venv)}


def _remove_installed(house: House, package: str) -> None:
    """Removes what an earlier generation left, so that no type outlives its .msg file."""
    shutil.rmtree(house.build_dir / package, ignore_errors=True)
    for folder in ("share", "include"):
        shutil.rmtree(house.venv / folder / package, ignore_errors=True)
    shutil.rmtree(house.site_packages / package, ignore_errors=True)
    for library in (house.venv / "lib").glob(f"lib{package}__*.so"):
        library.unlink()


def _build(house: House, package: str) -> None:
    build = house.build_dir / package
    environment = {
        "AMENT_PREFIX_PATH": str(house.venv),
        "PATH": f"{house.venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    definitions = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_PREFIX_PATH": house.venv,
        "CMAKE_INSTALL_PREFIX": house.venv,
        "BUILD_TESTING": "OFF",
        "Python3_FIND_VIRTUALENV": "ONLY",
        "Python3_EXECUTABLE": house.venv / "bin" / "python3",
    }
    configure: list[str | Path] = ["cmake", "-S", house.root / "interfaces" / package, "-B", build, *generator]
    configure += [f"-D{name}={value}" for name, value in definitions.items()]
    house.run(configure, f"Configuring interfaces/{package}", environment)
    house.run(
        ["cmake", "--build", build, "--parallel", str(os.cpu_count() or 1)],
        f"Building interfaces/{package}",
        environment,
    )
    house.run(["cmake", "--install", build], f"Installing interfaces/{package}", environment)
