"""All joints of all people as one sensor_msgs/PointCloud2."""

from __future__ import annotations

import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

Floats = NDArray[np.float64]

# A point: 24 bytes, little endian, without padding.
_LAYOUT = {"x": "<f4", "y": "<f4", "z": "<f4", "uncertainty": "<f4", "track_id": "<u4", "joint": "<u4"}
_DATATYPES = {"<f4": PointField.FLOAT32, "<u4": PointField.UINT32}
POINT = np.dtype(list(_LAYOUT.items()))
_FIELDS = [
    PointField(name=name, offset=4 * index, datatype=_DATATYPES[kind], count=1)
    for index, (name, kind) in enumerate(_LAYOUT.items())
]


def joints_to_cloud(joints: Floats, uncertainty: Floats, track_ids: Sequence[int], header: Header) -> PointCloud2:
    """joints [N,J,3] m in the header's frame, uncertainty [N,J] m -> a cloud of height N (people) and width J (joints).

    ``joint`` is the index in the skeleton (~/skeleton names them); places and uncertainties that are not known are NaN.
    """
    count, width = joints.shape[:2]
    points = np.empty((count, width), POINT)
    points["x"], points["y"], points["z"] = np.moveaxis(joints, -1, 0)
    points["uncertainty"] = uncertainty
    points["track_id"] = np.reshape(np.asarray(track_ids, np.uint32), (count, 1))
    points["joint"] = np.arange(width)
    # The setter takes an array.array as it is and checks any other type byte by byte.
    data = array.array("B")
    data.frombytes(points.tobytes())
    return PointCloud2(
        header=header,
        height=count,
        width=width,
        fields=_FIELDS,
        is_bigendian=False,
        point_step=POINT.itemsize,
        row_step=width * POINT.itemsize,
        data=data,
        is_dense=bool(np.isfinite(joints).all()),
    )
