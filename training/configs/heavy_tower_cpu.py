"""All of heavy_tower's network trained on from the engine, on a CPU that multiplies bfloat16 (AMX), a third in rooms.

    OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0 python -m training.train heavy_tower_cpu runs/heavy_tower_cpu \\
        --start-from engines/metrabs_base.onnx
    python -m training.export runs/heavy_tower_cpu NAME.onnx --back-to engines/metrabs_base.onnx --part 0.4

Duration: 800 updates in 80 minutes of two cores with AMX (4.2 s an update when nothing else runs).
Expected: on 384 held-out crops (a third of them in rooms) MPJPE 178.2 mm after 100 updates and 169.1 after 800,
P-MPJPE 121.5 and 115.9; what came of it: training/RESULTS.md.
"""

from dataclasses import replace

from training.configs.heavy_tower import CONFIG as TOWER
from training.people import SyntheticPeople
from training.schedule import Schedule
from training.synthetic.stream import StreamConfig

CONFIG = replace(
    TOWER,
    model=replace(TOWER.model, backbone_weights="engines/metrabs_base.onnx"),
    data=SyntheticPeople(
        StreamConfig(body_up=0.5, room=0.35), workers=1, showings=3, window=6144, background=9, held_out=384
    ),
    steps=800,
    schedule=Schedule(base=3e-4, decay=0.5, main_share=0.85, cooldown_start=0.4, cooldown_end=0.1, warm_up=50),
    encoder_rate=0.4,
    fixed_blocks=1,
    fixed_depthwise=True,
    recolour=True,
    batch_size=126,
    ghost_batch=34,
    precision="bfloat16",
    ema_decay=0.99,
    weight_decay=0.0,
    seed=11,
    validate_every=100,
    checkpoint_every=25,
    log_every=10,
    threads=2,
)
