"""Pictures of poses: skeletons over the image, and people seen from above in metres.

A person has a colour by track id; the left side of the body is lighter, the right side darker.
"""

from __future__ import annotations

import itertools
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrabs_ros.camera import Camera
from metrabs_ros.pose import TrackedPose
from metrabs_ros.skeleton import Skeleton

Image = NDArray[np.uint8]
Floats = NDArray[np.floating]
Colour = tuple[int, int, int]

PALETTE: tuple[Colour, ...] = (
    (255, 140, 26),
    (38, 166, 255),
    (240, 60, 120),
    (60, 190, 80),
    (160, 100, 255),
    (0, 190, 190),
    (230, 190, 20),
    (200, 110, 70),
)
_DARK: Colour = (25, 25, 25)
_WHITE: Colour = (255, 255, 255)
_PAPER: Colour = (250, 250, 248)
_GRID: Colour = (222, 224, 228)
_INK: Colour = (110, 114, 122)
_FRUSTUM: Colour = (236, 241, 247)
_FONT = cv2.FONT_HERSHEY_DUPLEX
# cv2 draws lines at 1/16 px, in 32-bit integers; beyond this many px an end is clipped to the image first.
_SUBPIXEL_BITS = 4
_FAR = 1 << 15
_RANGES_M = (4, 6, 8, 10, 12, 16, 24, 32, 48, 64, 96)
_TRAIL = 60


def palette_index(track_id: int) -> int:
    """Which colour of PALETTE is a person's."""
    return (track_id - 1) % len(PALETTE)


def colour_of(track_id: int) -> Colour:
    """RGB of a person."""
    return PALETTE[palette_index(track_id)]


def distance_of(pose: TrackedPose) -> float:
    """Metres from the camera to the middle of the body."""
    return float(np.linalg.norm(np.nanmedian(pose.joints3d, axis=0)))


def drawn(image_rgb: Image, poses: Sequence[TrackedPose], skeleton: Skeleton) -> Image:
    """A copy of the image with everybody's joints2d, bones, id and distance; the nearest person is on top.

    Joints without pixels (NaN) and their bones are left out.
    """
    canvas = np.ascontiguousarray(image_rgb).copy()
    unit = max(1.0, min(canvas.shape[:2]) / 400)
    by_distance = sorted((pose for pose in poses if np.isfinite(pose.joints3d).any()), key=distance_of, reverse=True)
    for pose in by_distance:
        _draw_skeleton(canvas, pose.joints2d, skeleton, colour_of(pose.track_id), unit)
    for pose in by_distance:
        _label_head(canvas, pose, unit)
    return canvas


class TopView:
    """People as seen from above, drawn in metres: the camera at the bottom looking up the picture, a grid, trails.

    ``up`` is world up in the camera's optical frame. The range shown grows when somebody is farther than it and never
    shrinks, so that a video stays calm.
    """

    def __init__(
        self, skeleton: Skeleton, camera: Camera, size: tuple[int, int], up: ArrayLike = (0.0, -1.0, 0.0)
    ) -> None:
        self._skeleton = skeleton
        self._size = size
        self._unit = max(1.0, min(size) / 500)
        self._R_ground_cam = _ground_axes(np.asarray(up, np.float64))
        self._frustum = self._sides_of_view(camera)
        self._range_m = float(_RANGES_M[0])
        self._trails: defaultdict[int, deque[Floats]] = defaultdict(lambda: deque(maxlen=_TRAIL))

    def drawn(self, poses: Sequence[TrackedPose]) -> Image:
        """[H,W,3] uint8 RGB of the next frame."""
        ground = {pose.track_id: pose.joints3d @ self._R_ground_cam.T for pose in poses}
        for track_id in set(self._trails) - set(ground):
            del self._trails[track_id]
        for track_id, joints in ground.items():
            self._trails[track_id].append(np.nanmedian(joints, axis=0))
        self._grow_range(ground.values())
        canvas = np.full((self._size[1], self._size[0], 3), _PAPER, np.uint8)
        self._draw_floor(canvas)
        for pose in poses:
            self._draw_person(canvas, ground[pose.track_id], pose.track_id)
        return canvas

    def _sides_of_view(self, camera: Camera) -> list[Floats]:
        """Ground directions [2] (right, forward) through the middle of the image's left and right border."""
        width, height = camera.size
        rays, valid = camera.unproject(np.array([[0.0, (height - 1) / 2], [width - 1.0, (height - 1) / 2]]))
        flat = (rays @ self._R_ground_cam.T)[:, :2]
        return [
            ray / np.linalg.norm(ray) for ray, ok in zip(flat, valid, strict=True) if ok and np.linalg.norm(ray) > 1e-6
        ]

    def _grow_range(self, people: Iterable[Floats]) -> None:
        width = self._size[0]
        for joints in people:
            flat = joints[np.isfinite(joints).all(-1)]
            if len(flat):
                forward = flat[:, 1].max() + 0.5
                sideways = (np.abs(flat[:, 0]).max() + 0.5) * 2 * self._height_px() / width
                self._range_m = max(self._range_m, forward, sideways)
        self._range_m = float(next((r for r in _RANGES_M if r >= self._range_m), self._range_m))

    def _height_px(self) -> float:
        return self._size[1] - 60 * self._unit

    def _pixels(self, ground: ArrayLike) -> Floats:
        """Ground metres [...,2+] (right, forward) -> pixels [...,2]."""
        ground = np.asarray(ground, np.float64)
        scale = self._height_px() / self._range_m
        origin = np.array([self._size[0] / 2, self._size[1] - 40 * self._unit])
        return origin + ground[..., :2] * [scale, -scale]

    def _draw_floor(self, canvas: Image) -> None:
        unit, reach = self._unit, 2.0 * self._range_m
        if len(self._frustum) == 2:
            left, right = self._frustum
            corners = self._pixels(np.stack([left * 0, left, left + right, right]) * reach)
            cv2.fillPoly(canvas, [_fixed(corners)], _FRUSTUM, cv2.LINE_AA, _SUBPIXEL_BITS)
        step = 1 if self._range_m <= 12 else 2 if self._range_m <= 24 else 10
        for metres in range(-step * int(reach / step), int(reach) + 1, step):
            _line(canvas, self._pixels((metres, -reach)), self._pixels((metres, reach)), _GRID, 1)
            _line(canvas, self._pixels((-reach, metres)), self._pixels((reach, metres)), _GRID, 1)
        for ray in self._frustum:
            _line(canvas, self._pixels((0, 0)), self._pixels(ray * reach), _INK, unit)
        for metres in range(step, int(self._range_m) + 1, step):
            _text(canvas, f"{metres} m", (8 * unit, self._pixels((0, metres))[1] + 5 * unit), 0.42 * unit, _INK)
        for metres in range(-step * int(self._range_m / step), int(self._range_m) + 1, step):
            if metres:
                x, y = self._pixels((metres, 0))
                _text(canvas, f"{metres:+d}", (x - 8 * unit, y + 16 * unit), 0.36 * unit, _INK)
        x, y = self._pixels((0, 0))
        body = np.array([(x - 9 * unit, y + 10 * unit), (x + 9 * unit, y + 10 * unit), (x, y - 6 * unit)])
        cv2.fillPoly(canvas, [_fixed(body)], _DARK, cv2.LINE_AA, _SUBPIXEL_BITS)
        _text(canvas, "seen from above", (self._size[0] / 2 - 60 * unit, 18 * unit), 0.5 * unit, _INK)

    def _draw_person(self, canvas: Image, ground: Floats, track_id: int) -> None:
        colour, unit = colour_of(track_id), self._unit
        trail = [self._pixels(place) for place in self._trails[track_id]]
        for i, (start, end) in enumerate(itertools.pairwise(trail)):
            _line(canvas, start, end, _mixed(colour, _PAPER, 1 - (i + 1) / len(trail)), 2 * unit)
        pixels = self._pixels(ground)
        _draw_skeleton(canvas, pixels, self._skeleton, colour, 0.8 * unit, 0.5 * unit)
        middle = np.nanmedian(ground, axis=0)
        edge = np.nanmax(pixels, axis=0)
        label = f"#{track_id}  {np.linalg.norm(middle):.1f} m"
        _tag(canvas, label, (edge[0] + 8 * unit, np.nanmedian(pixels[:, 1]) + 6 * unit), 0.45 * unit, colour)


def side_by_side(left: Image, right: Image) -> Image:
    """Both pictures at the left one's height, cut to even sides, as video codecs want them."""
    height = left.shape[0]
    width = round(right.shape[1] * height / right.shape[0])
    if right.shape[0] != height:
        right = cv2.resize(right, (width, height), interpolation=cv2.INTER_AREA)
    both = np.concatenate([left, right], axis=1)
    return both[: height // 2 * 2, : both.shape[1] // 2 * 2]


def _ground_axes(up: Floats) -> Floats:
    """R_ground_cam [3,3], rows right, forward, up; for a camera that looks straight down its image's top is ahead."""
    up = up / np.linalg.norm(up)
    for ahead in (np.array([0, 0, 1.0]), np.array([0, -1.0, 0])):
        forward = ahead - (ahead @ up) * up
        if np.linalg.norm(forward) > 0.1:
            break
    forward /= np.linalg.norm(forward)
    return np.stack([np.cross(forward, up), forward, up])


def _draw_skeleton(
    canvas: Image, pixels: Floats, skeleton: Skeleton, colour: Colour, unit: float, joint_unit: float | None = None
) -> None:
    joint_unit = unit if joint_unit is None else joint_unit
    seen = np.isfinite(pixels).all(-1)
    bones = [(a, b) for a, b in skeleton.edges if seen[a] and seen[b]]
    for a, b in bones:
        _line(canvas, pixels[a], pixels[b], _DARK, 4 * unit)
    for a, b in bones:
        sides = {_side(skeleton.joint_names[end]) for end in (a, b)} - {""}
        _line(canvas, pixels[a], pixels[b], _shaded(colour, sides.pop() if len(sides) == 1 else ""), 2.4 * unit)
    for joint in np.flatnonzero(seen):
        _dot(canvas, pixels[joint], 2.9 * joint_unit, _DARK)
        _dot(canvas, pixels[joint], 2.0 * joint_unit, _shaded(colour, _side(skeleton.joint_names[joint])))


def _label_head(canvas: Image, pose: TrackedPose, unit: float) -> None:
    pixels = pose.joints2d[np.isfinite(pose.joints2d).all(-1)]
    if not len(pixels):
        return
    x, y = pixels[:, 0].mean(), pixels[:, 1].min() - 14 * unit
    text = f"#{pose.track_id}  {distance_of(pose):.1f} m"
    scale = 0.5 * unit
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, max(1, round(unit)))
    left = np.clip(x - width / 2, 6 * unit, max(6 * unit, canvas.shape[1] - width - 6 * unit))
    base = np.clip(y, height + 6 * unit, canvas.shape[0] - 6 * unit)
    _tag(canvas, text, (float(left), float(base)), scale, colour_of(pose.track_id))


def _tag(canvas: Image, text: str, at: tuple[float, float], scale: float, colour: Colour) -> None:
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    pad = max(3, round(height * 0.4))
    x, y = round(at[0]), round(at[1])
    cv2.rectangle(canvas, (x - pad, y - height - pad), (x + width + pad, y + pad), _mixed(colour, _DARK, 0.35), -1)
    _text(canvas, text, at, scale, _WHITE)


def _text(canvas: Image, text: str, at: tuple[float, float], scale: float, colour: Colour) -> None:
    cv2.putText(canvas, text, (round(at[0]), round(at[1])), _FONT, scale, colour, max(1, round(scale)), cv2.LINE_AA)


def _line(canvas: Image, start: Floats, end: Floats, colour: Colour, thickness: float) -> None:
    if np.abs([start, end]).max() > _FAR:
        height, width = canvas.shape[:2]
        near = np.clip([start, end], -1e9, 1e9).round().astype(int)
        is_inside, first, last = cv2.clipLine((0, 0, width, height), near[0].tolist(), near[1].tolist())
        if not is_inside:
            return
        start, end = np.array(first, float), np.array(last, float)
    first, last = _fixed(start).tolist(), _fixed(end).tolist()
    cv2.line(canvas, first, last, colour, max(1, round(thickness)), cv2.LINE_AA, _SUBPIXEL_BITS)


def _dot(canvas: Image, center: Floats, radius: float, colour: Colour) -> None:
    if np.abs(center).max() <= _FAR:
        size = max(1, round(radius * (1 << _SUBPIXEL_BITS)))
        cv2.circle(canvas, _fixed(center).tolist(), size, colour, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


def _fixed(pixels: Floats) -> NDArray[np.int32]:
    return np.round(np.asarray(pixels) * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _side(joint_name: str) -> str:
    side = joint_name.split("_")[0]
    return side if side in ("left", "right") else ""


def _shaded(colour: Colour, side: str) -> Colour:
    if side == "left":
        return _mixed(colour, _WHITE, 0.45)
    return _mixed(colour, _DARK, 0.3) if side == "right" else colour


def _mixed(colour: Colour, other: Colour, share: float) -> Colour:
    first, second, third = (round(a * (1 - share) + b * share) for a, b in zip(colour, other, strict=True))
    return first, second, third
