"""The default model's own ground: adults in a room, 3 to 4 m from a tilted camera in portrait format, standing to
stumbling, mostly partly hidden by somebody nearer. Functions as in scene, which has people of all kinds anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from training.synthetic import camera_sampling, scene
from training.synthetic.bodies import Phenotype, sampled_phenotype
from training.synthetic.camera_sampling import View
from training.synthetic.people import Person, sampled_person
from training.synthetic.scene import Scene, Stock, furnished, middle_of, placed

_FAMILIES = ("standing", "arms crossed", "walking", "stumbling")
_SIZES = ((720, 1280), (1080, 1920), (480, 640), (960, 1280))
# anny's: from 19 years on.
_ADULT = 0.6
_HIDDEN = 0.7
_TRIES = 6


def sampled_stock(rng: np.random.Generator, held_out: bool = False, people: int = 12, photos: int = 6) -> Stock:
    """As scene's, of adults, all of them bystanders, too."""
    return scene.sampled_stock(rng, held_out, people, photos, people, _adult, _FAMILIES)


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
        people += placed(bystander, _spots_before(rng, first, view), people)
    return furnished(rng, stock, people, view, middle=None)


def _adult(rng: np.random.Generator) -> Phenotype:
    while (phenotype := sampled_phenotype(rng)).age < _ADULT:
        pass
    return phenotype


def _spots_before(rng: np.random.Generator, first: Person, view: View) -> Iterator[NDArray[np.floating]]:
    """A few spots between the camera and the first person, a little to the side."""
    place = first.joints[0, :2]
    toward = view.eye[:2] - place
    toward /= np.linalg.norm(toward)
    aside = np.array([-toward[1], toward[0]])
    for _ in range(_TRIES):
        yield place + rng.uniform(0.3, 1.6) * toward + rng.choice([-1, 1]) * rng.uniform(0.1, 0.7) * aside
