"""Cameras as people put them up: height, tilt, roll, field of view, format, lens; and boxes as detectors give them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.camera import Camera
from training.skeleton import JOINT_NAMES

Floats = NDArray[np.floating]

_SIZES = ((640, 480), (1280, 720), (1920, 1080), (800, 600), (1280, 960), (1024, 768), (640, 360), (320, 240))


@dataclass(frozen=True, eq=False)
class View:
    """A camera at ``eye`` [3] m of the world (z up, floor at 0); R_cam_world [3,3] into its optical frame."""

    camera: Camera
    R_cam_world: Floats
    eye: Floats

    def to_camera(self, points: Floats) -> Floats:
        """World points [...,3] m -> optical frame."""
        return (points - self.eye) @ self.R_cam_world.T

    @property
    def up(self) -> Floats:
        """[3] the world's up in the optical frame."""
        return self.R_cam_world[:, 2]


def sampled_camera(rng: np.random.Generator, size: tuple[int, int] | None = None) -> Camera:
    """Intrinsics: field of view 25..100 degrees, a principal point off the middle, and usually some lens distortion."""
    if size is None:
        size = _SIZES[rng.integers(len(_SIZES))]
        if rng.random() < 0.35:
            size = size[::-1]
    width, height = size
    fov = np.radians(np.clip(rng.normal(62, 16), 25, 100))
    focal = max(size) / (2 * np.tan(fov / 2))
    aspect = 1 + rng.normal(0, 0.002)
    K = np.array(
        [
            [focal * aspect, 0, (width - 1) / 2 + rng.normal(0, 0.012) * width],
            [0, focal, (height - 1) / 2 + rng.normal(0, 0.012) * height],
            [0, 0, 1],
        ]
    )
    if rng.random() < 0.4:
        return Camera(K, np.zeros(0), "plumb_bob", size)
    wide = (fov / np.radians(75)) ** 2
    k1 = float(np.clip(rng.normal(-0.1, 0.1) * wide, -0.33, 0.12))
    D = np.array([k1, 0.3 * k1 * k1 + abs(rng.normal(0, 0.01)), rng.normal(0, 5e-4), rng.normal(0, 5e-4), 0.0])
    return Camera(K, D, "plumb_bob", size)


def sampled_view(rng: np.random.Generator, camera: Camera, target: Floats, height: float) -> View:
    """A camera that has the point ``target`` [3] m (the middle of a person ``height`` m tall) somewhere in its picture.

    Distance 0.8..15 m with a bias to a few metres, camera height 0.3..3 m, tilt up to 40 degrees, roll up to 35.
    """
    focal = camera.K[1, 1]
    wanted = rng.uniform(0.12, 0.85) if rng.random() < 0.8 else rng.uniform(0.7, 2.0)
    distance = float(np.clip(height * focal / (wanted * camera.size[1]), 0.8, 15.0))
    eye_height = float(np.clip(rng.normal(1.4, 0.6), 0.3, 3.0))
    drop = np.clip(eye_height - target[2], -0.6 * distance, 0.6 * distance)
    azimuth = rng.uniform(0, 2 * np.pi)
    ground = np.sqrt(max(distance**2 - drop**2, 0.3))
    eye = target + np.array([np.cos(azimuth) * ground, np.sin(azimuth) * ground, drop])
    eye[2] = max(eye[2], 0.15)
    # Most people are whole in the picture; some are cut by its border, most often at the sides and below.
    free = np.clip(1 - wanted * np.array([0.5 * camera.size[1] / camera.size[0], 1.0]), 0.04, 0.9) / 2
    spread = free if rng.random() < 0.8 else free + [0.2, 0.15]
    where = np.array(camera.size) * (0.5 + rng.uniform(-1, 1, 2) * spread)
    ray = camera.undistorted().unproject(where)[0]
    roll = rng.normal(0, 0.06) if rng.random() < 0.6 else rng.uniform(-0.61, 0.61)
    return View(camera, _pointing(eye, target, ray, roll), eye)


def tilted_view(rng: np.random.Generator, camera: Camera, target: Floats) -> View:
    """A camera 3..4 m from the point ``target`` [3] m, 1..2.6 m above the floor, rolled by up to 26 degrees."""
    distance, eye_height, azimuth = rng.uniform(3.0, 4.0), rng.uniform(1.0, 2.6), rng.uniform(0, 2 * np.pi)
    rise = eye_height - target[2]
    ground = np.sqrt(distance**2 - rise**2)
    eye = target + np.array([np.cos(azimuth) * ground, np.sin(azimuth) * ground, rise])
    where = np.array(camera.size) * (0.5 + rng.uniform(-1, 1, 2) * [0.2, 0.12])
    roll = np.radians(rng.uniform(-26, 26))
    return View(camera, _pointing(eye, target, camera.undistorted().unproject(where)[0], roll), eye)


def _pointing(eye: Floats, target: Floats, ray: Floats, roll: float) -> Floats:
    """Rotation into a camera that sees ``target`` along ``ray`` of its frame, about level but for ``roll`` rad."""
    aim = (target - eye) / np.linalg.norm(target - eye)
    pitch = 0.0
    # The middle of the picture is turned until the ray meets the target: a few fixed-point steps are exact enough.
    yaw = np.arctan2(aim[1], aim[0])
    R = np.eye(3)
    for _ in range(6):
        forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
        right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
        down = np.cross(forward, right)
        c, s = np.cos(roll), np.sin(roll)
        R = np.stack([c * right + s * down, -s * right + c * down, forward])
        seen = R.T @ ray
        yaw += np.arctan2(aim[1], aim[0]) - np.arctan2(seen[1], seen[0])
        pitch = float(np.clip(pitch + np.arcsin(aim[2]) - np.arcsin(np.clip(seen[2], -1, 1)), -0.9, 0.9))
    return R


def detector_box(
    rng: np.random.Generator, joints2d: Floats, outline: Floats, size: tuple[int, int], tight_scale: float
) -> Floats:
    """xywh px as a detector gives it: the person's box or BlazePose's square about the hips, cut and jittered.

    joints2d [J,2] px of the whole image; outline [N,2] px of the body's surface; tight_scale enlarges person boxes.
    """
    low, high = outline.min(0), outline.max(0)
    if rng.random() < 0.25:
        hips = joints2d[JOINT_NAMES.index("pelvis")]
        side = 2.5 * np.linalg.norm(joints2d - hips, axis=1).max()
        box = np.array([*(hips - side / 2), side, side])
    else:
        limit = np.array(size, np.float64)
        if rng.random() < 0.8:  # most detectors box what the picture shows
            low, high = np.clip(low, 0, limit), np.clip(high, 0, limit)
        grown = (tight_scale - 1) / 2 * np.maximum(high - low, 8)
        box = np.array([*(low - grown), *(np.maximum(high - low, 8) + 2 * grown)])
        if rng.random() < 0.3:  # of what is visible only: legs behind a table
            part = rng.uniform(0.45, 1.0)
            box[3] *= part
    extent = max(box[2:])
    center = box[:2] + box[2:] / 2 + extent * _in_disc(rng, 0.1)
    sides = box[2:] * rng.uniform(0.75, 1.25)
    return np.array([*(center - sides / 2), *sides])


def crop_up(rng: np.random.Generator, view: View, joints_cam: Floats, body_up: float = 0.25) -> Floats:
    """[3] in the optical frame: what points up on the crop: the body, in ``body_up`` of all cases, the world or the
    picture, each with jitter."""
    pick = rng.random()
    if pick < 0.6 * (1 - body_up):
        up, jitter = view.up, 0.12
    elif pick < 1 - body_up:
        up, jitter = np.array([0.0, -1.0, 0.0]), 0.1
    else:
        neck, pelvis = joints_cam[JOINT_NAMES.index("neck")], joints_cam[JOINT_NAMES.index("pelvis")]
        up, jitter = neck - pelvis, 0.2
    angle = rng.normal(0, jitter) if rng.random() < 0.9 else rng.uniform(-0.6, 0.6)
    return _turned(up, joints_cam.mean(0) / np.linalg.norm(joints_cam.mean(0)), angle)


def strayed(rng: np.random.Generator, box: Floats, up: Floats, sight: Floats) -> tuple[Floats, Floats]:
    """A box xywh px and what points up on its crop, [3] in the optical frame, as where a video lost somebody: beside
    them, too small or too large, and in half of the cases turned about ``sight`` [3] by any angle."""
    center = box[:2] + box[2:] / 2 + max(box[2:]) * _in_disc(rng, 0.25)
    sides = box[2:] * np.exp(rng.uniform(-0.4, 0.4))
    if rng.random() < 0.5:
        up = _turned(up, sight / np.linalg.norm(sight), rng.uniform(-np.pi, np.pi))
    return np.array([*(center - sides / 2), *sides]), up


def _turned(vector: Floats, axis: Floats, angle: float) -> Floats:
    """``vector`` [3] turned about the unit vector ``axis`` [3] by ``angle`` rad (Rodrigues)."""
    c, s = np.cos(angle), np.sin(angle)
    return vector * c + np.cross(axis, vector) * s + axis * (axis @ vector) * (1 - c)


def _in_disc(rng: np.random.Generator, radius: float) -> Floats:
    angle, r = rng.uniform(0, 2 * np.pi), radius * np.sqrt(rng.random())
    return r * np.array([np.cos(angle), np.sin(angle)])
