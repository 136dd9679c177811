"""How far two engines of one spec are apart on the same crops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.engine import EngineOutput
from metrabs_ros.errors import InputError

# Mean distance of the metric joints from those of float32 on the CPU, mm, above which a precision is refused.
BOUNDS_MM = {"fp32": 0.1, "tf32": 1.0, "fp16": 1.0, "bf16": 5.0, "int8": 5.0}
JOINTS = "coords3d_rel"


@dataclass(frozen=True)
class Difference:
    """Of one output: mean and largest absolute difference over joints and crops; vectors by their length."""

    output: str
    unit: str
    mean: float
    largest: float


def differences(reference: EngineOutput, other: EngineOutput) -> list[Difference]:
    """Per output, the metric joints first; what the engine does not give is left out."""
    found = []
    for name, unit, factor in (
        (JOINTS, "mm", 1e3),
        ("coords2d", "px", 1.0),
        ("spread3d", "mm", 1e3),
        ("spread2d", "px", 1.0),
        ("confidence", "", 1.0),
        ("person_score", "", 1.0),
    ):
        apart = (getattr(other, name).astype(np.float64) - getattr(reference, name)) * factor
        if name in ("spread2d", "spread3d") and np.isnan(getattr(reference, name)).all():
            continue
        each: NDArray[np.float64] = np.linalg.norm(apart, axis=-1) if name.startswith("coords") else np.abs(apart)
        found.append(Difference(name, unit, float(each.mean()), float(each.max())))
    return found


def check(found: list[Difference], precision: str, what: str) -> None:
    """Raises InputError where the joints are farther away than the precision's bound, or are no numbers."""
    joints = next(difference for difference in found if difference.output == JOINTS)
    bound = BOUNDS_MM[precision]
    # A NaN is above no bound, and below none.
    if not joints.mean <= bound:
        raise InputError(
            f"{what} is {joints.mean:.2f} mm away from float32 on the CPU (mean of the joints, at most "
            f"{joints.largest:.1f} mm): expected at most {bound:g} mm in {precision}; build it in another precision."
        )
