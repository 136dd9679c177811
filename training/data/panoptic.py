"""CMU Panoptic: groups of people in a dome of cameras; its HD cameras.

Official layout: SEQUENCE/{calibration_SEQUENCE.json, hdPose3d_stage1_coco19/body3DScene_NNNNNNNN.json (or below hd),
hdVideos/hd_00_NN.mp4 or hdImgs/00_NN/00_NN_NNNNNNNN.jpg}.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metrabs_ros.camera import Camera
from training.data.missing import Origin
from training.data.pictures import Picture, PictureFile, VideoFrame
from training.data.record import Floats, Record, Thinning, joint_box

ORIGIN = Origin(
    "CMU Panoptic",
    "the page of the CMU Panoptic Studio data set, domedb.perception.cs.cmu.edu (its toolbox has the download script)",
    "a folder for each sequence, with calibration_SEQUENCE.json, hdPose3d_stage1_coco19 and hdVideos or hdImgs",
)

JOINTS = (
    "neck", "nose", "pelvis", "left_shoulder", "left_elbow", "left_wrist", "left_hip", "left_knee", "left_ankle",
    "right_shoulder", "right_elbow", "right_wrist", "right_hip", "right_knee", "right_ankle", "left_eye", "left_ear",
    "right_eye", "right_ear",
)  # fmt: skip

_MIN_SCORE = 0.1
_FRAME_STEP = 3


def training_records(
    root: Path, sequences: Sequence[str] | None = None, cameras: Sequence[int] | None = None
) -> Iterator[Record]:
    """10 fps, everybody in the picture of whom a joint moved by 100 mm; HD cameras by number, None: all of them."""
    names = sequences or sorted(path.name for path in ORIGIN.need(root).iterdir() if path.is_dir())
    if not names:
        ORIGIN.need(root / "SEQUENCE")
    for name in names:
        yield from _sequence(root / name, cameras)


def _sequence(folder: Path, wanted: Sequence[int] | None) -> Iterator[Record]:
    views = _cameras(folder / f"calibration_{folder.name}.json")
    poses = ORIGIN.need(folder / "hdPose3d_stage1_coco19")
    poses = poses / "hd" if (poses / "hd").exists() else poses
    scenes = {int(path.stem.rpartition("_")[2]): path for path in sorted(poses.glob("body3DScene_*.json"))}
    if not scenes:
        ORIGIN.need(poses / "body3DScene_00000000.json")
    for number in views if wanted is None else wanted:
        if number not in views:
            raise ORIGIN.damaged(folder / f"calibration_{folder.name}.json", f"there is no HD camera {number}")
        camera, R_cam_world, t = views[number]
        thinnings: dict[int, Thinning] = {}
        for frame, path in scenes.items():
            if frame % _FRAME_STEP:
                continue
            for person, world in _people(path):
                joints3d = world @ R_cam_world.T + t
                joints2d, seen = camera.project(joints3d)
                inside = seen & camera.contains(joints2d)
                if inside.sum() < len(JOINTS) / 2 or not thinnings.setdefault(person, Thinning()).keeps(world):
                    continue
                yield Record(
                    dataset="panoptic",
                    picture=_picture(folder, number, frame),
                    camera=camera,
                    box=joint_box(joints2d, 1.2),
                    joint_names=JOINTS,
                    joints2d=joints2d,
                    joints3d=joints3d,
                    up=R_cam_world @ [0.0, -1.0, 0.0],
                    subject=str(person),
                    sequence=f"{folder.name}/{number:02d}",
                    scene="dome",
                    frame=frame,
                )


def _picture(folder: Path, number: int, frame: int) -> Picture:
    image = folder / "hdImgs" / f"00_{number:02d}" / f"00_{number:02d}_{frame:08d}.jpg"
    if image.exists():
        return PictureFile(image)
    return VideoFrame(ORIGIN.need(folder / "hdVideos" / f"hd_00_{number:02d}.mp4"), frame)


def _people(path: Path) -> list[tuple[int, Floats]]:
    """Ids and joints [19,3] m in the world, NaN where they were not found."""
    content = _json(path)
    try:
        people = []
        for body in content["bodies"]:
            joints = np.array(body["joints19"], float).reshape(-1, 4)
            people.append((int(body["id"]), np.where(joints[:, 3:] > _MIN_SCORE, joints[:, :3] / 100, np.nan)))
    except (KeyError, ValueError, TypeError) as error:
        raise ORIGIN.damaged(path, error) from error
    return people


def _cameras(path: Path) -> dict[int, tuple[Camera, Floats, Floats]]:
    """HD camera number -> the camera, R_cam_world, translation m."""
    content = _json(path)
    try:
        found = {}
        for entry in content["cameras"]:
            if entry["type"] == "hd":
                width, height = entry["resolution"]
                camera = Camera(
                    np.array(entry["K"], float), np.array(entry["distCoef"], float), "plumb_bob", (width, height)
                )
                translation = np.array(entry["t"], float).ravel() / 100
                found[int(entry["node"])] = (camera, np.array(entry["R"], float), translation)
    except (KeyError, ValueError, TypeError) as error:
        raise ORIGIN.damaged(path, error) from error
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(ORIGIN.need(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ORIGIN.damaged(path, error) from error
