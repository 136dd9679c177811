"""Crops as virtual cameras: each person is seen by a pinhole camera turned to look at the middle of their box.

Turning the camera instead of cutting a rectangle keeps perspective and lens distortion out of what the network sees
(P 6). Resampling is done in linear light and without aliasing. Transforms are named R_dst_src.
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrabs_ros import pyramid
from metrabs_ros.camera import Camera
from metrabs_ros.small_matrices import cross, inverse

Floats = NDArray[np.float64]

_GAMMA = 2.2
# Lens distortion is followed on a grid of this pitch, px of the crop, and interpolated between.
_GRID_PITCH = 8
# Crops made at the same time; more would take the cores from the rest of the robot.
_MOST_THREADS = 4
# An image point that the lens model does not reach is read from here: outside every image.
_NOWHERE = -1e4


@dataclass(frozen=True, eq=False)
class VirtualCameras:
    """N square pinhole cameras at the real camera's place: K [N,3,3] px, R_crop_cam [N,3,3], side px."""

    K: Floats
    R_crop_cam: Floats
    side: int

    def __len__(self) -> int:
        return len(self.K)

    def taken(self, index: slice) -> VirtualCameras:
        """The cameras at ``index``."""
        return VirtualCameras(self.K[index], self.R_crop_cam[index], self.side)


def virtual_cameras(
    camera: Camera, boxes: ArrayLike, side: int, up: ArrayLike, box_scale: float = 1.0, focal: str = "square"
) -> tuple[VirtualCameras, NDArray[np.bool_]]:
    """Cameras that look at boxes [N,4] xywh px, and which boxes [N] the lens can see.

    up [3] or [N,3]: the direction in the camera's optical frame that shall point up on the crop. ``box_scale`` times
    the larger extent of the box fills the crop. A box that cannot be seen gets the camera's own axis. ``focal``: square
    pixels, or "camera": the extents are compared and the crop's pixels shaped as the camera's own, as in the released
    code, which also takes what lies beside or behind the virtual camera as it comes.
    """
    # What a normalised image point is multiplied by before extents are measured: the crop's pixels but for their size.
    pixels = np.eye(2) if focal == "square" else camera.K[:2, :2]
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    boxes = np.where(np.isfinite(boxes), boxes, np.nan)
    middles = boxes[:, None, :2] + boxes[:, None, 2:] * np.array([[0.5, 0.5], [0, 0.5], [1, 0.5], [0.5, 0], [0.5, 1]])
    rays, seen = camera.unproject(_clamped_into_view(camera, middles))
    seen = seen.all(1) & (boxes[:, 2:] > 0).all(1)
    rays = np.where(seen[:, None, None], rays, [0.0, 0.0, 1.0])
    forward = rays[:, 0]
    R_crop_cam = _looking_along(forward, np.broadcast_to(np.asarray(up, np.float64), forward.shape))
    in_crop = np.einsum("nrc,npc->npr", R_crop_cam, rays[:, 1:])
    depth = np.maximum(in_crop[..., 2:], 0.05) if focal == "square" else in_crop[..., 2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        flat = in_crop[..., :2] / depth @ pixels.T
    extents = np.stack(
        [np.linalg.norm(flat[:, 1] - flat[:, 0], axis=-1), np.linalg.norm(flat[:, 3] - flat[:, 2], axis=-1)], -1
    )
    seen &= np.isfinite(extents).all(-1)
    extent = np.where(seen, extents.max(-1), 1.0) * box_scale
    K = np.zeros((len(boxes), 3, 3))
    K[:, :2, :2] = pixels * (side / np.maximum(extent, 1e-6))[:, None, None]
    K[:, :2, 2] = side / 2
    K[:, 2, 2] = 1
    return VirtualCameras(K, R_crop_cam, side), seen


def warp(
    image: NDArray[np.uint8],
    camera: Camera,
    virtual: VirtualCameras,
    gamma: ArrayLike = 1.0,
    resampling: str = "area",
) -> NDArray[np.float32]:
    """What the virtual cameras see of image [H,W,3] uint8 RGB: [N,S,S,3] float32 in 0..1; zero outside the image.

    gamma, one for all or [N]: the exponent of the crops' values, below 1 brighter. Where a crop is smaller than what it
    shows, it reads means over ``resampling`` "area": squares of as many image pixels as one of its own spans, or
    "pyramid": the levels 1, 2 and 4 px, level floor(-log2 scale) clipped to 0..2, as the released code does.
    """
    crops = np.empty((len(virtual), virtual.side, virtual.side, 3), np.float32)
    exponents = np.broadcast_to(np.asarray(gamma, np.float64) / _GAMMA, len(virtual))

    def fill(i: int) -> None:
        K, R_crop_cam, exponent = virtual.K[i], virtual.R_crop_cam[i], float(exponents[i])
        if resampling == "pyramid":
            pixels = _seen_pixels(camera, K, R_crop_cam, np.arange(virtual.side))
            linear = pyramid.sampled(image, pixels, abs(K[0, 0]) / camera.K[0, 0], _decoding())
            cv2.pow(linear, exponent, crops[i])
            return
        grid = _source_grid(camera, K, R_crop_cam, virtual.side)
        H_img_crop = None if camera.is_distorted else camera.K @ R_crop_cam.T @ inverse(K)
        _resample(image, grid, H_img_crop, exponent, crops[i])

    if len(virtual) > 1:
        # OpenCV and numpy let go of the interpreter, and the network waits for all crops.
        for _ in _threads().map(fill, range(len(virtual))):
            pass
    elif len(virtual):
        fill(0)
    return crops


def to_camera_frame(points: ArrayLike, R_crop_cam: Floats) -> Floats:
    """Points [N,J,3] in the frames of the virtual cameras -> the real camera's optical frame."""
    return np.einsum("nrc,njr->njc", R_crop_cam, np.asarray(points, np.float64))


def to_image(coords2d: ArrayLike, virtual: VirtualCameras, camera: Camera) -> tuple[Floats, NDArray[np.bool_]]:
    """Crop pixels [N,J,2] -> pixels of the real image and whether they have a place in it (crop there and back)."""
    coords2d = np.asarray(coords2d, np.float64)
    homogeneous = np.concatenate([coords2d, np.ones_like(coords2d[..., :1])], -1)
    rays = np.einsum("nrc,njc->njr", inverse(virtual.K), homogeneous)
    return camera.project(to_camera_frame(rays, virtual.R_crop_cam))


def from_image(pixels: ArrayLike, virtual: VirtualCameras, camera: Camera) -> tuple[Floats, NDArray[np.bool_]]:
    """Pixels [N,J,2] of the real image -> crop pixels, valid where they lie in front of the virtual camera."""
    rays, seen = camera.unproject(pixels)
    in_crop = np.einsum("nrc,njc->njr", virtual.K @ virtual.R_crop_cam, rays)
    valid = seen & (in_crop[..., 2] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(valid[..., None], in_crop[..., :2] / in_crop[..., 2:], np.nan), valid


def up_along(camera: Camera, centers: ArrayLike, directions: ArrayLike) -> Floats:
    """The 3D direction [N,3] that, at pixels ``centers`` [N,2], looks like ``directions`` [N,2]; NaN if unknown."""
    centers, directions = np.asarray(centers, np.float64), np.asarray(directions, np.float64)
    here, _ = camera.unproject(centers)
    there, _ = camera.unproject(centers + directions)
    return there - here


def _clamped_into_view(camera: Camera, pixels: Floats) -> Floats:
    """Fisheye and strongly bent lenses see less than a large box spans: its side midpoints are pulled to its centre."""
    _, seen = camera.unproject(pixels)
    if seen.all():
        return pixels
    center = pixels[:, :1]
    pulled = pixels
    for _ in range(8):
        pulled = np.where(seen[..., None], pulled, center + 0.8 * (pulled - center))
        _, seen = camera.unproject(pulled)
    return pulled


def _looking_along(forward: Floats, up: Floats) -> Floats:
    """Rotations [N,3,3] into frames with z along ``forward`` and -y as near to ``up`` as can be."""
    x = cross(forward, up)
    parallel = np.linalg.norm(x, axis=-1) < 1e-3 * np.linalg.norm(up, axis=-1)
    # Looking straight up or down: the camera's own forward axis stands in for up.
    x = np.where(parallel[:, None], cross(forward, np.broadcast_to([0.0, -1.0, -1.0], up.shape)), x)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    y = cross(forward, x)
    return np.stack([x, y, forward], 1)


def _source_grid(camera: Camera, K: Floats, R_crop_cam: Floats, side: int) -> NDArray[np.float32]:
    """Image pixels [G,G,2] at which a grid of crop pixels, ``_GRID_PITCH`` apart, is to be read."""
    steps = np.arange(0, side + _GRID_PITCH, _GRID_PITCH, dtype=np.float64)
    return _seen_pixels(camera, K, R_crop_cam, steps).astype(np.float32)


def _seen_pixels(camera: Camera, K: Floats, R_crop_cam: Floats, steps: NDArray[np.generic]) -> Floats:
    """Image pixels [G,G,2] of the crop pixels whose columns and rows are ``steps`` [G]."""
    u, v = np.meshgrid(np.asarray(steps, np.float64), np.asarray(steps, np.float64))
    rays = np.stack([u, v, np.ones_like(u)], -1) @ (inverse(K).T @ R_crop_cam)
    pixels, valid = camera.project(rays)
    return np.where(valid[..., None], pixels, _NOWHERE)


def _resample(
    image: NDArray[np.uint8],
    grid: NDArray[np.float32],
    H_img_crop: Floats | None,
    exponent: float,
    out: NDArray[np.float32],
) -> None:
    """Fill ``out`` [S,S,3] through the homography of a pinhole camera, or through the grid where there is none.

    ``exponent`` takes linear light to the values of the crop.
    """
    out[:] = 0
    reached = (grid > _NOWHERE / 2).all(-1)
    if not reached.any():
        return
    size = np.array([image.shape[1], image.shape[0]])
    shrink = _shrinkage(grid)
    low = np.clip(np.floor(grid[reached].min(0)).astype(int) - shrink, 0, size)
    high = np.clip(np.ceil(grid[reached].max(0)).astype(int) + 1 + shrink, 0, size)
    high = np.minimum(low - (low - high) // shrink * shrink, size)
    if (high <= low).any():
        return
    linear = cv2.LUT(image[low[1] : high[1], low[0] : high[0]], _decoding())
    if shrink > 1:
        small = np.maximum(1, (high - low) // shrink)
        linear = cv2.resize(linear, (int(small[0]), int(small[1])), interpolation=cv2.INTER_AREA)
    scale = (high - low) / np.array([linear.shape[1], linear.shape[0]])
    offset = (0.5 - low) / scale - 0.5
    if H_img_crop is not None and reached.all():
        onto_small = np.array([[1 / scale[0], 0, offset[0]], [0, 1 / scale[1], offset[1]], [0, 0, 1]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        sampled = cv2.warpPerspective(linear, onto_small @ H_img_crop, (len(out), len(out)), flags=flags)
    else:
        onto_small_grid = np.where(reached[..., None], grid / scale + offset, _NOWHERE).astype(np.float32)
        sampled = cv2.remap(linear, _upsampled(onto_small_grid, len(out)), None, cv2.INTER_LINEAR)
    cv2.pow(sampled, exponent, out)


def _upsampled(grid: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """The grid interpolated to every crop pixel: bilinear, so exact at the grid's points."""
    position = np.arange(side, dtype=np.float32) / _GRID_PITCH
    x, y = np.meshgrid(position, position)
    return cv2.remap(grid, x, y, cv2.INTER_LINEAR)


def _shrinkage(grid: NDArray[np.float32]) -> int:
    """How many image pixels one crop pixel spans in the middle of the crop, as a whole number of at least 1."""
    middle = len(grid) // 2
    here = grid[middle, middle]
    steps = np.stack([grid[middle, middle + 1] - here, grid[middle + 1, middle] - here]) / _GRID_PITCH
    if (np.abs(steps) > 1e3).any():
        return 1
    return max(1, int(np.sqrt(np.abs(np.linalg.det(steps.astype(np.float64))))))


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), "crop")


@functools.cache
def _decoding() -> NDArray[np.float32]:
    """Linear light of each 8-bit value."""
    return ((np.arange(256) / 255) ** _GAMMA).astype(np.float32)
