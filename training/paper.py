"""What the paper's training runs share (P 3.6, P 6): ResNet-50 on the 17 joints of Human3.6M and MPI-INF-3DHP."""

from __future__ import annotations

import os
from pathlib import Path

from metrabs_ros.errors import InputError
from metrabs_ros.skeleton import Skeleton
from training.config import TrainConfig
from training.data.people import ShardedPeople
from training.losses import LossConfig
from training.model.metrabs import MetrabsConfig
from training.protocols.joints import BONES, SEVENTEEN
from training.schedule import PAPER

SKELETON = Skeleton.from_names(SEVENTEEN, BONES)
_EPOCHS = 27
_BATCH = 64
_LOSS = LossConfig()
_BACKBONE = "weights/resnet50.pth"


def people(folder3d: str, held_out: str) -> ShardedPeople:
    """Shards of one data set known in 3D, MPII in 2D, objects of Pascal VOC 2012 to hide people with."""
    return ShardedPeople(
        folders3d=(Path(folder3d),),
        folders2d=(Path("shards/mpii"),),
        held_out=(Path(held_out),),
        skeleton=SKELETON,
        pascal_voc=Path("VOCdevkit/VOC2012"),
    )


def trained_on(data: ShardedPeople, loss: LossConfig = _LOSS) -> TrainConfig:
    """27 epochs; in one, every example known in 3D is seen once, and half of a batch is known in 3D. Under torchrun the
    batch is shared by the processes. Raises InputError where it cannot be, or where the shards are missing."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if _BATCH % (2 * processes):
        raise InputError(f"A batch of {_BATCH} with as many examples in 2D as in 3D is not for {processes} processes.")
    return TrainConfig(
        model=MetrabsConfig(backbone="resnet50", backbone_weights=_BACKBONE),
        data=data,
        steps=_EPOCHS * data.examples3d() // (_BATCH // 2),
        schedule=PAPER,
        batch_size=_BATCH // processes,
        loss=loss,
        skeleton=SKELETON,
    )
