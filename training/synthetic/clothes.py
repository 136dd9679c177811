"""What people wear: outfits as parameter rows for materials.py, and how far cloth and hair stand off the body."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from training.synthetic.bodies import Shape
from training.synthetic.fields import HAND, HEAD, vertex_fields, vertex_parts
from training.synthetic.materials import MATERIAL, RULES, SLOTS, WIDTH

Floats = NDArray[np.floating]
_LOOSE = ("top", "bottom", "sleeves", "trouser_legs", "hair", "hat", "shoes")


@dataclass(frozen=True, eq=False)
class Outfit:
    """params [WIDTH] as materials.py reads them; looseness [7] m by ``_LOOSE``; drape 0 (clinging)..1; skirt:
    length as leg coordinate or 0, flare 0..1; long_hair: m below the hairline or 0."""

    params: NDArray[np.float32]
    looseness: NDArray[np.float32]
    drape: float
    skirt_length: float
    skirt_flare: float
    long_hair: float


def sampled_outfit(rng: np.random.Generator, shape: Shape, held_out: bool = False) -> Outfit:
    """Clothes for a person; ``held_out``: from patterns and colours that training does not use."""
    p = shape.phenotype
    female = rng.random() < p.gender
    child = p.age < 0.45
    rules = dict.fromkeys(RULES, 0.0)
    slots = {slot: _cloth(rng, held_out) for slot in SLOTS}
    slots["skin"] = _skin(rng, p.african, p.asian)
    slots["hair"] = _hair_colour(rng, p.age)
    style = rng.choice(
        ["shirt", "long", "jacket", "vest", "bare", "dress", "coat", "tracksuit"],
        p=[0.27, 0.27, 0.14, 0.07, 0.04, 0.09, 0.06, 0.06],
    )
    rules["sleeve"] = {
        "shirt": rng.uniform(0.25, 0.85),
        "vest": 0.02,
        "dress": rng.choice([0.02, 0.4, 1.8]),
        "bare": -5.0,
    }.get(style, rng.uniform(1.6, 2.05))
    rules["top_low"] = {"coat": rng.uniform(-1.0, -0.2), "bare": 9.0}.get(style, rng.uniform(-0.08, 0.25))
    rules["neck_depth"] = rng.uniform(0.0, 0.28) if style != "coat" else rng.uniform(-0.1, 0.15)
    rules["waist"] = rng.uniform(0.22, 0.36)
    rules["tucked"] = float(rng.random() < 0.25)
    rules["trouser_leg"] = rng.choice(
        [rng.uniform(1.75, 2.05), rng.uniform(0.3, 1.0), rng.uniform(1.0, 1.7)], p=[0.7, 0.22, 0.08]
    )
    rules["open_front"] = rng.uniform(0.01, 0.09) if style in ("jacket", "coat") and rng.random() < 0.7 else 0.0
    barefoot = rng.random() < 0.13
    rules["shoe_top"] = (
        9.0
        if barefoot
        else rng.choice([rng.uniform(2.0, 2.12), rng.uniform(1.8, 2.0), rng.uniform(1.2, 1.8)], p=[0.75, 0.18, 0.07])
    )
    rules["sock_top"] = (
        9.0 if barefoot and rng.random() < 0.7 else rng.uniform(1.45, 2.0) if rng.random() < 0.8 else 9.0
    )
    rules["hem_wave"] = rng.uniform(0, 0.02)
    rules["beard"] = rng.uniform(0.1, 0.95) if not female and not child and rng.random() < 0.4 else 0.0
    rules["hair_shift"] = rng.normal(0, 0.008) if female or child or rng.random() < 0.75 else rng.uniform(0.02, 0.12)
    rules["gloves"] = float(rng.random() < 0.03 and rules["sleeve"] > 1.5)
    rules["hat_line"] = rng.uniform(0.01, 0.04) if rng.random() < 0.15 else 9.0
    rules["mask"] = float(rng.random() < 0.04)
    rules["eye_hue"] = rng.random()
    skirt = style == "dress" or (female and not child and rng.random() < 0.12)
    if skirt:
        rules["trouser_leg"] = rng.choice([0.1, 1.95], p=[0.7, 0.3])
        if style == "dress":
            slots["bottom"] = slots["top"]
    if style == "tracksuit":
        slots["bottom"] = {**slots["top"]}
    loose = rng.random()
    looseness = [
        rng.uniform(0.003, 0.025) + 0.025 * (style in ("jacket", "coat")) * rng.random(),
        rng.uniform(0.003, 0.018),
        rng.uniform(0.003, 0.022) + 0.012 * (style in ("jacket", "coat")),
        0.004 + 0.036 * loose**1.5,
        rng.choice([0.002, rng.uniform(0.005, 0.02), rng.uniform(0.02, 0.05)], p=[0.25, 0.45, 0.3]),
        rng.uniform(0.01, 0.05),
        rng.uniform(0.003, 0.012),
    ]
    params = np.zeros(WIDTH, np.float32)
    params[: len(RULES)] = [rules[name] for name in RULES]
    for i, slot in enumerate(SLOTS):
        params[len(RULES) + i * len(MATERIAL) :][: len(MATERIAL)] = [slots[slot][name] for name in MATERIAL]
    length = rng.uniform(0.35, 1.7) if skirt else 0.0
    long_hair = rng.uniform(0.08, 0.32) if (female and rng.random() < 0.65) or rng.random() < 0.04 else 0.0
    scale = np.float32(shape.height / 1.7)
    return Outfit(
        params, np.array(looseness, np.float32) * scale, rng.uniform(0.3, 1), length, rng.uniform(0.05, 0.8), long_hair
    )


def object_params(rng: np.random.Generator) -> NDArray[np.float32]:
    """The parameter row of a thing made of one material."""
    params = np.zeros(WIDTH, np.float32)
    params[0] = 1
    cloth = _cloth(rng, False)
    cloth["bump"] = 0.0
    params[len(RULES) :][: len(MATERIAL)] = [cloth[name] for name in MATERIAL]
    return params


def dressed(outfit: Outfit, shape: Shape) -> NDArray[np.float32]:
    """[V,3] m, rest pose: the body's surface with cloth, shoes and hair standing off the skin and spanning hollows."""
    cover, off = _stand_off(outfit.params, outfit.looseness, vertex_fields(), vertex_parts())
    spanned = shape.vertices + (outfit.drape * cover)[:, None] * (shape.draped - shape.vertices)
    return (spanned + shape.normals * off[:, None]).astype(np.float32)


def _cloth(rng: np.random.Generator, held_out: bool) -> dict[str, float]:
    colours = _colour(rng), _colour(rng)
    plain = rng.random() < 0.55
    kinds = [7, 8] if held_out else [1, 2, 3, 4, 5, 6, 6]
    return {
        **{f"{name}": value for name, value in zip(("red", "green", "blue"), colours[0], strict=True)},
        **{f"{name}2": value for name, value in zip(("red", "green", "blue"), colours[1], strict=True)},
        "pattern": 0 if plain else rng.choice(kinds),
        "scale": np.exp(rng.uniform(np.log(25), np.log(220))),
        "phase": rng.uniform(0, 6.28),
        "gloss": max(0.0, rng.normal(0, 0.06)),
        "bump": rng.uniform(0.03, 0.32),
        "bump_scale": rng.uniform(12, 55),
        "bump_turn": rng.uniform(0, 3.14),
        "seed": rng.uniform(0, 50),
    }


def _colour(rng: np.random.Generator) -> Floats:
    """Linear RGB of cloth: often grey, black, white, blue or brown, sometimes loud."""
    kind = rng.random()
    if kind < 0.38:
        return np.full(3, np.exp(rng.uniform(np.log(0.015), np.log(0.85)))) * rng.uniform(0.92, 1.08, 3)
    if kind < 0.6:
        return np.array([0.06, 0.1, 0.2]) * np.exp(rng.uniform(-1.2, 1.0)) * rng.uniform(0.7, 1.3, 3)
    if kind < 0.74:
        return np.array([0.22, 0.14, 0.08]) * np.exp(rng.uniform(-1.2, 1.0)) * rng.uniform(0.8, 1.2, 3)
    colour = rng.uniform(0, 1, 3) ** 2.0 * 0.8 + 0.01
    return colour + rng.uniform(0, 0.85) * (colour.mean() - colour)


def _skin(rng: np.random.Generator, african: float, asian: float) -> dict[str, float]:
    dark = np.clip(rng.beta(0.9, 1.6) + 0.3 * african - 0.1, 0, 1)
    light_tone, dark_tone = np.array([0.66, 0.42, 0.31]), np.array([0.085, 0.045, 0.028])
    tone = np.exp((1 - dark) * np.log(light_tone) + dark * np.log(dark_tone)) * rng.uniform(0.93, 1.07, 3)
    tone[1] *= 1 + 0.06 * asian
    cloth = _cloth(rng, False)
    return {
        **cloth,
        "red": tone[0],
        "green": tone[1],
        "blue": tone[2],
        "pattern": 0,
        "gloss": rng.uniform(0.01, 0.12),
        "bump": rng.uniform(0, 0.03),
    }


def _hair_colour(rng: np.random.Generator, age: float) -> dict[str, float]:
    tones = np.array(
        [
            [0.01, 0.009, 0.008],
            [0.03, 0.018, 0.011],
            [0.09, 0.05, 0.025],
            [0.3, 0.2, 0.09],
            [0.2, 0.06, 0.02],
            [0.45, 0.43, 0.4],
        ]
    )
    odds = np.array([0.34, 0.26, 0.16, 0.12, 0.04, 0.08 if age < 0.8 else 0.6])
    tone = tones[rng.choice(6, p=odds / odds.sum())] * np.exp(rng.normal(0, 0.25))
    cloth = _cloth(rng, False)
    return {
        **cloth,
        "red": tone[0],
        "green": tone[1],
        "blue": tone[2],
        "pattern": 0,
        "gloss": rng.uniform(0, 0.1),
        "bump": rng.uniform(0.1, 0.4),
        "bump_scale": rng.uniform(30, 90),
    }


@numba.njit(cache=True, fastmath=True)
def _smooth(x):  # type: ignore[no-untyped-def]
    x = min(1.0, max(0.0, x))
    return x * x * (3 - 2 * x)


@numba.njit(cache=True, fastmath=True)
def _stand_off(params, loose, fields, parts):  # type: ignore[no-untyped-def]
    covers = np.zeros(len(parts), np.float32)
    out = np.zeros(len(parts), np.float32)
    for i in range(len(parts)):
        arm, leg, height, scalp = fields[i]
        if parts[i] == HEAD:
            hair = loose[4] * _smooth((scalp - params[10]) / 0.03)
            hat = loose[5] * _smooth((scalp - params[14]) / 0.012)
            out[i] = max(hair, hat)
            continue
        if parts[i] == HAND or parts[i] > 5:
            continue
        top = _smooth((height - params[2]) / 0.04) * _smooth((params[1] - arm) / 0.08) * _smooth((1.03 - height) / 0.12)
        sleeve = _smooth(arm / 0.6)
        cover = top * (loose[0] * (1 - sleeve) + loose[2] * sleeve)
        low = _smooth((params[5] - height) / 0.05) * _smooth((params[4] - leg) / 0.06)
        legs = _smooth(leg / 1.2)
        cover = max(cover, low * (loose[1] * (1 - legs) + loose[3] * legs))
        cover = max(cover, loose[6] * _smooth((leg - params[7]) / 0.04))
        covers[i] = max(top, low)
        out[i] = cover
    return covers, out
