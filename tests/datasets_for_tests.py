"""Tiny data sets in their official layouts: the same standing person with known joints, seen by made-up cameras."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import cdflib.cdfwrite
import cv2
import h5py
import numpy as np
import scipy.io

from training.data import h36m, mpi_inf_3dhp

# A standing person about their pelvis, m, as a camera sees them from the front: x to the right, y down.
BODY = {
    "pelvis": (0, 0, 0), "spine": (0, -0.2, 0), "neck": (0, -0.5, 0), "head": (0, -0.6, -0.05),
    "head_top": (0, -0.75, 0),
    "left_shoulder": (0.18, -0.48, 0), "left_elbow": (0.25, -0.2, 0), "left_wrist": (0.3, 0.05, -0.1),
    "right_shoulder": (-0.18, -0.48, 0), "right_elbow": (-0.3, -0.25, 0), "right_wrist": (-0.25, 0.0, -0.15),
    "left_hip": (0.1, 0.02, 0), "left_knee": (0.12, 0.45, 0), "left_ankle": (0.12, 0.85, 0.05),
    "right_hip": (-0.1, 0.02, 0), "right_knee": (-0.12, 0.45, 0), "right_ankle": (-0.12, 0.85, 0.05),
    "nose": (0, -0.6, -0.12), "left_eye": (0.03, -0.63, -0.1), "right_eye": (-0.03, -0.63, -0.1),
    "left_ear": (0.08, -0.62, 0), "right_ear": (-0.08, -0.62, 0),
}  # fmt: skip


def person(names: tuple[str, ...], place: tuple[float, float, float] = (0, 0, 4)) -> np.ndarray:
    """[J,3] m in the camera's frame; joints that BODY lacks are near the pelvis."""
    return np.array([BODY.get(name, (0.01, 0.01, 0.01)) for name in names], float) + place


def pattern(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """[H,W,3] uint8, smooth, so that compression leaves it as it is."""
    small = np.random.default_rng(seed).integers(60, 200, (6, 8, 3), np.uint8)
    return cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[:, :, ::-1])


def write_video(path: Path, frames: list[np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, frames[0].shape[1::-1])
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()


def cells(arrays: list[Any]) -> np.ndarray:
    out = np.empty((len(arrays), 1), object)
    out[:, 0] = arrays
    return out


def mpi_inf_3dhp_train(root: Path, side: int = 128) -> Path:
    """S1 with 12 frames and cameras 0 and 3, the latter on the ceiling: the person moves 60 mm every 5 frames."""
    K = np.array([[140.0, 0, side / 2], [0, 140, side / 2], [0, 0, 1]])
    poses = [person(mpi_inf_3dhp.TRAIN_JOINTS, (0.012 * frame, 0, 4)) for frame in range(12)]
    annotation = np.stack(poses).reshape(12, -1) * 1000
    calibration = "Skeletool Camera Calibration File V1.0\n"
    for number in range(4):
        intrinsic = np.eye(4)
        intrinsic[:3, :3] = K
        extrinsic = np.diag([1.0, -1, -1, 1])
        calibration += f"name          {number}\n  sensor      10 10\n  size        {side} {side}\n  animated    0\n"
        for name, matrix in (("intrinsic", intrinsic), ("extrinsic", extrinsic)):
            calibration += f"  {name}   " + " ".join(str(value) for value in matrix.ravel()) + " \n"
        calibration += "  radial      0\n"
    for sequence in ("Seq1", "Seq2"):
        folder = root / "S1" / sequence
        folder.mkdir(parents=True)
        (folder / "camera.calibration").write_text(calibration)
        scipy.io.savemat(
            folder / "annot.mat",
            {"annot3": cells([annotation] * 4), "univ_annot3": cells([annotation * 0.9] * 4)},
        )
        write_video(folder / "imageSequence" / "video_0.avi", [pattern((side, side), frame) for frame in range(12)])
        mask = np.zeros((side, side, 3), np.uint8)
        mask[30:100, 40:90, 0] = 255
        write_video(folder / "FGmasks" / "video_0.avi", [mask] * 12)
    return root


def mpi_inf_3dhp_test(root: Path) -> Path:
    """TS5 with 3 frames, the middle one not valid."""
    poses = np.stack([person(mpi_inf_3dhp.JOINTS, (0.1 * i, 0, 4)) for i in range(3)])[:, None] * 1000
    folder = root / "TS5"
    folder.mkdir(parents=True)
    with h5py.File(folder / "annot_data.mat", "w") as file:
        file["annot3"], file["univ_annot3"] = poses, poses * 0.9
        file["valid_frame"] = np.array([[1.0], [0], [1]])
        file["activity_annotation"] = np.array([[1.0], [1], [6]])
    for number in (1, 3):
        write_image(folder / "imageSequence" / f"img_{number:06d}.jpg", pattern((1920, 1080)))
    return root


def human36m(root: Path, subjects: tuple[int, ...] = (1, 9), frames: int = 70) -> Path:
    """One recording, Greeting, of each subject by one camera that is where all are: it stands at y = -4 m, z up."""
    fields = np.zeros((4, 11, 6))
    fields[:, :, 0] = np.pi / 2
    fields[:, :, 3:] = [0, -4000, 1000]
    intrinsics = np.tile([1145.0, 1145, 512, 515, -0.2, 0.2, -0.01, -0.001, -0.001], (4, 1))
    numbers = " ".join(repr(float(value)) for value in np.concatenate([fields.ravel(), intrinsics.ravel()]))
    (root / "Release-v1.2").mkdir(parents=True)
    (root / "Release-v1.2" / "metadata.xml").write_text(f"<db><w0>[{numbers}]</w0></db>")
    body = person(h36m.JOINTS, (0, 0, 0))
    for subject in subjects:
        folder = root / f"S{subject}"
        poses = np.zeros((frames, 32, 3))
        rows = list(h36m._ROWS)
        for frame in range(frames):
            # Camera (x, y, z) -> world (x, z, -y).
            poses[frame, rows] = (body[:, [0, 2, 1]] * [1, 1, -1] + [0.011 * frame, 0, 1]) * 1000
        write_cdf(folder / "MyPoseFeatures" / "D3_Positions" / "Greeting.cdf", poses.reshape(1, frames, 96))
        mask = np.zeros((1000, 1000), np.uint8)
        mask[200:901, 300:701] = 1
        for camera in h36m.CAMERAS:
            path = folder / "MySegmentsMat" / "ground_truth_bb" / f"Greeting.{camera}.mat"
            path.parent.mkdir(parents=True, exist_ok=True)
            with h5py.File(path, "w") as file:
                file["#refs#/a"] = mask.T
                references = np.empty((frames, 1), h5py.ref_dtype)
                references[:, 0] = [file["#refs#/a"].ref] * frames
                file.create_dataset("Masks", data=references, dtype=h5py.ref_dtype)
            height = h36m._HEIGHTS[camera]
            write_video(folder / "Videos" / f"Greeting.{camera}.mp4", [pattern((1000, height))] * 2)
    return root


def write_cdf(path: Path, poses: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = cdflib.cdfwrite.CDF(path, cdf_spec={"Majority": "row_major"})
    spec = {
        "Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True, "Dim_Sizes": list(poses.shape[1:]),
        "Var_Type": "zVariable",
    }  # fmt: skip
    file.write_var(spec, var_data=poses.astype(np.float32))
    file.close()


def mupots(root: Path, K: np.ndarray) -> Path:
    """TS1 with 2 frames and 2 people; the second person of the second frame is not valid."""
    annotations, occlusions = np.empty((2, 2), object), np.empty((2, 2), object)
    for frame, number in itertools.product(range(2), range(2)):
        pose = person(mpi_inf_3dhp.JOINTS, (number - 0.5, 0.1, 4 + number + frame))
        pixels = pose @ K.T
        annotations[frame, number] = {
            "annot2": (pixels[:, :2] / pixels[:, 2:]).T, "annot3": pose.T * 1000, "univ_annot3": pose.T * 900,
            "isValidFrame": int(not frame == number == 1),
        }  # fmt: skip
        occlusions[frame, number] = np.arange(17) < number
    folder = root / "MultiPersonTestSet" / "TS1"
    folder.mkdir(parents=True)
    scipy.io.savemat(folder / "annot.mat", {"annotations": annotations})
    scipy.io.savemat(folder / "occlusion.mat", {"occlusion_labels": occlusions})
    for frame in range(2):
        write_image(folder / f"img_{frame:06d}.jpg", pattern((320, 240)))
    return root


def threedpw(root: Path, joints: tuple[str, ...]) -> Path:
    """A sequence of 4 frames with one actor in each split: the third's camera is not trusted, nobody is found in the
    last."""
    for split in ("train", "validation", "test"):
        threedpw_sequence(root, joints, split, f"downtown_walking_{split}")
    return root


def threedpw_sequence(root: Path, joints: tuple[str, ...], split: str, name: str) -> None:
    poses = np.stack([person(joints, (x, 0, 4)) for x in (0, 0.05, 1, 0.3)])
    T = np.eye(4)
    T[:3, 3] = [0, 0.1, 0.5]
    poses2d = np.zeros((4, 3, 18))
    poses2d[:3, :, 5:12] = 1
    content = {
        "sequence": name,
        "cam_intrinsics": np.array([[200.0, 0, 60], [0, 200, 80], [0, 0, 1]]),
        "cam_poses": np.stack([T] * 4),
        "campose_valid": [np.array([1, 1, 0, 1])],
        "poses2d": [poses2d],
        "jointPositions": [poses.reshape(4, -1)],
        "betas": [np.zeros(10)],
        "texture_maps": [None],
        "scale": np.float64(1),
    }
    path = root / "sequenceFiles" / split / f"{name}.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    for frame in range(4):
        write_image(root / "imageFiles" / name / f"image_{frame:05d}.jpg", pattern((120, 160)))


def coco(root: Path) -> Path:
    """A person with 8 labelled joints, one with 2, and a crowd."""
    keypoints = np.zeros((17, 3))
    keypoints[5:13] = [[10 + 4 * i, 20 + 5 * i, 1 + i % 2] for i in range(8)]
    few = np.zeros((17, 3))
    few[:2] = [5, 5, 2]
    people = [(keypoints, 0), (few, 0), (keypoints, 1)]
    content = {
        "images": [{"id": 7, "file_name": "000000000007.jpg", "width": 80, "height": 64}],
        "annotations": [
            {"image_id": 7, "keypoints": joints.ravel().tolist(), "bbox": [8, 10, 40, 50], "iscrowd": crowd}
            for joints, crowd in people
        ],
    }
    path = root / "annotations" / "person_keypoints_train2017.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    write_image(root / "train2017" / "000000000007.jpg", pattern((80, 64)))
    return root


def mpii(root: Path) -> Path:
    """A training image with a person apart, one without joints and one who does not stand apart, and a test image."""
    points = np.array([(float(10 + i), float(30 + i), i, i % 2) for i in range(16)], "f8,f8,i4,i4")
    points.dtype.names = ("x", "y", "id", "is_visible")
    labelled = {"scale": 0.2, "objpos": {"x": 41.0, "y": 31.0}, "annopoints": {"point": points[None]}}
    bare = {"scale": 0.2, "objpos": {"x": 41.0, "y": 31.0}, "annopoints": np.zeros((0, 0))}
    keys = ("scale", "objpos", "annopoints")
    people = [tuple(each[key] for key in keys) for each in (labelled, bare, labelled)]
    rows = np.array(people, [(key, "O") for key in keys])
    annolist = np.array(
        [({"name": "a.jpg"}, rows[None]), ({"name": "b.jpg"}, rows[None, :1])], [("image", "O"), ("annorect", "O")]
    )
    act = np.array([("running",), ("",)], [("act_name", "O")])
    release = {
        "annolist": annolist[None], "img_train": np.array([[1, 0]]),
        "single_person": cells([np.array([[1], [2]]), np.zeros((0, 0))]),
        "act": act[:, None],
    }  # fmt: skip
    root.mkdir(parents=True)
    scipy.io.savemat(root / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": release})
    write_image(root / "images" / "a.jpg", pattern((80, 64)))
    return root


def panoptic(root: Path, joints: tuple[str, ...]) -> Path:
    """Every third frame of one HD camera: the person is out of the picture in frame 3 and back in frame 6, stands still
    from frame 9 on, and their nose is found in odd frames only."""
    folder = root / "160224_haggling1"
    poses = folder / "hdPose3d_stage1_coco19"
    poses.mkdir(parents=True)
    calibration = [
        {
            "name": "00_05", "type": "hd", "panel": 0, "node": 5, "resolution": [192, 108], "distCoef": [0.0] * 5,
            "K": [[140, 0, 96], [0, 140, 54], [0, 0, 1]], "R": np.eye(3).tolist(), "t": [[0], [0], [100]],
        },
        {"name": "01_01", "type": "vga", "panel": 1, "node": 1},
    ]  # fmt: skip
    (folder / "calibration_160224_haggling1.json").write_text(json.dumps({"cameras": calibration}))
    for frame, x in ((0, 0.0), (3, 9.0), (6, 0.05), (9, 0.2), (12, 0.2)):
        pose = person(joints, (x, 0, 3)) * 100
        scores = np.where((np.array(joints) == "nose") & (frame % 2 == 0), -1, 0.8)
        body = {"id": 4, "joints19": np.column_stack([pose, scores]).ravel().tolist()}
        (poses / f"body3DScene_{frame:08d}.json").write_text(json.dumps({"bodies": [body]}))
        write_image(folder / "hdImgs" / "00_05" / f"00_05_{frame:08d}.jpg", pattern((192, 108)))
    return root
