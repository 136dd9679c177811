"""Joints that are weighted sums of the network's own: as a matrix, written into a spec as text."""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.errors import InputError

# More joints than any released model predicts, few enough for the matrix to fit into memory.
MAX_JOINTS = 4096


@dataclass(frozen=True)
class JointTransform:
    """mirror: index of each network joint's counterpart on the other side; matrix: [len(mirror), joints] float32,
    little endian, row by row, deflated, in base64. A joint is the sum of the network's joints times its column.

    Raises InputError where the text is no such matrix.
    """

    mirror: tuple[int, ...]
    matrix: str
    weights: NDArray[np.float32] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        count = len(self.mirror)
        if not 0 < count <= MAX_JOINTS or any(not 0 <= joint < count for joint in self.mirror):
            raise InputError(
                f"joint_transform: mirror must hold 1 to {MAX_JOINTS} indices below their number, got {count}."
            )
        most = count * MAX_JOINTS * 4
        try:
            inflater = zlib.decompressobj()
            data = inflater.decompress(base64.b64decode("".join(self.matrix.split()), validate=True), most)
        except (binascii.Error, zlib.error, ValueError) as error:
            raise InputError(f"joint_transform: matrix cannot be decoded ({error}): import the engine again.") from None
        if not data or len(data) % (4 * count) or not inflater.eof:
            raise InputError(
                f"joint_transform: matrix must hold rows for {count} network joints, got {len(data)} bytes: "
                "import the engine again."
            )
        weights = np.frombuffer(data, "<f4").reshape(count, -1)
        if not np.isfinite(weights).all():
            raise InputError("joint_transform: matrix must hold finite numbers: import the engine again.")
        object.__setattr__(self, "weights", weights)


def encoded(weights: NDArray[np.float32]) -> str:
    """The text of a matrix [network joints, joints]."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(weights, "<f4").tobytes(), 9)).decode("ascii")
