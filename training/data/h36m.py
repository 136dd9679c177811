"""Human3.6M: 11 actors, 4 cameras, a motion capture studio.

Official layout: S1…S11/{MyPoseFeatures/D3_Positions/ACTIVITY.cdf, Videos/ACTIVITY.CAMERA.mp4,
MySegmentsMat/ground_truth_bb/ACTIVITY.CAMERA.mat} and metadata.xml of the release's code (at the root or in
Release-v1.2).
"""

from __future__ import annotations

import functools
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path

import cdflib
import numpy as np

from metrabs_ros.camera import Camera
from training.data import matlab
from training.data.missing import Origin
from training.data.pictures import VideoFrame
from training.data.record import Floats, Record, Thinning

ORIGIN = Origin(
    "Human3.6M",
    "the Human3.6M page of the Institute of Mathematics of the Romanian Academy, vision.imar.ro (after registration)",
    "S1, S5, S6, S7, S8, S9, S11 and Release-v1.2/metadata.xml",
)

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
TRAIN_SUBJECTS = {1: (1, 5, 6, 7, 8), 2: (1, 5, 6, 7, 8, 9)}
TEST_SUBJECTS = {1: (9, 11), 2: (11,)}
# Row in the CDF file's 32 joints -> name.
_ROWS = {
    1: "right_hip", 2: "right_knee", 3: "right_ankle", 6: "left_hip", 7: "left_knee", 8: "left_ankle", 12: "spine",
    13: "neck", 14: "head", 15: "head_top", 17: "left_shoulder", 18: "left_elbow", 19: "left_wrist",
    25: "right_shoulder", 26: "right_elbow", 27: "right_wrist", 0: "pelvis",
}  # fmt: skip
JOINTS = tuple(_ROWS.values())

_TRAIN_STEP = 5
_TEST_STEP = 64
# The release's four cameras are not all of one size: nearly square, 1000 or 1002 px high.
_HEIGHTS = {"54138969": 1002, "55011271": 1000, "58860488": 1000, "60457274": 1002}
# These recordings of S9 are shifted by 200 mm along the world's x.
_SHIFTED = ("SittingDown 1", "Waiting 1", "Greeting")
_DAMAGED = ("S11", "Directions", "54138969")


def training_records(root: Path, protocol: int = 1, subjects: Sequence[int] | None = None) -> Iterator[Record]:
    """10 fps, a frame only if a joint moved by 100 mm since the last that was kept."""
    for subject in subjects or TRAIN_SUBJECTS[protocol]:
        yield from _subject(root, subject, _TRAIN_STEP, thin=True)


def evaluation_records(root: Path, protocol: int = 1, subjects: Sequence[int] | None = None) -> Iterator[Record]:
    """Every 64th frame."""
    for subject in subjects or TEST_SUBJECTS[protocol]:
        yield from _subject(root, subject, _TEST_STEP, thin=False)


def _subject(root: Path, subject: int, step: int, thin: bool) -> Iterator[Record]:
    folder = root / f"S{subject}"
    cameras = _cameras(_metadata(root))
    poses = ORIGIN.need(folder / "MyPoseFeatures" / "D3_Positions")
    # "_ALL" recordings are of calibration, not of people.
    activities = sorted(path.stem for path in poses.glob("*.cdf") if "_" not in path.stem)
    if not activities:
        ORIGIN.need(poses / "Directions.cdf")
    for activity in activities:
        world = _positions(poses / f"{activity}.cdf")
        shift = np.array([-0.2, 0, 0]) if subject == 9 and activity in _SHIFTED else np.zeros(3)
        for number, name in enumerate(CAMERAS):
            if (folder.name, activity, name) == _DAMAGED:
                continue
            yield from _recording(folder, activity, name, world + shift, shift, cameras[number, subject], step, thin)


def _recording(
    folder: Path,
    activity: str,
    name: str,
    world: Floats,
    shift: Floats,
    view: tuple[Camera, Floats, Floats],
    step: int,
    thin: bool,
) -> Iterator[Record]:
    camera, R_cam_world, eye = view
    video = ORIGIN.need(folder / "Videos" / f"{activity}.{name}.mp4")
    boxes = folder / "MySegmentsMat" / "ground_truth_bb" / f"{activity}.{name}.mat"
    thinning = Thinning(0.1 if thin else 0.0)
    with matlab.open_v73(boxes, ORIGIN) as file:
        if "Masks" not in file:
            raise ORIGIN.damaged(boxes, "there are no Masks in it")
        references = file["Masks"][:, 0] if file["Masks"].shape[1] == 1 else file["Masks"][0]
        for frame in range(0, min(len(world), len(references)), step):
            box = _extent(np.array(file[references[frame]]).T)
            if box is None or not thinning.keeps(world[frame]):
                continue
            joints3d = (world[frame] - eye) @ R_cam_world.T
            yield Record(
                dataset="h36m",
                picture=VideoFrame(video, frame),
                camera=camera,
                box=_shifted(box, camera, R_cam_world @ shift, joints3d[JOINTS.index("pelvis"), 2]),
                joint_names=JOINTS,
                joints2d=camera.project(joints3d)[0],
                joints3d=joints3d,
                up=R_cam_world @ [0.0, 0.0, 1.0],
                subject=folder.name,
                sequence=f"{activity}/{name}",
                activity=activity.split(" ")[0],
                scene="studio",
                frame=frame,
            )


def _positions(path: Path) -> Floats:
    """[N,17,3] m in the world."""
    try:
        raw = np.asarray(cdflib.CDF(path).varget("Pose"), np.float64)
    except (OSError, ValueError, KeyError) as error:
        raise ORIGIN.damaged(path, error) from error
    return raw.reshape(-1, 32, 3)[:, list(_ROWS)] / 1000


def _extent(inside: np.ndarray) -> Floats | None:
    """The box [4] xywh px of a picture that is 1 in it; None where it is nowhere."""
    columns, rows = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
    if not len(columns):
        return None
    low = np.array([columns[0], rows[0]], float)
    return np.concatenate([low - 0.5, np.array([columns[-1], rows[-1]]) - low + 1])


def _shifted(box: Floats, camera: Camera, shift: Floats, depth: float) -> Floats:
    """The box after a shift [3] m of the person, in the camera's frame, at ``depth`` m."""
    if not shift.any():
        return box
    corners, _ = camera.unproject(np.stack([box[:2], box[:2] + box[2:]]))
    pixels, _ = camera.project(corners / corners[:, 2:] * depth + shift)
    return np.concatenate([pixels[0], pixels[1] - pixels[0]])


def _metadata(root: Path) -> Path:
    inner = root / "Release-v1.2" / "metadata.xml"
    return inner if inner.exists() else ORIGIN.need(root / "metadata.xml")


@functools.cache
def _cameras(path: Path) -> dict[tuple[int, int], tuple[Camera, Floats, Floats]]:
    """(camera 0…3, subject) -> the camera, R_cam_world, its place in the world in m."""
    try:
        text = ElementTree.parse(path).getroot().findtext("w0") or ""
        numbers = np.array(text.strip()[1:-1].split(), np.float64)
        extrinsics, intrinsics = numbers[:264].reshape(4, 11, 6), numbers[264:].reshape(4, 9)
    except (ElementTree.ParseError, ValueError) as error:
        raise ORIGIN.damaged(path, error) from error
    found = {}
    for number, name in enumerate(CAMERAS):
        fx, fy, cx, cy, k1, k2, k3, p1, p2 = intrinsics[number]
        K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        camera = Camera(K, np.array([k1, k2, p1, p2, k3]), "plumb_bob", (1000, _HEIGHTS[name]))
        for subject in range(1, 12):
            angles, eye = np.split(extrinsics[number, subject - 1], 2)
            found[number, subject] = (camera, _rotation(angles), eye / 1000)
    return found


def _rotation(angles: Floats) -> Floats:
    """R_x R_y R_z of three angles in radians."""
    out = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[[a, b], [a, b]] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        out = out @ turn
    return out
