"""MeTRAbs heads on all of BlazePose heavy's maps, then its encoder, decoder and tower trained with them.

    metrabs-engine fetch blazepose_heavy
    python -m training.render_pool POOL --workers 15 &
    python -m training.sprint heavy_tower POOL OUT --seconds 150 --batch-size 256
    python -m training.sprint heavy_tower POOL OUT --seconds 300 --start-from OUT/heads-0.safetensors \\
        --stages whole=3e-4:1.2e-4:0

or without a GPU, where it renders for itself: python -m training.train heavy_tower runs/heavy_tower

Duration: what --seconds says, on one GPU with 16 cores beside it; without a GPU days.
Expected: on 640 held-out crops and one H200 a P-MPJPE of 144.7 mm after 1140 updates of 256 of the heads alone, and of
133.0 mm after 392 updates of 96 of everything, which was still falling fast (MPJPE 225 and 203 mm).
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
