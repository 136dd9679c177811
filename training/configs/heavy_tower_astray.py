"""heavy_tower_cpu's network trained on; three crops in ten as a video cuts them where it nearly lost somebody.

    OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0 python -m training.train heavy_tower_astray runs/heavy_tower_astray \\
        --start-from runs/heavy_tower_cpu/step-0000800 --until 550
    python -m training.export runs/heavy_tower_astray NAME.onnx --back-to METRABS_BASE.onnx --part 0.3

The last line with what heavy_tower_cpu began with, the metrabs_base of then. Today's is the result: to go on, start
from engines/metrabs_base.onnx.

Duration: 4 to 6 s an update on two cores with AMX, 550 updates in three quarters of an hour when nothing else runs.
Expected: on 384 held-out crops (a third of them in rooms, three in ten astray) MPJPE 210.9 mm after 100 updates and
199.5 after 400; what came of it: training/RESULTS.md.
"""

from dataclasses import replace

from training.configs.heavy_tower_cpu import CONFIG as ON_A_CPU
from training.people import SyntheticPeople
from training.synthetic.stream import StreamConfig

CONFIG = replace(
    ON_A_CPU,
    data=SyntheticPeople(
        StreamConfig(body_up=0.5, room=0.35, astray=0.3),
        workers=1,
        showings=3,
        window=6144,
        background=9,
        held_out=384,
    ),
    steps=1100,
    seed=12,
)
