"""Messages of which only numbers and the stamp change: serialized once, then written into.

rclpy makes C of a message object by object, in Python's time: of 16 people's frames and markers in 30 ms on a slow
core, while their bytes are written in one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import ArrayLike, NDArray
from rclpy.serialization import serialize_message

# What is looked for in the bytes: a stamp, and numbers that are the next bit patterns after each other.
_STAMP = Time(sec=0x5AC3A53C, nanosec=0xA53CC35A)
_STAMP_BYTES = struct.pack("=iI", _STAMP.sec, _STAMP.nanosec)
_FIRST_NUMBER = np.uint64(0xC7A55A5A00000000)

# A message whose headers have the stamp given, and its points, vectors and quaternions that change, each an object of
# its own, in the message's order.
Build = Callable[[Time], tuple[Any, Sequence[Any]]]


class Serialized:
    """The message that ``build`` makes, as bytes."""

    def __init__(self, build: Build) -> None:
        message, vectors = build(_STAMP)
        slots = [(vector, axis) for vector in vectors for axis in "xyzw" if hasattr(vector, axis)]
        marks = (_FIRST_NUMBER + np.arange(len(slots), dtype=np.uint64)).view(np.float64)
        for (vector, axis), mark in zip(slots, marks.tolist(), strict=True):
            setattr(vector, axis, mark)
        self._data = bytearray(serialize_message(message))
        places = _in_order(self._data, marks)
        # Numbers are aligned among themselves, but come after a header of four bytes.
        offset = int(places[0]) % marks.itemsize if len(places) else 0
        self._numbers = _view(self._data, np.float64, offset)
        self._number_at = (places - offset) // marks.itemsize
        self._words = _view(self._data, np.uint32, 0)
        self._stamp_at = _all_of(self._data, _STAMP_BYTES) // 4

    def at(self, stamp: Time, numbers: ArrayLike) -> bytes:
        """With a stamp and all the vectors' numbers, in their order; to be published instead of a message."""
        self._numbers[self._number_at] = np.ravel(numbers)
        self._words[self._stamp_at] = stamp.sec & 0xFFFFFFFF
        self._words[self._stamp_at + 1] = stamp.nanosec
        return bytes(self._data)


def _in_order(data: bytearray, marks: NDArray[np.float64]) -> NDArray[np.intp]:
    places, start = [], 0
    for mark in marks:
        start = data.index(mark.tobytes(), start)
        places.append(start)
    return np.array(places, np.intp)


def _all_of(data: bytearray, pattern: bytes) -> NDArray[np.intp]:
    places, at = [], data.find(pattern)
    while at >= 0:
        places.append(at)
        at = data.find(pattern, at + 1)
    return np.array(places, np.intp)


def _view(data: bytearray, dtype: type[np.generic], offset: int) -> NDArray[Any]:
    """As many whole items as there are from ``offset`` on."""
    return np.frombuffer(data, dtype, (len(data) - offset) // np.dtype(dtype).itemsize, offset)
