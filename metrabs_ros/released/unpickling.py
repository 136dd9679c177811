"""Plain data out of a pickle: lists, numbers, text and numpy arrays of them; whatever else it asks for is refused.

A pickle is a program. This one may only call what is named here, none of which has an effect outside the data.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from metrabs_ros.errors import InputError

_MAX_BYTES = 64 << 20
# How a numpy array, its type and a number of numpy name themselves in old and new pickles.
_NUMPY_ROOMS = ("numpy.core.multiarray", "numpy._core.multiarray")
# Protocol 2 writes bytes as text in Latin-1.
_BYTES_ENCODING = ("latin1", "latin-1")


def read(path: Path) -> Any:
    """The data in a pickle file. Raises InputError where it is too large, damaged or asks for anything else."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is larger than {_MAX_BYTES >> 20} MiB, which no released model's is.")
        return _Unpickler(io.BytesIO(path.read_bytes())).load()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    except _RefusedError as error:
        raise InputError(
            f"{path} asks for {error}, which a released model does not need: it may be an attack; nothing was run. "
            "Get the model from its authors."
        ) from None
    except InputError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} is damaged ({said[:120]}): copy the model directory again.") from None


class _RefusedError(Exception):
    pass


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _NUMPY_ROOMS and name == "_reconstruct":
            return _empty_array
        if module in _NUMPY_ROOMS and name == "scalar":
            return _number
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if (module, name) == ("_codecs", "encode"):
            return _encoded
        raise _RefusedError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError("an object stored elsewhere")


def _empty_array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """What numpy makes before it fills in shape and data; of no size, whatever the pickle says."""
    del shape, code
    if kind is not np.ndarray:
        raise _RefusedError(f"an array of kind {kind!r:.60}")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _number(kind: Any, data: Any = None) -> Any:
    if not isinstance(kind, np.dtype) or kind.hasobject or not isinstance(data, bytes) or len(data) != kind.itemsize:
        raise _RefusedError("a number that is none")
    return np.frombuffer(data, kind)[0]


def _encoded(text: Any, encoding: Any = None) -> bytes:
    if not isinstance(text, str) or encoding not in _BYTES_ENCODING:
        raise _RefusedError(f"text in the encoding {encoding!r:.60}")
    return text.encode("latin-1")
