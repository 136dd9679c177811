"""Whole frames with lens distortion and everybody's labels: for detectors and for the pipeline from end to end."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from metrabs_ros.camera import Camera
from training.synthetic.picture import rendered, visible_joints
from training.synthetic.scene import Scene
from training.synthetic.sensor import developed, sampled_sensor

Floats = NDArray[np.floating]
_PITCH = 8
_LARGEST = 4096


@dataclass(frozen=True, eq=False)
class Frame:
    """image [H,W,3] uint8 RGB; camera; up [3] in its optical frame; camera_height m above the floor; per person in
    the picture: boxes [N,4] xywh px of the whole body cut to the picture, joints3d [N,J,3] m in the optical frame,
    joints2d [N,J,2] px (NaN behind the lens), visible [N,J], heights [N] m (standing)."""

    image: NDArray[np.uint8]
    camera: Camera
    up: Floats
    camera_height: float
    boxes: NDArray[np.float64]
    joints3d: NDArray[np.float64]
    joints2d: NDArray[np.float64]
    visible: NDArray[np.bool_]
    heights: NDArray[np.float64]


def frame_of(scene: Scene, rng: np.random.Generator, supersampling: float = 1.5) -> Frame:
    """The scene's camera's picture."""
    camera, R = scene.view.camera, scene.view.R_cam_world
    grid = _rays(camera)
    K, size = _covering(camera, grid, supersampling)
    picture = rendered(scene, K, R, size)
    linear = _through_lens(picture.linear, camera, grid, K, supersampling)
    width, height = camera.size
    x, y = np.meshgrid(np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32))
    linear *= (1 - np.float32(rng.uniform(0, 0.35) * rng.random()) * (x * x + y * y) / 2)[..., None]
    image = developed(linear, sampled_sensor(rng), rng)
    boxes, joints3d, joints2d, visible, heights = [], [], [], [], []
    for person in scene.people:
        box = _box(camera, scene.view.to_camera(person.points[::11].astype(np.float64)))
        if box is None:
            continue
        points = scene.view.to_camera(person.joints)
        pixels, valid = camera.project(points)
        boxes.append(box)
        joints3d.append(points)
        joints2d.append(pixels)
        inside = valid & camera.contains(np.nan_to_num(pixels, nan=-1e6), 0)
        visible.append(inside & visible_joints(picture, person, points, _pinhole(points, K)))
        heights.append(person.shape.height)
    joints = scene.people[0].joints.shape[0]
    return Frame(
        image,
        camera,
        scene.view.up,
        float(scene.view.eye[2]),
        np.array(boxes).reshape(-1, 4),
        np.array(joints3d).reshape(-1, joints, 3),
        np.array(joints2d).reshape(-1, joints, 2),
        np.array(visible, bool).reshape(-1, joints),
        np.array(heights),
    )


def _pinhole(points: Floats, K: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        flat = points @ K.T
        return np.where(points[:, 2:] > 0.05, flat[:, :2] / flat[:, 2:], np.nan)


def _rays(camera: Camera) -> Floats:
    """[GH,GW,2] where on the plane z = 1 the pixels of a grid over the picture look; edges are beyond the picture."""
    width, height = camera.size
    u, v = np.meshgrid(np.arange(-0.5, width + _PITCH, _PITCH), np.arange(-0.5, height + _PITCH, _PITCH))
    rays, valid = camera.unproject(np.stack([u, v], -1))
    flat = rays[..., :2] / np.maximum(rays[..., 2:], 0.05)
    return np.where(valid[..., None], flat, np.nan)


def _covering(camera: Camera, grid: Floats, supersampling: float) -> tuple[Floats, tuple[int, int]]:
    """A pinhole that sees all that the lens sees, as fine as the picture's middle times the supersampling."""
    low, high = np.nanmin(grid.reshape(-1, 2), 0) - 0.01, np.nanmax(grid.reshape(-1, 2), 0) + 0.01
    focal = supersampling * float(camera.K[0, 0])
    focal *= min(1.0, _LARGEST / (focal * float((high - low).max())))
    K = np.array([[focal, 0, -low[0] * focal], [0, focal, -low[1] * focal], [0, 0, 1]])
    size = np.ceil((high - low) * focal).astype(int)
    return K, (int(size[0]), int(size[1]))


def _through_lens(
    linear: NDArray[np.float32], camera: Camera, grid: Floats, K: Floats, supersampling: float
) -> NDArray[np.float32]:
    """The pinhole's picture as the lens would bend it, [H,W,3], smoothed before it is sampled more coarsely."""
    width, height = camera.size
    at = np.nan_to_num(grid * K[0, 0] + K[:2, 2], nan=-1e4).astype(np.float32)
    x = ((np.arange(width) + 0.5) / _PITCH).astype(np.float32)
    y = ((np.arange(height) + 0.5) / _PITCH).astype(np.float32)
    maps = cv2.remap(at, *np.meshgrid(x, y), cv2.INTER_LINEAR)
    if supersampling > 1.2:
        linear = cv2.GaussianBlur(linear, (0, 0), 0.42 * supersampling)
    return cv2.remap(linear, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _box(camera: Camera, outline: Floats) -> Floats | None:
    """xywh px of an outline [N,3] m, cut to the picture; None where none of it is in there."""
    pixels, valid = camera.project(outline)
    pixels = pixels[valid & (outline[:, 2] > 0.1)]
    if not len(pixels):
        return None
    low = np.clip(pixels.min(0), -0.5, np.array(camera.size) - 0.5)
    high = np.clip(pixels.max(0), -0.5, np.array(camera.size) - 0.5)
    return np.array([*low, *(high - low)]) if (high - low).min() > 4 else None
