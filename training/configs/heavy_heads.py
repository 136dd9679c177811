"""Heads on BlazePose heavy's frozen encoder, from its stored last maps: hundreds of crops a second on a CPU.

    metrabs-engine fetch blazepose_heavy
    python -m training.store_features heavy --workers 2
    python -m training.store_features heavy_heads --workers 2
    python -m training.train heavy_heads runs/heavy_heads

Duration: 60 ms of a core for each crop stored by `heavy`, 15 ms for each by `heavy_heads`; training 2 ms of two cores
for each crop shown, a quarter of an hour in all.
Expected: on 384 held-out crops, all joints, step 500: P-MPJPE 143.6 mm, step 3000: 140.8 mm (MPJPE 221 mm), from 39,500
stored crops, mirrored ones included.
"""

from dataclasses import replace
from pathlib import Path

from training.configs.heavy import CONFIG as HEAVY
from training.features import StoredFeatures
from training.losses import LossConfig
from training.schedule import Schedule

CONFIG = replace(
    HEAVY,
    data=StoredFeatures(
        Path(".cache/features/heavy_heads"), earlier=Path(".cache/features/heavy"), earlier_blocks=20, in_memory=True
    ),
    # All blocks and the tail.
    fixed_blocks=29,
    steps=3_600,
    frozen_encoder_steps=3_600,
    loss=LossConfig(absolute=0.2, absolute_from=500, least_inside=0.3, confidence_weights=True),
    schedule=Schedule(base=1e-3, warm_up=100),
    batch_size=128,
    threads=2,
)
