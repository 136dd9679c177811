"""COCO keypoints: people in everyday photos, 17 joints in 2D.

Official layout: annotations/person_keypoints_{train2017, val2017}.json and the folders train2017 and val2017.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from metrabs_ros.camera import Camera
from training.data.missing import Origin
from training.data.pictures import PictureFile
from training.data.record import FAR_FOV_DEG, Record

ORIGIN = Origin(
    "COCO keypoints",
    "the download page of the COCO data set, cocodataset.org (2017 images and train/val annotations)",
    "annotations/person_keypoints_SPLIT.json and a folder of images for each SPLIT, train2017 or val2017",
)

JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip


def training_records(root: Path, min_joints: int = 6) -> Iterator[Record]:
    """People with at least ``min_joints`` labelled joints; crowds, labelled as one, are left out."""
    yield from _split(root, "train2017", min_joints)


def evaluation_records(root: Path, min_joints: int = 6) -> Iterator[Record]:
    """The same of the validation images."""
    yield from _split(root, "val2017", min_joints)


def _split(root: Path, split: str, min_joints: int) -> Iterator[Record]:
    path = ORIGIN.need(root / "annotations" / f"person_keypoints_{split}.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images = {image["id"]: image for image in content["images"]}
        people = content["annotations"]
    except (ValueError, KeyError, TypeError) as error:
        raise ORIGIN.damaged(path, error) from error
    for person in people:
        keypoints = np.array(person["keypoints"], float).reshape(-1, 3)
        labelled = keypoints[:, 2] > 0
        if person.get("iscrowd") or labelled.sum() < min_joints:
            continue
        image = images[person["image_id"]]
        # COCO counts from the corner of the top-left pixel.
        x, y, width, height = person["bbox"]
        yield Record(
            dataset="coco",
            picture=PictureFile(ORIGIN.need(root / split / image["file_name"])),
            camera=Camera.from_fov(FAR_FOV_DEG, (image["width"], image["height"])),
            box=np.array([x - 0.5, y - 0.5, width, height]),
            joint_names=JOINTS,
            joints2d=np.where(labelled[:, None], keypoints[:, :2] - 0.5, np.nan),
            visible=keypoints[:, 2] == 2,
            sequence=split,
            frame=int(image["id"]),
        )
