"""A scene: people, things, light and a camera, all drawn from one generator, so a seed gives the same scene everywhere.

World: z up, floor at 0, metres.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.synthetic import backgrounds, camera_sampling, clothes
from training.synthetic.backdrop import Backdrop, sampled_backdrop
from training.synthetic.bodies import Phenotype, Shape, sampled_phenotype, shapes
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


def sampled_stock(
    rng: np.random.Generator,
    held_out: bool = False,
    people: int = 12,
    photos: int = 6,
    bystanders: int = 12,
    phenotype: Callable[[np.random.Generator], Phenotype] = sampled_phenotype,
    families: Sequence[str] | None = None,
) -> Stock:
    """A stock; ``held_out``: of what training never sees; ``bystanders``: at most so many of the people; ``phenotype``
    draws them, ``families``: the poses that they may have."""
    entries = backgrounds.pictures(held_out)
    chosen = tuple(backgrounds.photo(entries[i]) for i in rng.integers(0, len(entries), photos))
    bodies = tuple(shapes([phenotype(rng) for _ in range(people)]))
    others = tuple(sampled_person(rng, body, held_out, families) for body in bodies[:bystanders])
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
    middle = middle_of(first)
    view = camera_sampling.sampled_view(rng, camera, middle, first.shape.height)
    if wanted and not wanted(first, view):
        return None
    people = [first]
    for i in rng.choice(len(stock.bystanders), min(count - 1, len(stock.bystanders)), replace=False):
        other = stock.bystanders[i].turned(rng.uniform(0, 2 * np.pi))
        people += placed(other, _spots_beside(rng, people, view), people)
    return furnished(rng, stock, people, view, middle)


def furnished(rng: np.random.Generator, stock: Stock, people: list[Person], view: View, middle: Floats | None) -> Scene:
    """The scene around people who are seen by a camera: seats, things around ``middle`` [3] m (None: no things), light
    and what is behind."""
    seats = [seat_under(rng, p.joints, p.shape.height) for p in people if p.family == "sitting" and rng.random() < 0.85]
    around = () if middle is None else sampled_things(rng, middle, view.eye)
    things = (*around, *(seat for seat in seats if seat is not None))
    params = np.array([clothes.object_params(rng) for _ in things], np.float32).reshape(len(things), WIDTH)
    photo = stock.photos[rng.integers(len(stock.photos))]
    backdrop = sampled_backdrop(rng, photo, stock.textures, float(view.camera.K[0, 0]))
    return Scene(tuple(people), things, params, sampled_light(rng), backdrop, view)


def middle_of(person: Person) -> Floats:
    """[3] m the middle of the space that somebody takes."""
    return ((person.points.min(0) + person.points.max(0)) / 2).astype(np.float64)


def placed(other: Person, spots: Iterable[Floats], people: list[Person]) -> list[Person]:
    """``other`` on the first of the ``spots`` [2] m where they do not stand in anybody; nobody where there is none."""
    for spot in spots:
        moved = other.moved(np.array([*spot, 0.0]))
        gaps = [np.linalg.norm(moved.joints[:, None] - person.joints[None], axis=-1).min() for person in people]
        if min(gaps) > _APART:
            return [moved]
    return []


def _spots_beside(rng: np.random.Generator, people: list[Person], view: View) -> Iterator[Floats]:
    """A few spots near someone, not in the camera."""
    for _ in range(6):
        near = people[rng.integers(len(people))].joints[0, :2]
        close = rng.random() < 0.5
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 1.0) if close else rng.uniform(0.8, 4.0)
        place = near + radius * np.array([np.cos(angle), np.sin(angle)])
        if np.linalg.norm(place - view.eye[:2]) >= 0.7:
            yield place
