"""A scene: people, things, light and a camera, all drawn from one generator, so a seed gives the same scene everywhere.

World: z up, floor at 0, metres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.synthetic import backgrounds, camera_sampling, clothes
from training.synthetic.backdrop import Backdrop, sampled_backdrop
from training.synthetic.bodies import Shape, sampled_phenotype, shapes
from training.synthetic.camera_sampling import View
from training.synthetic.light import Light, sampled_light
from training.synthetic.materials import WIDTH
from training.synthetic.occluders import Thing, sampled_things, seat_under
from training.synthetic.people import Person, sampled_person

Floats = NDArray[np.floating]
# Under the floor, beyond every camera's sight, m.
_AWAY = np.array([0.0, 0.0, -1000.0])
# Nobody's joints come nearer to another's than this, m.
_APART = 0.12


@dataclass(frozen=True, eq=False)
class Stock:
    """What a few dozen scenes share, because it takes long to make: shapes for the people the camera is pointed at,
    dressed and posed bystanders, photos and textures."""

    shapes: tuple[Shape, ...]
    bystanders: tuple[Person, ...]
    photos: tuple[NDArray[np.uint8], ...]
    textures: NDArray[np.uint8]
    held_out: bool


@dataclass(frozen=True, eq=False)
class Scene:
    """The first person is the one the camera was pointed at."""

    people: tuple[Person, ...]
    things: tuple[Thing, ...]
    thing_params: NDArray[np.float32]
    light: Light
    backdrop: Backdrop
    view: View

    def deserted(self) -> Scene:
        """The same after all people have left."""
        return replace(self, people=tuple(person.moved(_AWAY) for person in self.people))


def sampled_stock(rng: np.random.Generator, held_out: bool = False, people: int = 12, photos: int = 6) -> Stock:
    """A stock; ``held_out``: of what training never sees."""
    entries = backgrounds.pictures(held_out)
    chosen = tuple(backgrounds.photo(entries[i]) for i in rng.integers(0, len(entries), photos))
    bodies = tuple(shapes([sampled_phenotype(rng) for _ in range(people)]))
    others = tuple(sampled_person(rng, bodies[i], held_out) for i in range(min(people, 12)))
    return Stock(bodies, others, chosen, backgrounds.textures(rng, held_out, 8), held_out)


def sampled_scene(
    rng: np.random.Generator,
    stock: Stock,
    size: tuple[int, int] | None = None,
    count: int | None = None,
    wanted: Callable[[Person, View], bool] | None = None,
) -> Scene | None:
    """A scene of 1..6 people (or ``count``) out of the stock, seen by a camera (of ``size`` px if given).

    None where ``wanted`` does not like how the camera sees the first person: asked before the rest is made.
    """
    if count is None:
        count = int(rng.choice([1, 2, 3, 4, 5, 6], p=[0.45, 0.27, 0.14, 0.07, 0.04, 0.03]))
    first = sampled_person(rng, stock.shapes[rng.integers(len(stock.shapes))], stock.held_out)
    camera = camera_sampling.sampled_camera(rng, size)
    view = camera_sampling.sampled_view(rng, camera, middle_of(first), first.shape.height)
    if wanted and not wanted(first, view):
        return None
    people = [first]
    for i in rng.choice(len(stock.bystanders), min(count - 1, len(stock.bystanders)), replace=False):
        other = _placed_beside(rng, stock.bystanders[i].turned(rng.uniform(0, 2 * np.pi)), people, view)
        if other is not None:
            people.append(other)
    return furnished(rng, stock, people, view)


def furnished(
    rng: np.random.Generator, stock: Stock, people: list[Person], view: View, with_things: bool = True
) -> Scene:
    """The scene around people who are seen by a camera: things (or only seats), light and what is behind."""
    seats = [seat_under(rng, p.joints, p.shape.height) for p in people if p.family == "sitting" and rng.random() < 0.85]
    around = sampled_things(rng, middle_of(people[0]), view.eye) if with_things else ()
    things = (*around, *(seat for seat in seats if seat is not None))
    params = np.array([clothes.object_params(rng) for _ in things], np.float32).reshape(len(things), WIDTH)
    photo = stock.photos[rng.integers(len(stock.photos))]
    backdrop = sampled_backdrop(rng, photo, stock.textures, float(view.camera.K[0, 0]))
    return Scene(tuple(people), things, params, sampled_light(rng), backdrop, view)


def middle_of(person: Person) -> Floats:
    """[3] m the middle of the space that somebody takes."""
    return ((person.points.min(0) + person.points.max(0)) / 2).astype(np.float64)


def is_clear_of(moved: Person, people: list[Person]) -> bool:
    """Whether somebody does not stand in anybody."""
    return all(np.linalg.norm(moved.joints[:, None] - one.joints[None], axis=-1).min() > _APART for one in people)


def _placed_beside(rng: np.random.Generator, other: Person, people: list[Person], view: View) -> Person | None:
    """``other`` moved near someone without standing in them or in the camera; None where that fails."""
    for _ in range(6):
        near = people[rng.integers(len(people))].joints[0, :2]
        close = rng.random() < 0.5
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 1.0) if close else rng.uniform(0.8, 4.0)
        place = near + radius * np.array([np.cos(angle), np.sin(angle)])
        if np.linalg.norm(place - view.eye[:2]) < 0.7:
            continue
        moved = other.moved(np.array([*place, 0.0]))
        if is_clear_of(moved, people):
            return moved
    return None
