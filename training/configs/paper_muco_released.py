"""paper_muco as the authors' later code trains it: its losses, schedule and reconstruction (NUMERICS, "R").

    python -m training.train paper_muco_released runs/paper_muco_released        # after paper_muco's shards
    python -m training.evaluate mupots --checkpoint runs/paper_muco_released --root MUPOTS_ROOT

What is still the paper's: ResNet-50, data and augmentation.

Duration: 27 epochs. Neither this nor the score could be measured where this was written, for want of the data.
Expected: nothing published is of just these settings; paper_muco's figures are the nearest.
"""

from dataclasses import replace

from training.configs.paper_muco import CONFIG as PAPER
from training.losses import RELEASED as LOSSES
from training.schedule import RELEASED as SCHEDULE

CONFIG = replace(PAPER, loss=replace(LOSSES, hips_up=0.2), schedule=SCHEDULE, frozen_norm_steps=1000, ghost_batch=16)
