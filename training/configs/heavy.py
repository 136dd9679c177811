"""The default model: BlazePose heavy's encoder up to stride 16 as it is, its stride-32 stage and MeTRAbs heads trained.

    python -m training.store_features heavy --workers 2
    python -m training.train heavy runs/heavy

Duration: 25 to 40 ms of one core for each crop shown, and 30 ms for each one stored.
Expected: see training/RESULTS.md.
"""

from pathlib import Path

from training.config import TrainConfig
from training.features import StoredFeatures
from training.losses import LossConfig
from training.model.metrabs import MetrabsConfig
from training.schedule import Schedule

CONFIG = TrainConfig(
    model=MetrabsConfig(backbone="blazepose_heavy", neck=(288,), confidence=True, person=True),
    data=StoredFeatures(Path(".cache/features/heavy")),
    # All blocks up to stride 16: what is stored is the map behind them.
    fixed_blocks=20,
    steps=20_000,
    frozen_encoder_steps=300,
    loss=LossConfig(absolute=0.2, absolute_from=300, least_inside=0.3, confidence_weights=True),
    schedule=Schedule(base=1e-3, warm_up=100),
    batch_size=64,
    encoder_rate=1.0,
    encoder_rate_by_size=True,
    clip=50.0,
    ema_decay=0.998,
    validate_every=500,
    checkpoint_every=500,
    threads=1,
)
