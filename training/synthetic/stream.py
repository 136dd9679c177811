"""The endless stream of examples: blocks of crops, each block a function of (seed, number) alone.

So the stream is the same for any count of workers, and can begin anywhere (``skip``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from metrabs_ros import crop
from metrabs_ros.camera import Camera
from training.examples import BACKGROUND, Batch, Example, collate
from training.synthetic import camera_sampling, room, scene
from training.synthetic.camera_sampling import View
from training.synthetic.lens import lens_maps
from training.synthetic.people import Person
from training.synthetic.picture import rendered, visible_joints
from training.synthetic.scene import Scene, Stock
from training.synthetic.sensor import Sensor, developed, sampled_sensor

Floats = NDArray[np.floating]
# scene.sampled_scene or room.sampled_scene.
DrawnScene = Callable[..., Scene | None]
SOURCE = "synthetic"
# Joints that must lie in the picture, as a part of all.
_LEAST_INSIDE = 0.3
# Nobody is seen: two bodies do to point the camera at.
_EMPTY_SHAPES = 2


@dataclass(frozen=True)
class StreamConfig:
    """side px of the crops; box_scale: enlargement of tight person boxes; block: examples that share a small set of
    people's shapes; shapes: how many; held_out: what evaluation alone sees; supersampling: rendered px per picture px;
    least_visible: part of the joints that must be seen; body_up: part of the crops that are upright by the body; room:
    part of the blocks that show adults in a room (module room) instead of anybody anywhere; astray: part of the crops
    that a video would cut where it nearly lost somebody (camera_sampling.strayed); things: of the photos without people
    that go with the stream, the part that holds animals and things (training.negatives)."""

    side: int = 256
    box_scale: float = 1.15
    block: int = 64
    shapes: int = 16
    held_out: bool = False
    supersampling: float = 1.2
    least_visible: float = 0.2
    body_up: float = 0.25
    room: float = 0.0
    astray: float = 0.0
    things: float = 0.0


def examples(
    config: StreamConfig, seed: int, worker: int = 0, workers: int = 1, first_block: int = 0
) -> Iterator[Example]:
    """This worker's share of the stream: blocks first_block + worker, + workers, ..."""
    for number in itertools.count(first_block + worker, workers):
        yield from block(config, seed, number)


def block(config: StreamConfig, seed: int, number: int) -> list[Example]:
    """The examples of one block."""
    rng = np.random.default_rng([seed, int(config.held_out), number])
    setting = room if config.room and rng.random() < config.room else scene
    stock = setting.sampled_stock(rng, config.held_out, config.shapes)
    return _drawn(config, stock, rng, config.block, setting.sampled_scene)


def empty_block(config: StreamConfig, seed: int, number: int, count: int) -> list[Example]:
    """``count`` crops of scenes whose people have left: what stands where somebody could."""
    rng = np.random.default_rng([seed, int(config.held_out), number, 1])
    stock = scene.sampled_stock(rng, config.held_out, _EMPTY_SHAPES)
    return _drawn(config, stock, rng, count, scene.sampled_scene, empty=True)


def _drawn(
    config: StreamConfig, stock: Stock, rng: np.random.Generator, count: int, drawn: DrawnScene, empty: bool = False
) -> list[Example]:
    """``count`` examples of a stock."""
    out: list[Example] = []
    while len(out) < count:
        example = sampled_example(config, stock, np.random.default_rng(rng.integers(2**63)), drawn, empty)
        if example is not None:
            out.append(example)
    return out


def sampled_example(
    config: StreamConfig,
    stock: Stock,
    rng: np.random.Generator,
    drawn: DrawnScene = scene.sampled_scene,
    empty: bool = False,
) -> Example | None:
    """A person in a crop as the runtime would cut it, or, ``empty``, that crop without anybody; None where the camera
    sees too little of them."""
    looks: list[crop.VirtualCameras] = []

    def wanted(person: Person, view: View) -> bool:
        look = _look_at(config, person, view, rng)
        looks.extend([look] if look else [])
        return look is not None

    seen = drawn(rng, stock, wanted=wanted)
    if seen is None:
        return None
    view, person, virtual = seen.view, seen.people[0], looks[0]
    if empty:
        return _without_people(config, seen, virtual, rng)
    image, visible = _crop_image(config, seen, virtual, rng)
    joints = view.to_camera(person.joints)
    visible &= _in_picture(view, joints)
    if visible.mean() < config.least_visible:
        return None
    in_crop = joints @ virtual.R_crop_cam[0].T
    flat = in_crop @ virtual.K[0].T
    return Example(
        image=image,
        K=virtual.K[0].astype(np.float32),
        joints3d=in_crop.astype(np.float32),
        joints2d=(flat[:, :2] / flat[:, 2:]).astype(np.float32),
        visible=visible,
        labels3d=True,
        source=SOURCE,
    )


def _without_people(
    config: StreamConfig, seen: Scene, virtual: crop.VirtualCameras, rng: np.random.Generator
) -> Example:
    image, visible = _crop_image(config, seen.deserted(), virtual, rng)
    unknown = np.full((len(visible), 3), np.nan, np.float32)
    return Example(
        image=image,
        K=virtual.K[0].astype(np.float32),
        joints3d=unknown,
        joints2d=unknown[:, :2],
        visible=np.zeros_like(visible),
        labels3d=False,
        source=f"{BACKGROUND}:scene",
    )


def _look_at(config: StreamConfig, person: Person, view: View, rng: np.random.Generator) -> crop.VirtualCameras | None:
    """The virtual camera of a crop around the person; None where too little of them or of the picture is in it."""
    joints = view.to_camera(person.joints)
    if joints[:, 2].min() < 0.25 or _in_picture(view, joints).mean() < _LEAST_INSIDE:
        return None
    # Crops do not know of the lens, so boxes may as well be drawn in the picture rid of its distortion: much faster.
    straight = view.camera.undistorted()
    outline = view.to_camera(person.points[::23].astype(np.float64))
    box = camera_sampling.detector_box(
        rng,
        straight.project(joints)[0],
        straight.project(outline[outline[:, 2] > 0.1])[0],
        straight.size,
        config.box_scale,
    )
    up = camera_sampling.crop_up(rng, view, joints, config.body_up)
    if config.astray and rng.random() < config.astray:
        box, up = camera_sampling.strayed(rng, box, up, joints.mean(0))
    virtual, _ = crop.virtual_cameras(straight, box[None], config.side, up)
    if (joints @ virtual.R_crop_cam[0].T)[:, 2].min() < 0.1:
        return None
    return virtual if _part_in_picture(virtual, straight) > rng.uniform(0.2, 0.9) else None


def _in_picture(view: View, joints: Floats) -> NDArray[np.bool_]:
    """Which joints [J,3] m of the optical frame lie in the real picture."""
    pixels, valid = view.camera.project(joints)
    return valid & view.camera.contains(np.nan_to_num(pixels, nan=-1e6), 0)


def _crop_image(
    config: StreamConfig, seen: Scene, virtual: crop.VirtualCameras, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """[S,S,3] uint8 RGB and visible [J]: rendered at the real picture's resolution or the crop's, the lower."""
    side, view, person = config.side, seen.view, seen.people[0]
    K, R = virtual.K[0], virtual.R_crop_cam[0]
    stored = float(np.clip(side * view.camera.K[0, 0] / K[0, 0], 24, 1e5))
    small = int(min(side, round(stored)))
    fine = int(np.clip(round(small * config.supersampling), 96, config.supersampling * side))
    R_crop_world = R @ view.R_cam_world
    K_fine = _zoomed(K, fine / side)
    picture = rendered(seen, K_fine, R_crop_world, (fine, fine))
    points = (person.joints - view.eye) @ R_crop_world.T
    flat = points @ K_fine.T
    visible = visible_joints(picture, person, points, flat[:, :2] / flat[:, 2:])
    linear = cv2.resize(picture.linear, (small, small), interpolation=cv2.INTER_AREA)
    inside, radius = lens_maps(view.camera, _zoomed(K, small / side), R, small)
    linear *= (1 - rng.uniform(0, 0.35) * rng.random() * radius)[..., None]
    image = developed(linear, _scaled(sampled_sensor(rng), stored / small), rng)
    if inside is not None:
        image = (image * inside[..., None]).astype(np.uint8)
    if small != side:
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
    return image, visible


def _part_in_picture(virtual: crop.VirtualCameras, camera: Camera) -> float:
    """How much of the crop the picture covers, 0..1: most of what a detector boxes lies in the picture."""
    steps = np.linspace(0, virtual.side - 1, 9)
    u, v = np.meshgrid(steps, steps)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(virtual.K[0]).T @ virtual.R_crop_cam[0]
    pixels, valid = camera.project(rays)
    return float((valid & camera.contains(np.nan_to_num(pixels, nan=-1e6), 0)).mean())


def _zoomed(K: Floats, factor: float) -> Floats:
    return np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2], [0, 0, 1]]) @ K


def _scaled(sensor: Sensor, shrink: float) -> Sensor:
    """What is left of blur, noise and JPEG artefacts when the picture is shrunk by the factor."""
    return replace(
        sensor,
        defocus=sensor.defocus / shrink**0.5,
        motion=sensor.motion / shrink**0.5,
        noise=sensor.noise / shrink,
        shot=sensor.shot / shrink,
        jpeg=int(100 - (100 - sensor.jpeg) / shrink) if sensor.jpeg else 0,
    )


def loader(config: StreamConfig, batch_size: int, workers: int, seed: int, skip: int = 0) -> Iterator[Batch]:
    """Batches in the stream's order from ``workers`` processes (0: this one); ``skip`` leaves out that many batches."""
    start = skip * batch_size
    stream = _blocks(config, workers, seed, start // config.block)
    flat = itertools.islice(itertools.chain.from_iterable(stream), start % config.block, None)
    while True:
        yield collate(list(itertools.islice(flat, batch_size)))


def _blocks(config: StreamConfig, workers: int, seed: int, first: int) -> Iterator[list[Example]]:
    if workers == 0:
        for number in itertools.count(first):
            yield block(config, seed, number)
    from training.synthetic.workers import ordered_blocks

    yield from ordered_blocks(config, workers, seed, first)
