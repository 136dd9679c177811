"""Pickles of data sets, read with an allow-list: arrays, numbers, strings and containers, nothing that runs."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from training.data.missing import Origin

# NumPy's own ways to rebuild arrays and scalars, wherever this version of it keeps them.
_reconstruct = np.empty(0).__reduce__()[0]
_scalar = np.float64(0).__reduce__()[0]
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    # How newer pickles write the bytes that Python 2 wrote as strings: text and the name of an encoding.
    ("_codecs", "encode"): lambda text, encoding="latin1": str(text).encode("latin1"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which no annotation needs") from None


def load(path: Path, origin: Origin) -> Any:
    """Also pickles of Python 2. Raises DataError for a missing or damaged file, or one that wants anything else."""
    origin.need(path)
    with path.open("rb") as file:
        try:
            return _Unpickler(file, encoding="latin1").load()
        except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            raise origin.damaged(path, error) from error
