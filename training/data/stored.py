"""Records as they lie in shards: JSON beside the part of the picture that crops with augmentation may need."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from metrabs_ros.camera import Camera
from training.augmentation.geometry import person_square
from training.data.missing import DataError
from training.data.pictures import PictureBytes, encoded
from training.data.record import Floats, Mask, Record

# Zoom 0.75, a roll of 20° and a shift of 10 % about the person's square.
_MARGIN = (np.cos(np.radians(20)) + np.sin(np.radians(20)) + 0.2) / 0.75
# A person's square larger than this is halved in size, as often as needed: crops have 256 px, zoomed by 1.25.
_LARGEST_PX = 2 * 320
_ARRAYS = ("box", "joints2d", "joints3d", "joints3d_universal", "up")
_TEXTS = ("dataset", "subject", "sequence", "activity", "scene")


def stored(record: Record, key: str) -> dict[str, Any]:
    """A sample of WebDataset: __key__, json, jpg, and mask.png where there is a mask.

    The picture is cut out along whole pixels, its camera with it, so that crops see what they would see in the whole
    picture; only people too large for any crop are averaged down, by a power of two.
    """
    image = record.image()
    low, high = _needed(record)
    part = replace(
        record, camera=record.camera.cropped(low[0], low[1], (high[0] - low[0], high[1] - low[1])), gamma=1.0
    )
    part = replace(part, box=record.box - [*low, 0, 0], joints2d=record.joints2d - low)
    pixels = image[low[1] : high[1], low[0] : high[0]]
    mask = record.mask.load()[low[1] : high[1], low[0] : high[0], 0] if record.mask is not None else None
    factor = 0.5 ** max(0, int(np.ceil(np.log2(record.box[2:].max() / _LARGEST_PX))))
    if factor < 1:
        part, pixels = _shrunk(part, factor), _resized(pixels, factor)
        mask = None if mask is None else _resized(mask, factor)
    sample = {"__key__": key, "json": json.dumps(_to_json(part)).encode(), "jpg": encoded(pixels, ".jpg")}
    if mask is not None:
        sample["mask.png"] = encoded(mask, ".png")
    return sample


def restored(sample: dict[str, Any]) -> Record:
    """The record of a sample. Raises DataError where it is not one."""
    name = f"{sample.get('__key__')} of {sample.get('__url__', 'a shard')}"
    try:
        content = json.loads(sample["json"])
        camera = content["camera"]
        arrays: dict[str, Any] = {
            key: None if content[key] is None else np.array(content[key], float) for key in _ARRAYS
        }
        mask = sample.get("mask.png")
        return Record(
            picture=PictureBytes(sample["jpg"], name),
            camera=Camera(np.array(camera["K"]), np.array(camera["D"]), camera["model"], tuple(camera["size"])),
            joint_names=tuple(content["joint_names"]),
            visible=None if content["visible"] is None else np.array(content["visible"], bool),
            mask=None if mask is None else Mask(PictureBytes(mask, name)),
            frame=content["frame"],
            **{key: content[key] for key in _TEXTS},
            **arrays,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{name} is not an example as training.data.shard writes it ({error!r}).") from error


def _to_json(record: Record) -> dict[str, Any]:
    camera = record.camera
    return {
        "camera": {
            "K": camera.K.tolist(),
            "D": camera.D.tolist(),
            "model": camera.distortion_model,
            "size": list(camera.size),
        },
        "joint_names": list(record.joint_names),
        "visible": None if record.visible is None else record.visible.tolist(),
        "frame": record.frame,
        **{key: getattr(record, key) for key in _TEXTS},
        **{key: _numbers(getattr(record, key)) for key in _ARRAYS},
    }


def _numbers(array: Floats | None) -> Any:
    """Rows of a float array for JSON, in which there is no NaN: null; to the hundredth of a millimetre or pixel."""
    if array is None:
        return None
    return [_numbers(row) if np.ndim(row) else (None if np.isnan(row) else round(float(row), 5)) for row in array]


def _needed(record: Record) -> tuple[list[int], list[int]]:
    """Corners of the part of the picture, px; at least one pixel of it."""
    square = person_square(record.box)
    half = square[2:] / 2 * _MARGIN
    size = np.array(record.camera.size)
    low = np.clip(np.floor(square[:2] + square[2:] / 2 - half), 0, size - 1).astype(int)
    high = np.clip(np.ceil(square[:2] + square[2:] / 2 + half) + 1, low + 1, size).astype(int)
    return low.tolist(), high.tolist()


def _shrunk(record: Record, factor: float) -> Record:
    """Pixel areas are scaled, not pixel centres."""
    width, height = record.camera.size
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    scale = np.array(small) / record.camera.size
    camera = record.camera.zoomed(*scale)
    shift = (scale - 1) / 2
    box = np.concatenate([record.box[:2] * scale + shift, record.box[2:] * scale])
    return replace(record, camera=camera, box=box, joints2d=record.joints2d * scale + shift)


def _resized(pixels: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
