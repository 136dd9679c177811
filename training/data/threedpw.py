"""3DPW: people outdoors, filmed by a moving phone, posed by inertial sensors.

Official layout: imageFiles/SEQUENCE/image_NNNNN.jpg and sequenceFiles/{train, validation, test}/SEQUENCE.pkl.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metrabs_ros.camera import Camera
from training.data import restricted_pickle
from training.data.missing import Origin
from training.data.pictures import PictureFile
from training.data.record import Record, Thinning, joint_box

ORIGIN = Origin(
    "3DPW",
    "the page of the 3D Poses in the Wild data set, virtualhumans.mpi-inf.mpg.de/3DPW",
    "imageFiles and sequenceFiles, the latter with train, validation and test",
)

# SMPL's 24 joints in their order.
JOINTS = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
SPLITS = ("train", "validation", "test")


def training_records(root: Path, splits: Sequence[str] = ("train",)) -> Iterator[Record]:
    """People whom the challenge counts in frames in which a joint moved by 100 mm."""
    for split in splits:
        yield from _split(root, split, thin=True)


def evaluation_records(root: Path, splits: Sequence[str] = SPLITS) -> Iterator[Record]:
    """All whom the challenge counts: the frame's camera is trusted, and the person was found in the picture. It counts
    all three splits; figures of the test split alone are another benchmark's. ids: subject is the actor's number."""
    for split in splits:
        yield from _split(root, split, thin=False)


def _split(root: Path, split: str, thin: bool) -> Iterator[Record]:
    folder = ORIGIN.need(root / "sequenceFiles" / split)
    files = sorted(folder.glob("*.pkl"))
    if not files:
        ORIGIN.need(folder / "SEQUENCE.pkl")
    for path in files:
        content = restricted_pickle.load(path, ORIGIN)
        try:
            yield from _sequence(root, content, thin)
        except (KeyError, IndexError, TypeError) as error:
            raise ORIGIN.damaged(path, error) from error


def _sequence(root: Path, content: dict[str, Any], thin: bool) -> Iterator[Record]:
    name = str(content["sequence"])
    K = np.array(content["cam_intrinsics"], float)
    # The principal point of these phones is the middle of the picture.
    camera = Camera(K, np.zeros(0), "plumb_bob", (round(2 * K[0, 2]), round(2 * K[1, 2])))
    for actor, positions in enumerate(content["jointPositions"]):
        world = np.asarray(positions, float).reshape(-1, len(JOINTS), 3)
        valid = np.asarray(content["campose_valid"][actor]).astype(bool).ravel()
        thinning = Thinning(0.1 if thin else 0.0)
        for frame in np.flatnonzero(valid[: len(world)]).tolist():
            # Zeros where nobody was found.
            if not np.any(content["poses2d"][actor][frame]):
                continue
            T_cam_world = np.asarray(content["cam_poses"][frame], float)
            joints3d = world[frame] @ T_cam_world[:3, :3].T + T_cam_world[:3, 3]
            joints2d, seen = camera.project(joints3d)
            if not (seen & camera.contains(joints2d)).any() or not thinning.keeps(world[frame]):
                continue
            yield Record(
                dataset="3dpw",
                picture=PictureFile(ORIGIN.need(root / "imageFiles" / name / f"image_{frame:05d}.jpg")),
                camera=camera,
                box=joint_box(joints2d, 1.2),
                joint_names=JOINTS,
                joints2d=joints2d,
                joints3d=joints3d,
                subject=str(actor),
                sequence=name,
                activity=name.split("_")[1] if "_" in name else name,
                scene=name.split("_")[0],
                frame=frame,
            )
