"""Crops as virtual cameras: each person is seen by a pinhole camera turned to look at the middle of their box.

Turning the camera instead of cutting a rectangle keeps perspective and lens distortion out of what the network sees
(P 6). Resampling is done in linear light and without aliasing. Transforms are named R_dst_src.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrabs_ros import pyramid
from metrabs_ros.area import Squares
from metrabs_ros.camera import Camera
from metrabs_ros.crop_plan import BLACK, GAMMA, GRID_PITCH, NOWHERE, CropPlan, decoding
from metrabs_ros.small_matrices import cross, inverse

Floats = NDArray[np.float64]
T = TypeVar("T")

# Crops made at the same time; more would take the cores from the rest of the robot.
_MOST_THREADS = 4


@dataclass(frozen=True, eq=False)
class VirtualCameras:
    """N square pinhole cameras at the real camera's place: K [N,3,3] px, R_crop_cam [N,3,3], side px."""

    K: Floats
    R_crop_cam: Floats
    side: int

    def __len__(self) -> int:
        return len(self.K)

    @functools.cached_property
    def K_inv(self) -> Floats:
        return inverse(self.K)

    def taken(self, index: slice) -> VirtualCameras:
        """The cameras at ``index``."""
        return VirtualCameras(self.K[index], self.R_crop_cam[index], self.side)


def virtual_cameras(
    camera: Camera, boxes: ArrayLike, side: int, up: ArrayLike, box_scale: ArrayLike = 1.0, focal: str = "square"
) -> tuple[VirtualCameras, NDArray[np.bool_]]:
    """Cameras that look at boxes [N,4] xywh px, and which boxes [N] the lens can see.

    up [3] or [N,3]: the direction in the camera's optical frame that shall point up on the crop. ``box_scale``, one
    for all or [N], times the larger extent of the box fills the crop. A box that cannot be seen gets the camera's own
    axis. ``focal``: square pixels, or "camera": the extents are compared and the crop's pixels shaped as the camera's
    own, as in the released code, which also takes what lies beside or behind the virtual camera as it comes.
    """
    # What a normalised image point is multiplied by before extents are measured: the crop's pixels but for their size.
    pixels = np.eye(2) if focal == "square" else camera.K[:2, :2]
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    boxes = np.where(np.isfinite(boxes), boxes, np.nan)
    middles = boxes[:, None, :2] + boxes[:, None, 2:] * np.array([[0.5, 0.5], [0, 0.5], [1, 0.5], [0.5, 0], [0.5, 1]])
    rays, seen = _rays_into_view(camera, middles)
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
    extent = np.where(seen, extents.max(-1), 1.0) * np.asarray(box_scale)
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
    """What the virtual cameras see of image [H,W,3] uint8 RGB: [N,S,S,3] float32 in 0..1; outside it below 1e-9.

    gamma, one for all or [N]: the exponent of the crops' values, below 1 brighter. Where a crop is smaller than what it
    shows, it reads means over ``resampling`` "area": squares of as many image pixels as one of its own spans, or
    "pyramid": the levels 1, 2 and 4 px, level floor(-log2 scale) clipped to 0..2, as the released code does.
    """
    if resampling == "area":
        return made(image, planned(camera, virtual, gamma))
    crops = np.empty((len(virtual), virtual.side, virtual.side, 3), np.float32)
    exponents = _exponents(gamma, len(virtual))

    def fill(i: int) -> None:
        pixels = _seen_pixels(camera, virtual.taken(slice(i, i + 1)), 1)[0, : virtual.side, : virtual.side]
        scale = abs(virtual.K[i, 0, 0]) / camera.K[0, 0]
        cv2.pow(pyramid.sampled(image, pixels, scale, decoding()), exponents[i], crops[i])

    _in_parallel(fill, range(len(virtual)))
    return crops


def planned(camera: Camera, virtual: VirtualCameras, gamma: ArrayLike = 1.0) -> CropPlan:
    """What ``warp`` reads, resampling "area"."""
    grids = _seen_pixels(camera, virtual, GRID_PITCH).astype(np.float32)
    H_img_crop = None if camera.is_distorted else camera.K @ virtual.R_crop_cam.transpose(0, 2, 1) @ virtual.K_inv
    squares = [Squares.under(grid, GRID_PITCH) for grid in grids]
    return CropPlan(virtual.side, grids, H_img_crop, squares, _exponents(gamma, len(virtual)))


def made(image: NDArray[np.uint8], plan: CropPlan) -> NDArray[np.float32]:
    """The crops of a plan, as ``warp`` gives them."""
    crops = np.empty((len(plan), plan.side, plan.side, 3), np.float32)
    # One crop alone is made in as many bands as there are threads.
    bands = _bands(plan.side, -(-_thread_count() // max(1, len(plan))))

    def fill_band(task: tuple[int, slice]) -> None:
        i, rows = task
        _resample(image, plan, i, rows, crops[i, rows])

    _in_parallel(fill_band, [(i, rows) for i in range(len(plan)) for rows in bands])
    return crops


def to_camera_frame(points: ArrayLike, R_crop_cam: Floats) -> Floats:
    """Points [N,J,3] in the frames of the virtual cameras -> the real camera's optical frame."""
    return np.einsum("nrc,njr->njc", R_crop_cam, np.asarray(points, np.float64))


def to_image(coords2d: ArrayLike, virtual: VirtualCameras, camera: Camera) -> tuple[Floats, NDArray[np.bool_]]:
    """Crop pixels [N,J,2] -> pixels of the real image and whether they have a place in it (crop there and back)."""
    coords2d = np.asarray(coords2d, np.float64)
    homogeneous = np.concatenate([coords2d, np.ones_like(coords2d[..., :1])], -1)
    rays = np.einsum("nrc,njc->njr", virtual.K_inv, homogeneous)
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


def _rays_into_view(camera: Camera, pixels: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Rays [N,5,3] of boxes' centres and side midpoints [N,5,2], and which the lens sees.

    Fisheye and strongly bent lenses see less than a large box spans: its side midpoints are pulled to its centre.
    """
    rays, seen = camera.unproject(pixels)
    center = pixels[:, :1]
    for _ in range(8):
        if seen.all():
            break
        pixels = np.where(seen[..., None], pixels, center + 0.8 * (pixels - center))
        rays, seen = camera.unproject(pixels)
    return rays, seen


def _looking_along(forward: Floats, up: Floats) -> Floats:
    """Rotations [N,3,3] into frames with z along ``forward`` and -y as near to ``up`` as can be."""
    x = cross(forward, up)
    parallel = np.linalg.norm(x, axis=-1) < 1e-3 * np.linalg.norm(up, axis=-1)
    # Looking straight up or down: the camera's own forward axis stands in for up.
    x = np.where(parallel[:, None], cross(forward, np.broadcast_to([0.0, -1.0, -1.0], up.shape)), x)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    y = cross(forward, x)
    return np.stack([x, y, forward], 1)


def _exponents(gamma: ArrayLike, count: int) -> list[float]:
    """From linear light to the values of ``count`` crops."""
    return np.broadcast_to(np.asarray(gamma, np.float64) / GAMMA, count).tolist()


def _seen_pixels(camera: Camera, virtual: VirtualCameras, pitch: int) -> Floats:
    """Image pixels [N,G,G,2] of every ``pitch``-th crop pixel, from the first to one past the last or later."""
    steps = np.arange(0, virtual.side + pitch, pitch, dtype=np.float64)
    on_crop = np.stack([*np.meshgrid(steps, steps), np.ones((len(steps), len(steps)))], -1)
    rays = on_crop.reshape(-1, 3) @ (virtual.K_inv.transpose(0, 2, 1) @ virtual.R_crop_cam)
    pixels, valid = camera.project(rays.reshape(len(virtual), *on_crop.shape))
    pixels[~valid] = NOWHERE
    return pixels


def _bands(side: int, count: int) -> list[slice]:
    """The rows of a crop in ``count`` parts that begin on the grid, or in fewer."""
    rows = -(-side // (GRID_PITCH * count)) * GRID_PITCH
    return [slice(start, min(start + rows, side)) for start in range(0, side, rows)]


def _resample(image: NDArray[np.uint8], plan: CropPlan, i: int, rows: slice, out: NDArray[np.float32]) -> None:
    """Fill ``out`` [R,S,3] with rows of a crop."""
    out[:] = BLACK
    reading = plan.reading(i, rows, (image.shape[1], image.shape[0]))
    if reading is None:
        return
    light = reading.squares.means(image, reading.first, reading.end, decoding())
    # Pixels outside the frame of black are left as they are: OpenCV takes as long for them as for all others.
    leaving = cv2.BORDER_TRANSPARENT
    if reading.grid is None:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cv2.warpPerspective(light, reading.H_squares_crop, (out.shape[1], len(out)), out, flags, leaving)
    else:
        places = _upsampled(reading.grid, out.shape[1], len(out))
        cv2.remap(light, places, None, cv2.INTER_LINEAR, out, leaving)
    cv2.pow(out, plan.exponents[i], out)


def _upsampled(grid: NDArray[np.float32], wide: int, tall: int) -> NDArray[np.float32]:
    """The grid interpolated to every crop pixel: bilinear, so exact at the grid's points."""
    x, y = np.meshgrid(*(np.arange(count, dtype=np.float32) / GRID_PITCH for count in (wide, tall)))
    return cv2.remap(grid, x, y, cv2.INTER_LINEAR)


def _in_parallel(work: Callable[[T], None], tasks: Sequence[T]) -> None:
    """Every task done, by this thread and others: OpenCV lets go of the interpreter, and the network waits for all.

    Others who have not begun when all is under way are not waited for.
    """
    queue = iter(tasks)

    def drain() -> None:
        for task in queue:
            work(task)

    others = [_threads().submit(drain) for _ in range(min(_thread_count(), len(tasks)) - 1)]
    drain()
    for other in others:
        if not other.cancel():
            other.result()


@functools.cache
def _thread_count() -> int:
    return min(_MOST_THREADS, os.cpu_count() or 1)


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MOST_THREADS, "crop")
