"""MPI-INF-3DHP: a green-screen studio for training, three scenes for testing.

Official layout: S1…S8/Seq1, Seq2/{annot.mat, camera.calibration, imageSequence/video_N.avi, FGmasks/video_N.avi} and
TS1…TS6/{annot_data.mat, imageSequence/img_NNNNNN.jpg}.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.camera import Camera
from training.data import matlab
from training.data.detections import Detections
from training.data.missing import Origin
from training.data.pictures import PictureFile, VideoFrame
from training.data.record import Floats, Mask, Record, Thinning, in_order, joint_box, with_detection

ORIGIN = Origin(
    "MPI-INF-3DHP",
    "the page of the MPI-INF-3DHP data set at the Max Planck Institute for Informatics, group VCAI (after its form)",
    "S1 to S8 with Seq1 and Seq2 for training, TS1 to TS6 for testing",
)

# The order of the 28 joints in annot.mat.
TRAIN_JOINTS = (
    "spine3", "spine4", "spine2", "spine", "pelvis", "neck", "head", "head_top",
    "left_clavicle", "left_shoulder", "left_elbow", "left_wrist", "left_hand",
    "right_clavicle", "right_shoulder", "right_elbow", "right_wrist", "right_hand",
    "left_hip", "left_knee", "left_ankle", "left_midfoot", "left_foot",
    "right_hip", "right_knee", "right_ankle", "right_midfoot", "right_foot",
)  # fmt: skip
# The order of the 17 joints of both test sets, 3DHP's and MuPoTS'.
JOINTS = (
    "head_top", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "pelvis", "spine", "head",
)  # fmt: skip
# The others hang from the ceiling.
CHEST_HEIGHT = (0, 1, 2, 4, 5, 6, 7, 8)
ACTIVITIES = ("Stand/Walk", "Exercise", "Sit on Chair", "Reach/Crouch", "On Floor", "Sports", "Misc.")
SCENES = ("green-screen", "no-green-screen", "outdoor")
# Indoor pictures need it (P 6): TS1–4, and the whole training set, as in the released code.
STUDIO_GAMMA = 0.67

_FRAME_STEP = 5
_FG_THRESHOLD = 32
# This video ends early in the release.
_SHORT = {("S6", "Seq2", 2): 3911}


def training_records(
    root: Path,
    subjects: Sequence[int] = (1, 2, 3, 4, 5, 6, 7, 8),
    cameras: Sequence[int] = CHEST_HEIGHT,
    detections: Detections | None = None,
) -> Iterator[Record]:
    """Every 5th frame (10 fps) with all 17 joints in the picture in which a joint moved by 100 mm.

    detections: boxes xywh px with a score of a person detector for "S1/Seq1/0/25" (subject, sequence, camera, frame),
    joined with that of the joints.
    """
    for subject in subjects:
        for number in (1, 2):
            folder = root / f"S{subject}" / f"Seq{number}"
            yield from _sequence(folder, cameras, detections or {})


def _sequence(folder: Path, cameras: Sequence[int], detections: Detections) -> Iterator[Record]:
    subject, sequence = folder.parent.name, folder.name
    annotations = folder / "annot.mat"
    metric, universal = (matlab.load(annotations, ORIGIN, name) for name in ("annot3", "univ_annot3"))
    calibrations = read_calibration(folder / "camera.calibration")
    for number in cameras:
        if number not in calibrations or number >= len(metric):
            raise ORIGIN.damaged(annotations, f"there is no camera {number}")
        video = ORIGIN.need(folder / "imageSequence" / f"video_{number}.avi")
        masks = folder / "FGmasks" / f"video_{number}.avi"
        camera, R_cam_world = calibrations[number]
        poses = _poses(metric[number])
        universal_poses = _poses(universal[number])
        thinning = Thinning()
        count = min(len(poses), _SHORT.get((subject, sequence, number), len(poses)))
        for frame in range(0, count, _FRAME_STEP):
            joints3d, joints3d_universal = poses[frame], universal_poses[frame]
            joints2d, _ = camera.project(joints3d)
            relevant = in_order(joints2d, TRAIN_JOINTS, JOINTS)
            if not camera.contains(relevant).all() or not thinning.keeps(in_order(joints3d, TRAIN_JOINTS, JOINTS)):
                continue
            found = detections.get(f"{subject}/{sequence}/{number}/{frame}", ())
            yield Record(
                dataset="mpi_inf_3dhp",
                picture=VideoFrame(video, frame),
                camera=camera,
                box=with_detection(joint_box(relevant), found),
                joint_names=TRAIN_JOINTS,
                joints2d=joints2d,
                joints3d=joints3d,
                joints3d_universal=joints3d_universal,
                mask=Mask(VideoFrame(masks, frame), _FG_THRESHOLD) if masks.exists() else None,
                up=R_cam_world @ [0.0, 1.0, 0.0],
                gamma=STUDIO_GAMMA,
                subject=subject,
                sequence=f"{sequence}/{number}",
                scene=SCENES[0],
                frame=frame,
            )


def evaluation_records(
    root: Path, subjects: Sequence[int] = (1, 2, 3, 4, 5, 6), detections: Detections | None = None
) -> Iterator[Record]:
    """The frames that the release marks valid; labels are left as they are. detections: for "TS1/1" (frame from 1)."""
    for number in subjects:
        folder = root / f"TS{number}"
        path = folder / "annot_data.mat"
        camera, up = camera_of_test(number)
        with matlab.open_v73(path, ORIGIN) as file:
            try:
                metric, universal = (np.array(file[name], float)[:, 0] / 1000 for name in ("annot3", "univ_annot3"))
                valid = np.flatnonzero(np.array(file["valid_frame"]).ravel())
                activities = np.array(file["activity_annotation"]).ravel().astype(int) - 1
            except KeyError as error:
                raise ORIGIN.damaged(path, error) from error
        for i in valid.tolist():
            joints2d, _ = camera.project(metric[i])
            found = (detections or {}).get(f"TS{number}/{i + 1}", ())
            yield Record(
                dataset="mpi_inf_3dhp_test",
                picture=PictureFile(ORIGIN.need(folder / "imageSequence" / f"img_{i + 1:06d}.jpg")),
                camera=camera,
                box=with_detection(joint_box(joints2d), found),
                joint_names=JOINTS,
                joints2d=joints2d,
                joints3d=metric[i],
                joints3d_universal=universal[i],
                up=up,
                gamma=STUDIO_GAMMA if number <= 4 else 1.0,
                subject=f"TS{number}",
                sequence=f"TS{number}",
                activity=ACTIVITIES[activities[i]],
                scene=SCENES[(number - 1) // 2],
                frame=i + 1,
            )


def read_calibration(path: Path) -> dict[int, tuple[Camera, Floats]]:
    """camera.calibration: number -> camera and R_cam_world [3,3]; the release's pictures are free of distortion."""
    text = ORIGIN.need(path).read_text(encoding="utf-8")
    cameras = {}
    for block in re.split(r"^name\s+", text, flags=re.MULTILINE)[1:]:
        entries = {line.split()[0]: line.split()[1:] for line in block.splitlines()[1:] if line.strip()}
        try:
            K = np.array(entries["intrinsic"], float).reshape(4, 4)[:3, :3]
            R = np.array(entries["extrinsic"], float).reshape(4, 4)[:3, :3]
            width, height = (int(side) for side in entries["size"])
            cameras[int(block.split()[0])] = (Camera(K, np.zeros(0), "plumb_bob", (width, height)), R)
        except (KeyError, ValueError) as error:
            raise ORIGIN.damaged(path, error) from error
    return cameras


def camera_of_test(number: int) -> tuple[Camera, Floats]:
    """The camera of TS``number`` and up in its frame, from the figures in the release's test_util."""
    if number <= 4:
        sensor, size, focal, aspect = (10.0, 10.0), (2048, 2048), 7.32506, 1.00044
        offset, D = (-0.0322884, 0.0929296), np.zeros(0)
        up, right = (-0.208215, 0.976233, 0.06014), (0.000575281, 0.0616098, -0.9981)
    else:
        sensor, size, focal, aspect = (10.0, 5.625), (1920, 1080), 8.770747185, 0.993236423
        offset = (-0.104908645, 0.104899704)
        D = np.array([-0.276859611, 0.131125256, -0.000360494, -0.001149441, -0.049318332])
        up, right = (0.025272345, 0.995038509, 0.096227370), (-0.939647257, -0.009210289, 0.342020929)
    K = np.diag([focal, focal, 1.0])
    K[:2, 2] = np.array(sensor) / 2 + offset
    K[:2] *= (np.array(size) / sensor * [1, aspect])[:, None]
    R_cam_world = np.stack([right, -np.array(up), np.cross(up, right)])
    return Camera(K, D, "plumb_bob", size), R_cam_world @ [0.0, 1.0, 0.0]


def _poses(annotation: NDArray) -> Floats:
    """[N,84] mm -> [N,28,3] m."""
    return np.asarray(annotation, np.float64).reshape(-1, len(TRAIN_JOINTS), 3) / 1000
