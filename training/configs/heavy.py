"""BlazePose heavy's stride-32 stage trained behind its stored stride-16 maps, with the heads of heavy_heads.

    python -m training.store_features heavy --workers 2
    python -m training.train heavy runs/heavy --start-from training/start.safetensors

Duration: 60 ms of a core for each crop stored, 30 to 45 ms for each shown.
Expected: not better than heavy_heads so far (training/RESULTS.md): 350 steps at encoder_rate 1.0 cost what the encoder
knows of real people.
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
    loss=LossConfig(absolute=0.2, absolute_from=0, least_inside=0.3, confidence_weights=True),
    schedule=Schedule(base=3e-4, warm_up=100),
    batch_size=64,
    encoder_rate=0.1,
    encoder_rate_by_size=True,
    clip=50.0,
    ema_decay=0.998,
    validate_every=500,
    checkpoint_every=500,
    threads=1,
)
