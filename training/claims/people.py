"""The pictures that all runs share: rendered once, with margins for augmentation, and kept with exact labels.

Like Human3.6M they show few people often: 64 people for training, each in one set of clothes, before six photos (or on
floors and in rooms), through a camera without faults; evaluation has 64 others, patterns of cloth that training does
not know, and six other photos. So a network of minutes can learn them by heart, and augmentation has something to do.
Heights go from toddlers to tall adults (claim 4). Each picture is cut out of a frame whose axis passes the person by up
to 25 degrees, 1.4 to 5 m away, so perspective is strong and the virtual camera has to turn (claims 2 and 3). Lying,
crawling and other rare families of poses are left out.
"""

from __future__ import annotations

import functools
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from training.data.pictures import PictureArray
from training.data.record import Record, in_order, joint_box
from training.skeleton import JOINT_NAMES
from training.synthetic import backgrounds, clothes, poses
from training.synthetic.backdrop import sampled_backdrop
from training.synthetic.bodies import Shape, sampled_phenotype, shapes
from training.synthetic.camera_sampling import View
from training.synthetic.clothes import Outfit, sampled_outfit
from training.synthetic.collision import overlap
from training.synthetic.kinematics import pose_bones
from training.synthetic.light import sampled_light
from training.synthetic.materials import WIDTH
from training.synthetic.occluders import Thing, sampled_things, seat_under
from training.synthetic.people import Person, posed_person
from training.synthetic.picture import rendered, visible_joints
from training.synthetic.scene import Scene
from training.synthetic.sensor import Sensor, developed

Floats = NDArray[np.float64]

# To be raised when other pictures come out of the same numbers.
VERSION = 1
SEED = 20_200
SUBJECTS, PHOTOS = 64, 6
# A picture shows so many times the extent of the person's box.
MARGIN = 1.5
FAMILIES = frozenset({"standing", "arms crossed", "walking", "sitting", "squatting", "bending", "lunging", "stumbling",
                      "dancing", "carrying"})  # fmt: skip
_BOX_SCALE = 1.2
# Whoever is seen less than this, as a part of the joints, is rendered among other furniture.
_LEAST_SEEN = 0.35
_TRIES = 8
# Deepest overlap of limbs that still looks like touching, as a part of the height.
_TOUCHING = 0.015
_SUPERSAMPLING = 1.2
_SENSOR = Sensor(1.0, (1.0, 1.0, 1.0), 0.4, 0.0, 0.0, 0.003, 0.008, 1.0, 1.0, 1.0, 0, 0.0, False)


@dataclass(frozen=True)
class PeopleConfig:
    """side px of the pictures; how many there are to train on and to evaluate on."""

    side: int = 240
    training: int = 4000
    evaluation: int = 500


@dataclass(frozen=True, eq=False)
class Pictures:
    """images [N,P,P,3] uint8 RGB; K [N,3,3] px of their pinhole cameras; up [N,3] the world's in the camera's frame;
    joints3d [N,J,3] m there, of training.skeleton; heights [N] m of the people standing."""

    images: NDArray[np.uint8]
    K: Floats
    up: Floats
    joints3d: Floats
    heights: Floats

    def __len__(self) -> int:
        return len(self.images)

    def record(self, number: int) -> Record:
        """One picture as every data set of training.data gives it."""
        side = self.images.shape[1]
        camera = Camera(self.K[number], np.zeros(0), "plumb_bob", (side, side))
        joints2d, _ = camera.project(self.joints3d[number])
        box = joint_box(joints2d, _BOX_SCALE)
        return Record("claims", PictureArray(self.images[number]), camera, box, JOINT_NAMES, joints2d,
                      self.joints3d[number], up=self.up[number])  # fmt: skip

    def joints(self, names: tuple[str, ...]) -> Floats:
        """[N,len(names),3] m: those joints of all people."""
        return in_order(self.joints3d.swapaxes(0, 1), JOINT_NAMES, names).swapaxes(0, 1)


@dataclass(frozen=True, eq=False)
class _World:
    subjects: tuple[tuple[Shape, Outfit], ...]
    photos: tuple[NDArray[np.uint8], ...]
    textures: NDArray[np.uint8]


def load(folder: Path, config: PeopleConfig, held_out: bool, workers: int = 2) -> Pictures:
    """The pictures of a set, rendered into ``folder`` where they are not there yet; images stay on disk until read."""
    count = config.evaluation if held_out else config.training
    place = folder / f"people_v{VERSION}_{'evaluation' if held_out else 'training'}_{count}_{config.side}"
    if not place.is_dir():
        _render(place, config.side, count, held_out, workers)
    try:
        labels = {name: np.load(place / f"{name}.npy") for name in ("K", "up", "joints3d", "heights")}
        images = np.load(place / "images.npy", mmap_mode="r")
    except (OSError, ValueError) as error:
        raise InputError(
            f"The pictures in {place} cannot be read ({error}): delete that folder and start again."
        ) from error
    return Pictures(images, **labels)


def _render(place: Path, side: int, count: int, held_out: bool, workers: int) -> None:
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    images = np.lib.format.open_memmap(part / "images.npy", "w+", np.uint8, (count, side, side, 3))
    rows = []
    call = functools.partial(shot, side=side, held_out=held_out)
    if workers > 1:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            found = pool.map(call, range(count), chunksize=16)
            for number, (image, *labels) in enumerate(found):
                images[number] = image
                rows.append(labels)
    else:
        for number in range(count):
            image, *labels = call(number)
            images[number] = image
            rows.append(labels)
    images.flush()
    for name, column in zip(("K", "up", "joints3d", "heights"), zip(*rows, strict=True), strict=True):
        np.save(part / f"{name}.npy", np.stack(column))
    part.rename(place)


def shot(number: int, side: int, held_out: bool) -> tuple[NDArray[np.uint8], Floats, Floats, Floats, Floats]:
    """Picture ``number`` of a set: image [P,P,3], K [3,3], up [3], joints3d [J,3] and height [], as in Pictures."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng([SEED, held_out, number])
    world = _world(held_out)
    shape, outfit = world.subjects[rng.integers(len(world.subjects))]
    person = _posed(rng, shape, outfit)
    K, view = _camera(rng, person, side)
    backdrop = sampled_backdrop(rng, world.photos[rng.integers(len(world.photos))], world.textures, 700.0)
    light = sampled_light(rng)
    for _ in range(_TRIES):
        things = _things(rng, person, view)
        params = np.array([clothes.object_params(rng) for _ in things], np.float32).reshape(len(things), WIDTH)
        scene = Scene((person,), things, params, light, backdrop, view)
        linear, seen = _linear(scene, K, side)
        if seen >= _LEAST_SEEN:
            break
    image = developed(linear, _SENSOR, rng)
    return image, K, view.up, view.to_camera(person.joints), np.array(shape.height)


def _things(rng: np.random.Generator, person: Person, view: View) -> tuple[Thing, ...]:
    """Furniture, sometimes in front; none half of the time."""
    things = list(sampled_things(rng, person.joints.mean(0), view.eye)) if rng.random() < 0.5 else []
    if person.family == "sitting" and (seat := seat_under(rng, person.joints, person.shape.height)) is not None:
        things.append(seat)
    return tuple(things)


def _linear(scene: Scene, K: Floats, side: int) -> tuple[NDArray[np.float32], float]:
    """Linear light [P,P,3], and which part of the joints is seen."""
    fine = round(side * _SUPERSAMPLING)
    zoom = fine / side
    K_fine = np.array([[zoom, 0, (zoom - 1) / 2], [0, zoom, (zoom - 1) / 2], [0, 0, 1]]) @ K
    picture = rendered(scene, K_fine, scene.view.R_cam_world, (fine, fine))
    points = scene.view.to_camera(scene.people[0].joints)
    flat = points @ K_fine.T
    seen = visible_joints(picture, scene.people[0], points, flat[:, :2] / flat[:, 2:])
    return cv2.resize(picture.linear, (side, side), interpolation=cv2.INTER_AREA), float(seen.mean())


@functools.cache
def _world(held_out: bool) -> _World:
    rng = np.random.default_rng([SEED, held_out])
    bodies = shapes([sampled_phenotype(rng) for _ in range(SUBJECTS)])
    entries = backgrounds.pictures(held_out)
    photos = tuple(backgrounds.photo(entries[i]) for i in rng.integers(0, len(entries), PHOTOS))
    subjects = tuple((shape, sampled_outfit(rng, shape, held_out)) for shape in bodies)
    return _World(subjects, photos, backgrounds.textures(rng, held_out, 8))


def _posed(rng: np.random.Generator, shape: Shape, outfit: Outfit) -> Person:
    """The person in a pose of the wanted families that goes through itself as little as a few tries allow."""
    tries: list[tuple[float, Floats, str]] = []
    while len(tries) < _TRIES and not (tries and tries[-1][0] < _TOUCHING * shape.height):
        angles, family = poses.sampled_pose(rng)
        if FAMILIES.issuperset(family.split("+")):
            _, positions = pose_bones(angles, shape.bone_heads, shape.height)
            tries.append((overlap(positions, shape.height), angles, family))
    _, angles, family = min(tries, key=lambda found: found[0])
    return posed_person(shape, outfit, angles, family, rng.uniform(0, 2 * np.pi))


def _camera(rng: np.random.Generator, person: Person, side: int) -> tuple[Floats, View]:
    """A camera that passes the person by some degrees, and the pinhole K [3,3] of the cutout about them."""
    while True:
        target = (person.points.min(0) + person.points.max(0)).astype(np.float64) / 2
        distance, azimuth = rng.uniform(1.4, 5.0), rng.uniform(0, 2 * np.pi)
        eye = np.array([*(target[:2] + distance * np.array([np.cos(azimuth), np.sin(azimuth)])), rng.uniform(0.5, 2.2)])
        R = _aside(rng, target - eye)
        points = (person.joints - eye) @ R.T
        if points[:, 2].min() < 0.5:
            continue
        flat = points[:, :2] / points[:, 2:]
        box = joint_box(flat, _BOX_SCALE)
        focal = side / (MARGIN * box[2:].max())
        middle = (side - 1) / 2 - focal * (box[:2] + box[2:] / 2)
        K = np.array([[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1]])
        return K, View(Camera(K, np.zeros(0), "plumb_bob", (side, side)), R, eye)


def _aside(rng: np.random.Generator, toward: Floats) -> Floats:
    """R_cam_world of a camera with the horizon about level that has ``toward`` [3] somewhere off its axis."""
    yaw = np.arctan2(toward[1], toward[0]) + np.radians(rng.uniform(-25, 25))
    pitch = np.arcsin(toward[2] / np.linalg.norm(toward)) + np.radians(rng.uniform(-12, 12))
    roll = rng.normal(0, 0.04)
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    return np.stack([c * right + s * down, c * down - s * right, forward])
