"""The paper's MeTRAbs on MuCo-3DHP, for MuPoTS-3D and MPI-INF-3DHP, with MPII as 2D supervision (section 6).

    python -m training.data.shard muco MUCO_ROOT shards/muco        # or muco_composed, from the root of MPI-INF-3DHP
    python -m training.data.shard mupots MUPOTS_ROOT shards/mupots
    python -m training.data.shard mpii MPII_ROOT shards/mpii
    python -m training.train paper_muco runs/paper_muco
    python -m training.evaluate mupots --checkpoint runs/paper_muco --root MUPOTS_ROOT

Besides: what paper_h36m asks for, and photos without people (.jpg) in `backgrounds`. Other than in the paper, 2D
supervision is MPII's people who stand apart. As there, poses are placed by weak perspective (table 9), in training and
afterwards, and predicted hips are moved up a fifth of the way from pelvis to neck before they meet MPII's.

Duration: 27 epochs. Neither this nor the score could be measured where this was written, for want of the data.
Expected: the paper's A-MPJPE of 248.2 mm and MPJPE of 108.2 mm on MuPoTS-3D, with a person detector's boxes; 328.8 mm
of A-MPJPE without the absolute loss (loss=LossConfig(absolute=0)).
"""

from dataclasses import replace
from pathlib import Path

from training import paper
from training.losses import LossConfig

PEOPLE = paper.people("shards/muco", held_out="shards/mupots")
CONFIG = paper.trained_on(replace(PEOPLE, backgrounds=Path("backgrounds")), LossConfig(perspective="weak", hips_up=0.2))
