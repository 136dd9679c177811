"""From linear light to the picture a camera stores: exposure, blur, noise, tone curve, JPEG, and low resolution."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.synthetic.light import colour_of_temperature

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Sensor:
    """exposure: factor on the picture's typical light; balance: RGB gains; defocus and motion px of the stored picture;
    motion_angle rad; noise: read noise (0..1); shot: noise growing with light; gamma, contrast, saturation; jpeg
    quality (0: none); vignette: darkening at the corners of the whole picture; sharpen."""

    exposure: float
    balance: tuple[float, float, float]
    defocus: float
    motion: float
    motion_angle: float
    noise: float
    shot: float
    gamma: float
    contrast: float
    saturation: float
    jpeg: int
    sharpen: float
    grey: bool


def sampled_sensor(rng: np.random.Generator) -> Sensor:
    """From a good camera in good light to a cheap one at night."""
    bad = rng.random() ** 2
    balance = colour_of_temperature(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.03, 3))
    return Sensor(
        exposure=float(np.exp(rng.normal(0, 0.35))),
        balance=(float(balance[0]), float(balance[1]), float(balance[2])),
        defocus=float(abs(rng.normal(0, 0.6 + 0.6 * bad))),
        motion=float(rng.uniform(1.5, 9) if rng.random() < 0.15 else 0),
        motion_angle=float(rng.uniform(0, np.pi)),
        noise=float(rng.uniform(0, 0.003) + 0.012 * bad * rng.random()),
        shot=float(rng.uniform(0, 0.01) + 0.03 * bad * rng.random()),
        gamma=float(np.exp(rng.normal(0, 0.12))),
        contrast=float(np.exp(rng.normal(0, 0.18))),
        saturation=float(np.clip(rng.normal(1, 0.25), 0.1, 1.8)),
        jpeg=int(rng.uniform(25, 96)) if rng.random() < 0.8 else 0,
        sharpen=float(rng.uniform(0.2, 1.2)) if rng.random() < 0.3 else 0.0,
        grey=bool(rng.random() < 0.03),
    )


def developed(linear: NDArray[np.float32], sensor: Sensor, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Linear light [H,W,3] at the picture's own resolution -> the stored picture [H,W,3] uint8 RGB."""
    image = linear
    typical = float(np.mean(image[::4, ::4])) + 1e-4
    image = image * (
        np.array(sensor.balance, np.float32) * np.float32(0.22 * sensor.exposure / (0.35 * 0.22 + 0.65 * typical))
    )
    if sensor.defocus > 0.35:
        image = cv2.GaussianBlur(image, (0, 0), sensor.defocus)
    if sensor.motion > 1:
        image = cv2.filter2D(image, -1, _streak(sensor.motion, sensor.motion_angle))
    grain = _noise(rng, image.shape)
    image = image + grain * (np.float32(sensor.noise) + np.float32(sensor.shot) * np.sqrt(np.maximum(image, 0)))
    # A shoulder instead of a hard clip, then the display curve.
    bright = np.maximum(image - np.float32(0.7), 0)
    image = np.clip(image, 0, np.float32(0.7)) + bright / (1 + bright * np.float32(1 / 0.3))
    image = cv2.pow(image, sensor.gamma / 2.2)
    image = cv2.transform(image, _toned(sensor))
    if sensor.sharpen > 0:
        image = image + sensor.sharpen * (image - cv2.GaussianBlur(image, (0, 0), 1.2))
    stored = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    if sensor.jpeg:
        ok, data = cv2.imencode(
            ".jpg", cv2.cvtColor(stored, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, sensor.jpeg]
        )
        if ok:
            stored = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return stored


def _toned(sensor: Sensor) -> NDArray[np.float32]:
    """Contrast about the middle and saturation as one affine colour map [3,4]."""
    saturation = 0.0 if sensor.grey else sensor.saturation
    colour = saturation * np.eye(3) + (1 - saturation) * np.array([0.299, 0.587, 0.114])
    middle = np.full((3, 1), 0.5 - 0.5 * sensor.contrast)
    return np.concatenate([sensor.contrast * colour, middle], 1).astype(np.float32)


_GRAIN: list[NDArray[np.float32]] = []


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Gaussian noise cut from a fixed field at a random place: a tenth of the cost of drawing it."""
    if not _GRAIN:
        _GRAIN.append(np.random.default_rng(0).standard_normal((2048 * 2048 + 7, 3), np.float32))
    field = _GRAIN[0]
    count = shape[0] * shape[1]
    start = int(rng.integers(0, max(1, len(field) - count)))
    if count > len(field):
        return rng.standard_normal(shape, np.float32)
    return field[start : start + count].reshape(shape)


def _streak(length: float, angle: float) -> NDArray[np.float32]:
    side = int(np.ceil(length)) | 1
    kernel = np.zeros((side, side), np.float32)
    middle = side // 2
    for t in np.linspace(-length / 2, length / 2, side * 3):
        x, y = round(middle + t * np.cos(angle)), round(middle + t * np.sin(angle))
        if 0 <= x < side and 0 <= y < side:
            kernel[y, x] += 1
    return kernel / kernel.sum()
