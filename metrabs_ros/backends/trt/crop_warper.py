"""Crops made on the GPU, straight into a network's input: the image goes up once, and nothing of it comes back."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.backends.trt.device import Device
from metrabs_ros.crop_plan import CropPlan, decoding
from metrabs_ros.model_spec import InputSpec

# As struct Crop of the kernel.
RECORD = np.dtype(
    [
        ("H_squares_crop", np.float64, 9),
        ("exponent", np.float32),
        *((name, np.int32) for name in ("pitch", "left", "top", "wide", "tall", "is_through_grid")),
    ],
    align=True,
)
_THREADS = (32, 8, 1)


def kernel_source() -> str:
    """CUDA C with one kernel, ``warp``."""
    return files("metrabs_ros.backends.trt").joinpath("warp_kernel.cu").read_text(encoding="utf-8")


def records_of(plan: CropPlan, size: tuple[int, int]) -> tuple[NDArray[Any], NDArray[np.float32], slice]:
    """What the kernel reads of a plan for an image of ``size`` (width, height): a RECORD and a grid a crop, [N,G,G,2],
    whose content counts where the crop is read through it, and the rows of the image in which all of them lie; squares
    count from the first one."""
    records = np.zeros(len(plan), RECORD)
    records["pitch"] = 1
    records["exponent"] = plan.exponents
    grids = np.empty_like(plan.grids)
    bottoms = []
    for i, record in enumerate(records):
        reading = plan.reading(i, slice(0, plan.side), size)
        if reading is None:
            continue
        record["pitch"] = reading.squares.pitch
        record["left"], record["top"] = reading.squares.corner_of(reading.first)
        record["wide"], record["tall"] = reading.end - reading.first
        bottoms.append(int(reading.squares.corner_of(reading.end)[1]))
        if reading.grid is None:
            assert reading.H_squares_crop is not None
            record["H_squares_crop"] = reading.H_squares_crop.ravel()
        else:
            record["is_through_grid"], grids[i] = 1, reading.grid
    seen = records["wide"] > 0
    rows = slice(int(records["top"][seen].min()), max(bottoms)) if bottoms else slice(0, 0)
    records["top"][seen] -= rows.start
    return records, grids, rows


class CropWarper:
    """Makes crops for a network's input. Calls come from whoever has the device to themselves.

    Raises DeviceError where the kernel cannot be compiled or loaded, OutOfMemoryError where the GPU has no room.
    """

    def __init__(self, device: Device, spec: InputSpec) -> None:
        self._device = device
        self._channels_last = spec.layout == "NHWC"
        self._kernel = device.kernel(kernel_source(), "warp")
        self._constants, self._image, self._records, self._grids = (_Upload(device) for _ in range(4))
        self._constants_of_spec = np.concatenate([decoding(), spec.mean, spec.std]).astype(np.float32)
        self._row_bytes = self._side = self._points = 0

    def show(self, image: NDArray[np.uint8], plan: CropPlan) -> None:
        """Takes what of image [H,W,3] the crops of the plan show to the GPU, for ``put``."""
        height, width = image.shape[:2]
        records, grids, rows = records_of(plan, (width, height))
        self._row_bytes, self._side, self._points = 3 * width, plan.side, grids.shape[1]
        if not self._constants.address:
            self._constants.put(self._constants_of_spec)
        # Room for any rows of it: people move.
        self._image.reserve(image.nbytes)
        self._image.put(image[rows])
        self._records.put(records)
        if records["is_through_grid"].any():
            self._grids.put(grids)

    def put(self, part: slice, address: int) -> None:
        """Makes the crops ``part`` of the plan shown, [n,S,S,3] or [n,3,S,S] float32 as the network wants them."""
        tall, wide = _THREADS[1], _THREADS[0]
        blocks = (-(-self._side // wide), -(-self._side // tall), part.stop - part.start)
        grid_bytes = self._points**2 * 2 * 4
        arguments = (
            np.uint64(self._image.address),
            np.int32(self._row_bytes),
            np.uint64(self._constants.address),
            np.uint64(self._records.address + part.start * RECORD.itemsize),
            np.uint64(self._grids.address + part.start * grid_bytes),
            np.int32(self._points),
            np.int32(self._side),
            np.int32(self._channels_last),
            np.uint64(address),
        )
        self._device.run_kernel(self._kernel, blocks, _THREADS, arguments)

    def release(self) -> None:
        """Gives all memory back."""
        for upload in (self._constants, self._image, self._records, self._grids):
            upload.release()


class _Upload:
    """Memory on the GPU and its pinned twin on the host, which grow to what is put there."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._host: NDArray[np.uint8] | None = None
        self.address = 0

    def reserve(self, nbytes: int) -> None:
        if self._host is not None and len(self._host) >= nbytes:
            return
        self.release()
        self.address = self._device.allocated(nbytes)
        self._host = self._device.pinned((nbytes,), np.uint8)

    def put(self, values: NDArray[Any]) -> None:
        """The last upload must be done by now."""
        self.reserve(values.nbytes)
        if not values.nbytes:
            return
        assert self._host is not None
        staged = self._host[: values.nbytes]
        staged.view(values.dtype).reshape(values.shape)[...] = values
        self._device.upload(self.address, staged)

    def release(self) -> None:
        if self.address:
            self._device.free(self.address)
        if self._host is not None:
            self._device.free_pinned(self._host)
        self.address, self._host = 0, None
