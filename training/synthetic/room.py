"""The default model's own ground: adults in a room, 3 to 4 m from a tilted camera in portrait format, standing to
stumbling, mostly partly hidden by somebody nearer. Functions as in scene, which has people of all kinds anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training.synthetic import backgrounds, camera_sampling
from training.synthetic.bodies import Phenotype, sampled_phenotype, shapes
from training.synthetic.camera_sampling import View
from training.synthetic.people import Person, sampled_person
from training.synthetic.scene import Scene, Stock, furnished, is_clear_of, middle_of

_FAMILIES = ("standing", "arms crossed", "walking", "stumbling")
_SIZES = ((720, 1280), (1080, 1920), (480, 640), (960, 1280))
# anny's: from 19 years on.
_ADULT = 0.6
_HIDDEN = 0.7
_TRIES = 6


def sampled_stock(rng: np.random.Generator, held_out: bool = False, people: int = 12, photos: int = 6) -> Stock:
    """As scene's, of adults."""
    entries = backgrounds.pictures(held_out)
    chosen = tuple(backgrounds.photo(entries[i]) for i in rng.integers(0, len(entries), photos))
    bodies = tuple(shapes([_adult(rng) for _ in range(people)]))
    others = tuple(sampled_person(rng, body, held_out, _FAMILIES) for body in bodies)
    return Stock(bodies, others, chosen, backgrounds.textures(rng, held_out, 8), held_out)


def sampled_scene(
    rng: np.random.Generator, stock: Stock, wanted: Callable[[Person, View], bool] | None = None
) -> Scene | None:
    """As scene's, of one or two people."""
    first = sampled_person(rng, stock.shapes[rng.integers(len(stock.shapes))], stock.held_out, _FAMILIES)
    camera = camera_sampling.sampled_camera(rng, _SIZES[rng.integers(len(_SIZES))])
    view = camera_sampling.tilted_view(rng, camera, middle_of(first))
    if wanted and not wanted(first, view):
        return None
    people = [first]
    if rng.random() < _HIDDEN:
        bystander = stock.bystanders[rng.integers(len(stock.bystanders))].turned(rng.uniform(0, 2 * np.pi))
        nearer = _placed_before(rng, bystander, first, view)
        people += [nearer] if nearer is not None else []
    return furnished(rng, stock, people, view, with_things=False)


def _adult(rng: np.random.Generator) -> Phenotype:
    while (phenotype := sampled_phenotype(rng)).age < _ADULT:
        pass
    return phenotype


def _placed_before(rng: np.random.Generator, other: Person, first: Person, view: View) -> Person | None:
    """``other`` moved between the camera and the first person, a little to the side; None where that fails."""
    place = first.joints[0, :2]
    toward = view.eye[:2] - place
    toward /= np.linalg.norm(toward)
    aside = np.array([-toward[1], toward[0]])
    for _ in range(_TRIES):
        spot = place + rng.uniform(0.3, 1.6) * toward + rng.choice([-1, 1]) * rng.uniform(0.1, 0.7) * aside
        moved = other.moved(np.array([*spot, 0.0]))
        if is_clear_of(moved, [first]):
            return moved
    return None
