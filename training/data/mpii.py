"""MPII Human Pose: 25 000 photos from videos of 410 activities, 16 joints in 2D.

Official layout: mpii_human_pose_v1_u12_1.mat (possibly in mpii_human_pose_v1_u12_2) and the folder images.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from metrabs_ros.camera import Camera
from training.data import matlab
from training.data.missing import Origin
from training.data.pictures import PictureFile
from training.data.record import FAR_FOV_DEG, Record, in_order

ORIGIN = Origin(
    "MPII Human Pose",
    "the page of the MPII Human Pose data set at the Max Planck Institute for Informatics, human-pose.mpi-inf.mpg.de",
    "mpii_human_pose_v1_u12_1.mat and the folder images",
)

# The joints by their id.
_IDS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "neck", "upper_neck",
    "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip
# Labelled most alike across data sets: the others are not used (P 6).
JOINTS = tuple(name for name in _IDS if name not in ("pelvis", "neck", "upper_neck", "head_top"))

_UNITS_PX = 200
# The labelled middle sits high on the body.
_DOWN = 0.075


def training_records(root: Path, single_person: bool = True) -> Iterator[Record]:
    """Training images, people marked as well separated only (``single_person``), or everybody with joints."""
    path = root / "mpii_human_pose_v1_u12_1.mat"
    if not path.exists():
        path = root / "mpii_human_pose_v1_u12_2" / "mpii_human_pose_v1_u12_1.mat"
    release = matlab.load(path if path.exists() else root / path.name, ORIGIN, "RELEASE")
    try:
        pictures = zip(
            np.atleast_1d(release.annolist),
            np.atleast_1d(release.img_train),
            np.atleast_1d(release.single_person),
            np.atleast_1d(release.act),
            strict=True,
        )
    except (AttributeError, ValueError) as error:
        raise ORIGIN.damaged(path, error) from error
    for number, (annotation, is_train, separated, act) in enumerate(pictures):
        people = np.atleast_1d(annotation.annorect)
        if not is_train:
            continue
        chosen = np.atleast_1d(separated).astype(int) - 1 if single_person else range(len(people))
        for i in chosen:
            record = _record(root, annotation, people[i], int(i), number, act)
            if record is not None:
                yield record


def _record(root: Path, annotation: Any, person: Any, i: int, number: int, act: Any) -> Record | None:
    points = getattr(getattr(person, "annopoints", None), "point", None)
    if points is None or not hasattr(person, "scale") or np.size(person.scale) == 0:
        return None
    joints2d = np.full((len(_IDS), 2), np.nan)
    visible = np.zeros(len(_IDS), bool)
    for point in np.atleast_1d(points):
        # The release counts pixels from 1.
        joints2d[point.id] = [point.x - 1, point.y - 1]
        visible[point.id] = np.size(getattr(point, "is_visible", ())) > 0 and int(point.is_visible) == 1
    side = float(person.scale) * _UNITS_PX
    middle = np.array([person.objpos.x - 1, person.objpos.y - 1 + _DOWN * side], float)
    path = ORIGIN.need(root / "images" / str(annotation.image.name))
    try:
        with Image.open(path) as picture:
            size = picture.size
    except (OSError, UnidentifiedImageError) as error:
        raise ORIGIN.damaged(path, error) from error
    return Record(
        dataset="mpii",
        picture=PictureFile(path),
        camera=Camera.from_fov(FAR_FOV_DEG, size),
        box=np.concatenate([middle - side / 2, [side, side]]),
        joint_names=JOINTS,
        joints2d=in_order(joints2d, _IDS, JOINTS),
        visible=in_order(visible, _IDS, JOINTS),
        subject=str(i),
        activity=str(getattr(act, "act_name", "")),
        frame=number,
    )
