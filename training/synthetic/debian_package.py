"""Files out of Debian's packages: downloaded and unpacked without root, with the licence of each."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import zlib
from pathlib import Path

from metrabs_ros.errors import InputError

_HELD_OUT = 0.2


def unpacked(package: str, scratch: Path) -> Path:
    """The folder of the package's files, in scratch. Raises InputError where it cannot be downloaded."""
    try:
        subprocess.run(
            ["apt-get", "download", package], cwd=scratch, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        raise InputError(
            f"apt-get could not download the Debian package {package} ({said.decode(errors='replace').strip()}): run "
            "`sudo apt-get update` and try again; other systems than Debian may lack it."
        ) from error
    root = scratch / "root"
    for deb in scratch.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(deb), str(root)], check=True)
    return root


def licences_of(root: Path, package: str) -> list[tuple[str, str]]:
    """(glob, licence) pairs of the package's machine-readable copyright file, later ones stronger."""
    copyright_file = root / "usr/share/doc" / package / "copyright"
    pairs = []
    for stanza in re.split(r"\n\s*\n", copyright_file.read_text(encoding="utf-8")):
        files = re.search(r"^Files:((?:.*\n)(?:[ \t]+.*\n)*)", stanza, re.M)
        licence = re.search(r"^License:[ \t]*(\S+)", stanza, re.M)
        if files and licence:
            pairs += [(glob, licence.group(1)) for glob in files.group(1).split()]
    return pairs


def licence_of(source: str, licences: list[tuple[str, str]]) -> str | None:
    """Of the file ``source``, a path in the package; None where the copyright file has none for it."""
    return next((name for glob, name in reversed(licences) if _matches(source, glob)), None)


def kept_aside(path: str) -> tuple[str, bool]:
    """A stem for a copy of the file in a cache, and whether it is kept for evaluation: one in five, by its path."""
    number = zlib.crc32(path.encode())
    return f"{number:08x}", number % 1000 < _HELD_OUT * 1000


def _matches(source: str, glob: str) -> bool:
    """Globs are of the source package: the binary one keeps the names of files, but not always their folders."""
    name = Path(glob).name
    return glob == "*" or fnmatch.fnmatch(source, f"*/{glob}") or ("*" not in name and Path(source).name == name)
