"""Which families of poses there are and how often; those of evaluation are partly its own.

All poses are written here, from anatomy and observation: no motion capture, so no licence but this project's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training.synthetic.arm_poses import Pose
from training.synthetic.movements import (
    carrying,
    dancing,
    jumping,
    kicking,
    running,
    stumbling,
    swinging,
    throwing,
    walking,
)
from training.synthetic.stances import (
    arms_crossed,
    bending,
    crawling,
    kneeling,
    lunging,
    lying,
    sitting,
    squatting,
    standing,
)

Family = tuple[Callable[[np.random.Generator], Pose], float]
TRAINING: dict[str, Family] = {
    "standing": (standing, 0.25),
    "arms crossed": (arms_crossed, 0.02),
    "walking": (walking, 0.17),
    "running": (running, 0.06),
    "sitting": (sitting, 0.10),
    "squatting": (squatting, 0.05),
    "bending": (bending, 0.06),
    "kneeling": (kneeling, 0.04),
    "lunging": (lunging, 0.05),
    "stumbling": (stumbling, 0.05),
    "jumping": (jumping, 0.03),
    "dancing": (dancing, 0.06),
    "lying": (lying, 0.02),
    "crawling": (crawling, 0.015),
    "carrying": (carrying, 0.03),
}
EVALUATION: dict[str, Family] = {
    "standing": (standing, 0.2),
    "walking": (walking, 0.2),
    "sitting": (sitting, 0.1),
    "stumbling": (stumbling, 0.1),
    "kicking": (kicking, 0.13),
    "throwing": (throwing, 0.14),
    "swinging": (swinging, 0.13),
}
