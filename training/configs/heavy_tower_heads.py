"""The heads of heavy_tower alone, from stored maps of its trained encoder, decoder and tower.

    python -m training.store_features heavy_tower_heads --workers 2
    python -m training.train heavy_tower_heads runs/heavy_tower_heads --start-from engines/metrabs_base.onnx

Duration: 60 ms of a core for each crop stored; training 6 ms of two cores for each crop shown.
Expected: on the tower of 392 updates, 8000 stored maps and 600 updates at 4e-4: P-MPJPE 132.2 mm on 384 held-out crops
(133.0 before).
"""

from dataclasses import replace
from pathlib import Path

from training.configs.heavy_tower import CONFIG as TOWER
from training.features import StoredFeatures
from training.schedule import Schedule
from training.synthetic.stream import StreamConfig

CONFIG = replace(
    TOWER,
    model=replace(TOWER.model, backbone_weights="engines/metrabs_base.onnx"),
    data=StoredFeatures(Path(".cache/features/heavy_tower"), StreamConfig(body_up=0.5), in_memory=True),
    steps=1_500,
    frozen_encoder_steps=1_500,
    schedule=Schedule(base=6e-4, warm_up=50),
    batch_size=128,
    ema_decay=0.998,
    validate_every=300,
    checkpoint_every=150,
    threads=2,
)
