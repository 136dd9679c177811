"""MuPoTS-3D: 20 indoor and outdoor recordings of two or three people, for testing.

Official layout: TS1…TS20/{annot.mat, occlusion.mat, img_NNNNNN.jpg}, possibly in MultiPersonTestSet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metrabs_ros.camera import Camera
from training.data import matlab
from training.data.missing import Origin
from training.data.mpi_inf_3dhp import JOINTS, STUDIO_GAMMA
from training.data.pictures import PictureFile
from training.data.record import Floats, Record, joint_box

ORIGIN = Origin(
    "MuPoTS-3D",
    "the page of the single-shot multi-person data sets at the Max Planck Institute for Informatics, group VCAI",
    "TS1 to TS20, each with annot.mat, occlusion.mat and its img_NNNNNN.jpg",
)

_INDOOR = 5


def evaluation_records(root: Path, sequences: Sequence[int] = tuple(range(1, 21))) -> Iterator[Record]:
    """Everybody whose annotation is marked valid, by picture; ids: subject is the person's column in annot.mat.

    The release has no intrinsics: they are fitted to its 2D and 3D annotations, of which the former are projections of
    the latter. visible: not marked as occluded.
    """
    inner = root / "MultiPersonTestSet"
    for number in sequences:
        folder = (inner if inner.exists() else root) / f"TS{number}"
        annotations = _people(matlab.load(folder / "annot.mat", ORIGIN, "annotations"))
        occlusions = _people(matlab.load(folder / "occlusion.mat", ORIGIN, "occlusion_labels"))
        first = PictureFile(ORIGIN.need(folder / "img_000000.jpg"))
        height, width = first.load().shape[:2]
        try:
            camera = _fitted_camera(annotations, (width, height))
            for frame, person in np.ndindex(annotations.shape):
                annotation = annotations[frame, person]
                if not annotation.isValidFrame:
                    continue
                joints2d = _joints(annotation.annot2)
                yield Record(
                    dataset="mupots",
                    picture=PictureFile(ORIGIN.need(folder / f"img_{frame:06d}.jpg")),
                    camera=camera,
                    box=joint_box(joints2d),
                    joint_names=JOINTS,
                    joints2d=joints2d,
                    joints3d=_joints(annotation.annot3) / 1000,
                    joints3d_universal=_joints(annotation.univ_annot3) / 1000,
                    visible=np.asarray(occlusions[frame, person]).ravel()[: len(JOINTS)] == 0,
                    gamma=STUDIO_GAMMA if number <= _INDOOR else 1.0,
                    subject=str(person),
                    sequence=f"TS{number}",
                    scene="indoor" if number <= _INDOOR else "outdoor",
                    frame=frame,
                )
        except AttributeError as error:
            raise ORIGIN.damaged(folder / "annot.mat", error) from error


def _people(cells: Any) -> np.ndarray:
    """A cell array [frames, people]; SciPy squeezes the axis of a single person or frame away."""
    cells = np.asarray(cells, dtype=object) if not isinstance(cells, np.ndarray) else cells
    return cells if cells.ndim == 2 else cells.reshape(-1, 1)


def _joints(annotation: np.ndarray) -> Floats:
    """[2 or 3, J] as Matlab keeps it -> [J, 2 or 3]; the release counts pixels from 1 nowhere."""
    return np.asarray(annotation, np.float64).T


def _fitted_camera(annotations: np.ndarray, size: tuple[int, int]) -> Camera:
    """Least squares for u = f_x X/Z + c_x and v = f_y Y/Z + c_y over all valid people."""
    valid = [annotation for annotation in annotations.ravel() if annotation.isValidFrame]
    points = np.concatenate([_joints(annotation.annot3) for annotation in valid])
    pixels = np.concatenate([_joints(annotation.annot2) for annotation in valid])
    K = np.eye(3)
    for axis in range(2):
        flat = points[:, axis] / points[:, 2]
        (K[axis, axis], K[axis, 2]), *_ = np.linalg.lstsq(
            np.stack([flat, np.ones_like(flat)], 1), pixels[:, axis], rcond=None
        )
    return Camera(K, np.zeros(0), "plumb_bob", size)
