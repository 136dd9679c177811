"""MuCo-3DHP: several people of MPI-INF-3DHP in one picture, read as the official code writes it, or composed here.

Official layout (mpii_create_muco_3dhp_composites): folders with NNNNNN.jpg and chunk_NNNNN_annot.mat, whose people are
ordered front to back and whose 3D joints are relative to the pelvis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from training.data import matlab, mpi_inf_3dhp
from training.data.missing import Origin
from training.data.mpi_inf_3dhp import JOINTS
from training.data.pictures import PictureArray, PictureFile
from training.data.record import Floats, Mask, Record, joint_box

ORIGIN = Origin(
    "MuCo-3DHP",
    "the page of the single-shot multi-person data sets at the Max Planck Institute for Informatics, group VCAI (code "
    "that composes it from MPI-INF-3DHP)",
    "a folder (augmented_set, unaugmented_set_001, …) with pictures and chunk_NNNNN_annot.mat",
)

# 3DHP's cameras are all much alike; each picture's is fitted from there.
_FOCAL_PX = 1497.0
_SIDE_PX = 2048
_PELVIS = JOINTS.index("pelvis")
_BLUR_PX = 2.0
_MOST_COVERED = 0.75


def training_records(root: Path) -> Iterator[Record]:
    """Every person of every picture; places in 3D and intrinsics are fitted to the 2D joints, see fitted_places."""
    chunks = sorted(ORIGIN.need(root).rglob("chunk_*_annot.mat"))
    if not chunks:
        ORIGIN.need(root / "chunk_00001_annot.mat")
    for path in chunks:
        names = np.atleast_1d(matlab.load(path, ORIGIN, "img_names"))
        joints2d, joints3d = (matlab.load(path, ORIGIN, name) for name in ("joint_loc2", "joint_loc3"))
        try:
            # Matlab and SciPy drop the axes of a single person and of a single picture.
            relevant2d, relevant3d = (
                joints.reshape(width, joints.shape[1], -1, len(names))[:, : len(JOINTS)].astype(float)
                for width, joints in ((2, joints2d), (3, joints3d / 1000))
            )
            if relevant2d.shape[1:] != (len(JOINTS), *relevant3d.shape[2:]):
                raise ValueError(f"2D joints {relevant2d.shape} and 3D joints {relevant3d.shape}")
        except (ValueError, IndexError) as error:
            raise ORIGIN.damaged(path, error) from error
        for i, name in enumerate(names):
            on_picture = relevant2d[..., i].transpose(2, 1, 0)
            relative = relevant3d[..., i].transpose(2, 1, 0)
            picture = PictureFile(ORIGIN.need(path.parent / str(name)))
            camera, places = fitted_places(on_picture, relative, (_SIDE_PX, _SIDE_PX))
            for person, place in enumerate(places):
                yield Record(
                    dataset="muco",
                    picture=picture,
                    camera=camera,
                    box=joint_box(on_picture[person]),
                    joint_names=JOINTS,
                    joints2d=on_picture[person],
                    joints3d=relative[person] + place,
                    subject=str(person),
                    sequence=path.parent.name,
                    scene="composed",
                    frame=int(Path(str(name)).stem),
                )


def composed_records(
    root_3dhp: Path,
    count: int = 150_000,
    seed: int = 0,
    people: int = 4,
    subjects: Sequence[int] = tuple(range(1, 9)),
    cameras: Sequence[int] = mpi_inf_3dhp.CHEST_HEIGHT,
    min_gap_m: float = 0.2,
) -> Iterator[Record]:
    """Every person of ``count`` pictures composed of the training people of MPI-INF-3DHP, 150k as in the paper; people
    of whom three quarters are hidden are left out."""
    sources = list(mpi_inf_3dhp.training_records(root_3dhp, subjects, cameras))
    for number, made in enumerate(composites(sources, count, seed, people, min_gap_m)):
        for record, covered in zip(made.records, made.covered, strict=True):
            if covered < _MOST_COVERED:
                yield replace(record, frame=number)


def fitted_places(joints2d: Floats, relative: Floats, size: tuple[int, int]) -> tuple[Camera, Floats]:
    """Of one picture's people, joints2d [P,J,2] px and relative [P,J,3] m to the pelvis: the camera and where the
    pelvises are, [P,3] m. Focal length and principal point are held near those of 3DHP where the poses leave them open.
    """
    middle = (np.array(size) - 1) / 2
    start = np.concatenate([[1.0, 0, 0], _places(joints2d, relative, _FOCAL_PX, middle).ravel()])

    def residuals(unknown: Floats) -> Floats:
        focal, center = _FOCAL_PX * unknown[0], middle + 100 * unknown[1:3]
        points = relative + unknown[3:].reshape(-1, 1, 3)
        errors = focal * points[..., :2] / points[..., 2:] + center - joints2d
        return np.concatenate([errors.ravel(), (unknown[0] - 1) * 10 * np.ones(1), unknown[1:3]])

    best = least_squares(residuals, start, method="lm").x
    focal, center = _FOCAL_PX * best[0], middle + 100 * best[1:3]
    K = np.array([[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]])
    return Camera(K, np.zeros(0), "plumb_bob", size), best[3:].reshape(-1, 3)


def _places(joints2d: Floats, relative: Floats, focal: float, center: Floats) -> Floats:
    """Linear least squares for each person: X0 − n_x Z0 = n_x ΔZ − ΔX, and so for y."""
    flat = (joints2d - center) / focal
    places = []
    for n, pose in zip(flat, relative, strict=True):
        zeros, ones = np.zeros(len(n)), np.ones(len(n))
        rows = np.concatenate([np.stack([ones, zeros, -n[:, 0]], 1), np.stack([zeros, ones, -n[:, 1]], 1)])
        right = np.concatenate([n[:, i] * pose[:, 2] - pose[:, i] for i in range(2)])
        places.append(np.linalg.lstsq(rows, right, rcond=None)[0])
    return np.array(places)


@dataclass(frozen=True, eq=False)
class Composite:
    """image [H,W,3] uint8 RGB; records of its people, front to back; covered [P]: share of each behind others."""

    image: NDArray[np.uint8]
    records: tuple[Record, ...]
    covered: tuple[float, ...]


def composites(
    records: Sequence[Record], count: int, seed: int, people: int = 4, min_gap_m: float = 0.2
) -> Iterator[Composite]:
    """``count`` pictures of ``people`` people each, drawn from records of 3DHP that have masks, all by one camera view.

    min_gap_m: pelvises are at least so far from each other, as bodies do not meet. Raises InputError where that cannot
    be had.
    """
    views: dict[str, list[Record]] = {}
    for record in records:
        if record.mask is not None and record.joints3d is not None:
            views.setdefault(f"{record.camera.K.round(2).tolist()}{record.camera.size}", []).append(record)
    pools = [pool for pool in views.values() if len(pool) >= people]
    if not pools:
        raise InputError(
            f"Composing MuCo-3DHP needs {people} records with masks by one camera: give the data set's FGmasks."
        )
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield composed(_drawn(pools, people, min_gap_m, rng))


def composed(people: Sequence[Record]) -> Composite:
    """People pasted over each other by the depth of their pelvises, the farthest with their background.

    Of the pictures as they are, like the official code: only 3DHP itself is gamma-corrected.
    """
    ordered = sorted((replace(record, gamma=1.0) for record in people), key=lambda record: _pelvis(record)[2])
    image = ordered[-1].image().astype(np.float32)
    outlines = [_outline(record) for record in ordered]
    for record, outline in zip(ordered[-2::-1], outlines[-2::-1], strict=True):
        alpha = cv2.GaussianBlur(outline.astype(np.float32), (0, 0), _BLUR_PX)[:, :, None]
        image += alpha * (record.image() - image)
    pasted = np.rint(image).astype(np.uint8)
    everybody = np.any(outlines, axis=0)
    mask = Mask(PictureArray(np.repeat(np.where(everybody, np.uint8(255), np.uint8(0))[:, :, None], 3, 2)))
    records, covered = [], []
    in_front = np.zeros_like(outlines[0])
    for record, outline in zip(ordered, outlines, strict=True):
        hidden = _read(in_front, record.joints2d)
        covered.append(float((outline & in_front).sum() / max(1, outline.sum())))
        visible = record.camera.contains(record.joints2d) & ~hidden
        picture = PictureArray(pasted)
        records.append(replace(record, dataset="muco", picture=picture, mask=mask, visible=visible, scene="composed"))
        in_front = in_front | outline
    return Composite(pasted, tuple(records), tuple(covered))


def _drawn(pools: Sequence[Sequence[Record]], people: int, min_gap_m: float, rng: np.random.Generator) -> list[Record]:
    for _ in range(200):
        pool = pools[rng.integers(len(pools))]
        drawn = [pool[i] for i in rng.choice(len(pool), people, replace=False)]
        places = np.array([_pelvis(record) for record in drawn])
        gaps = np.linalg.norm(places[:, None] - places, axis=-1)[np.triu_indices(people, 1)]
        if (gaps >= min_gap_m).all():
            return drawn
    raise InputError(f"Among the records no {people} people are {min_gap_m} m apart: give more frames.")


def _pelvis(record: Record) -> Floats:
    assert record.joints3d is not None
    return record.joints3d[record.joint_names.index("pelvis")]


def _outline(record: Record) -> NDArray[np.bool_]:
    assert record.mask is not None
    return record.mask.load()[:, :, 0] > 0


def _read(mask: NDArray[np.bool_], joints2d: Floats) -> NDArray[np.bool_]:
    """The mask [H,W] at joints [J,2] px; False outside."""
    places = np.rint(np.nan_to_num(joints2d, nan=-1)).astype(int)
    inside = ((places >= 0) & (places < mask.shape[::-1])).all(1)
    places = np.where(inside[:, None], places, 0)
    return inside & mask[places[:, 1], places[:, 0]]
