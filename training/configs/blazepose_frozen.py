"""MeTRAbs heads on BlazePose's frozen encoder: what a CPU can train in an hour, and the start of finetune.py.

    python -m training.train blazepose_frozen runs/frozen

Duration: 15 to 25 minutes on 2 cores (one renders, one trains).
Expected: half way (750 steps) on 96 crops of the evaluation set, on the 21 joints that BlazePose has: 2D 22 px, P-MPJPE
151 mm; BlazePose full itself: 25 px, 168 mm. On 256 held-out crops, all joints: MPJPE 238 mm, P-MPJPE 142 mm.
"""

from training.config import TrainConfig
from training.losses import LossConfig
from training.model.metrabs import MetrabsConfig
from training.people import SyntheticPeople
from training.schedule import Schedule

CONFIG = TrainConfig(
    model=MetrabsConfig(backbone="blazepose", neck=(288,), confidence=True, person=True),
    data=SyntheticPeople(workers=1, showings=6, background=6, held_out=256),
    steps=1500,
    loss=LossConfig(absolute=0.2, absolute_from=300, least_inside=0.3, confidence_weights=True),
    schedule=Schedule(base=1e-3, warm_up=100),
    batch_size=48,
    frozen_encoder_steps=1500,
    ema_decay=0.995,
    validate_every=250,
    checkpoint_every=250,
    threads=1,
)
