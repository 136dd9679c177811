"""Matlab's files: version 5 to 7 through SciPy, 7.3 through h5py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import scipy.io

from training.data.missing import Origin


def load(path: Path, origin: Origin, name: str) -> Any:
    """Variable ``name`` of a file up to version 7: structs as objects, cells as arrays, single entries bare."""
    origin.need(path)
    try:
        return scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False, variable_names=[name])[name]
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise origin.damaged(path, f"no {name}: {error}") from error


def open_v73(path: Path, origin: Origin) -> h5py.File:
    """A file of version 7.3, whose arrays have their axes reversed."""
    origin.need(path)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise origin.damaged(path, error) from error
