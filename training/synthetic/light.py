"""Light: a sun or lamp, the sky and the ground's reflection, all in linear RGB."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Light:
    """to_sun [3] unit, world (z up); sun, sky, ground [3] linear RGB radiance; softness m of the shadow's edge."""

    to_sun: Floats
    sun: Floats
    sky: Floats
    ground: Floats
    softness: float


def sampled_light(rng: np.random.Generator) -> Light:
    """From an overcast day over rooms with lamps and windows to a low, hard sun from behind."""
    kind = rng.random()
    azimuth = rng.uniform(0, 2 * np.pi)
    warm = colour_of_temperature(rng.uniform(-1, 1))
    cold = colour_of_temperature(rng.uniform(-1, 1))
    if kind < 0.35:  # sun
        elevation, sun, sky, softness = (
            np.radians(rng.uniform(8, 75)),
            rng.uniform(0.8, 2.2),
            rng.uniform(0.12, 0.5),
            0.01,
        )
    elif kind < 0.6:  # overcast
        elevation, sun, sky, softness = (
            np.radians(rng.uniform(30, 85)),
            rng.uniform(0, 0.35),
            rng.uniform(0.6, 1.1),
            0.12,
        )
    elif kind < 0.9:  # lamp or window
        elevation, sun, sky, softness = (
            np.radians(rng.uniform(10, 85)),
            rng.uniform(0.3, 1.1),
            rng.uniform(0.2, 0.7),
            0.05,
        )
    else:  # hardly any
        elevation, sun, sky, softness = (
            np.radians(rng.uniform(5, 80)),
            rng.uniform(0.2, 0.6),
            rng.uniform(0.05, 0.2),
            0.03,
        )
    to_sun = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    return Light(
        to_sun=to_sun,
        sun=sun * warm,
        sky=sky * cold,
        ground=sky * rng.uniform(0.15, 0.7) * cold * rng.uniform(0.7, 1.0, 3),
        softness=softness * rng.uniform(0.6, 1.6),
    )


def colour_of_temperature(warmth: float) -> Floats:
    """Unit-mean RGB from cold (-1) to warm (1)."""
    colour = np.array([1 + 0.3 * warmth, 1.0, 1 - 0.35 * warmth])
    return colour / colour.mean()
