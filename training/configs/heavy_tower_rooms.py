"""metrabs_base trained on as by heavy_tower_astray, half of the crops in rooms.

    OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0 python -m training.train heavy_tower_rooms runs/heavy_tower_rooms \\
        --start-from METRABS_BASE.onnx --until 867
    python -m training.export runs/heavy_tower_rooms NAME.onnx --back-to METRABS_BASE.onnx --part 0.4

With the metrabs_base of then; or, as today's was made of that one, on a GPU with 16 cores beside it:

    python -m training.render_pool POOL --config heavy_tower_rooms --workers 14 --seed 21 &
    python -m training.sprint heavy_tower_rooms POOL OUT --seconds 580 --batch-size 128 \\
        --start-from METRABS_BASE.onnx --stages whole=3e-4:1.2e-4:1
    python -m training.train heavy_tower_rooms runs/gpu --until 0 --start-from OUT/whole-0.safetensors \\
        --start-from OUT/whole-1.safetensors
    python -m training.export runs/gpu NAME.onnx --back-to METRABS_BASE.onnx --part 0.25

To go on, start from engines/metrabs_base.onnx.

Duration: 4 to 6 s an update on two cores with AMX, 867 updates in 95 minutes beside other work; 0.06 s on an H200.
Expected: on 384 held-out crops (half of them in rooms, three in ten astray) MPJPE 196.9 mm after 100 updates and 187.4
after 800, P-MPJPE 133.6 and 128.9; on the GPU, 710 crops, 199.7 and 133.4 before, 176.0 and 122.8 after 9124 updates.
What came of it: training/RESULTS.md.
"""

from dataclasses import replace

from training.configs.heavy_tower_astray import CONFIG as ASTRAY
from training.people import SyntheticPeople
from training.synthetic.stream import StreamConfig

CONFIG = replace(
    ASTRAY,
    data=SyntheticPeople(
        StreamConfig(body_up=0.5, room=0.5, astray=0.3), workers=1, showings=3, window=6144, background=9, held_out=384
    ),
    seed=13,
)
