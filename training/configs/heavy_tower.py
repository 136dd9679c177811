"""MeTRAbs heads on all of BlazePose heavy's maps, its encoder, decoder and tower trained behind them.

    metrabs-engine fetch blazepose_heavy
    python -m training.render_pool POOL --workers 15 &
    python -m training.sprint heavy_tower POOL FOLDER --seconds 430

Duration: what --seconds says, on one GPU with 16 cores beside it.
"""

from training.config import TrainConfig
from training.heatmap import Grid
from training.losses import LossConfig
from training.model.metrabs import MetrabsConfig
from training.people import SyntheticPeople
from training.schedule import Schedule

CONFIG = TrainConfig(
    model=MetrabsConfig(backbone="blazepose_tower", grid=Grid(stride=16), fuse=160, confidence=True, person=True),
    data=SyntheticPeople(workers=1, showings=2, background=4, held_out=256),
    steps=20_000,
    loss=LossConfig(absolute=0.2, absolute_from=0, least_inside=0.3, confidence_weights=True),
    schedule=Schedule(base=3e-4, warm_up=200),
    batch_size=32,
    encoder_rate=0.5,
    encoder_rate_by_size=True,
    clip=50.0,
)
