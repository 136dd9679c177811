"""The default model: BlazePose's encoder and MeTRAbs heads, trained end to end on fresh synthetic people.

    python -m training.train finetune runs/finetune --start-from runs/frozen/step-0001500

Duration: about 0.6 steps/s on 2 cores (one renders, one trains), four days in all, better every hour: stop and resume
at will. On a GPU raise batch_size, workers and threads in a copy.
Expected: after 150 steps P-MPJPE 145 mm where blazepose_frozen has 151 mm (its docstring says on what); the end has
not been seen yet.
"""

from dataclasses import replace

from training.configs.blazepose_frozen import CONFIG as FROZEN
from training.losses import LossConfig
from training.people import SyntheticPeople
from training.schedule import Schedule

CONFIG = replace(
    FROZEN,
    data=SyntheticPeople(workers=1, showings=2, background=4, held_out=256),
    steps=200_000,
    loss=LossConfig(absolute=0.2, absolute_from=0, least_inside=0.3, confidence_weights=True),
    schedule=Schedule(base=3e-4, warm_up=200),
    batch_size=32,
    encoder_rate=1.0,
    encoder_rate_by_size=True,
    frozen_encoder_steps=0,
    # The maps up to stride 8 are fine as they are, and a third of a step's time.
    fixed_blocks=4,
    # The encoder's gradients are a hundred times those of the heads.
    clip=50.0,
    ema_decay=0.999,
    validate_every=1000,
)
