"""People of a data set as crops that show a part of them, for the truncation protocol (P 3.5, table 5, fig. 6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from metrabs_ros.engine import Engine
from metrabs_ros.errors import InputError
from metrabs_ros.skeleton import Skeleton
from training.augment import NONE, Augmentation
from training.data.record import Record
from training.examples import Example
from training.protocols import joints, looks, truncation
from training.protocols.poses import Poses, poses

SEED = 20_260_103
_SKELETON = Skeleton.from_names(truncation.JOINTS, joints.BONES)


def examples(records: Iterable[Record], side: int, seed: int = SEED) -> Iterator[Example]:
    """Of each record with 3D labels a crop of side px with more than a quarter of the person's square, nothing else
    changed, and the protocol's joints. The same records and seed give the same parts."""
    augmentation = Augmentation(replace(NONE, truncation=1.0), skeleton=_SKELETON, side=side)
    for number, record in enumerate(records):
        if record.joints3d is not None:
            yield augmentation.example(record, np.random.default_rng((seed, number)))


def seen(engine: Engine, records: Iterable[Record], seed: int = SEED, second_look: bool = True) -> tuple[Poses, Poses]:
    """The engine's poses of truncated crops and the true ones, as truncation.evaluate takes them, both in each crop's
    camera; second_look: see looks.seen_on_crops. One crop is in memory at a time.

    Raises InputError where no record has 3D labels.
    """
    side = engine.spec.input.size
    found, joints3d, joints2d = [], [], []
    for example in examples(records, side, seed):
        found.append(looks.seen_on_crops(engine, [example], second_look)[0])
        joints3d.append(example.joints3d)
        joints2d.append(example.joints2d)
    if not found:
        raise InputError("The data set yields no pose with 3D labels: check its folder.")
    images = np.arange(len(found))
    truth = poses(truncation.JOINTS, joints3d, images, joints2d=joints2d, side=np.full(len(found), side))
    return poses(engine.spec.joints, found, images), truth
