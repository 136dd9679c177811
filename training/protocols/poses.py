"""Poses of many people in many images, predicted or true, and the files they come in.

A file is a .npz (joint_names [J], joints3d [N,J,3] m, images [N]; optional joints2d [N,J,2] px, people [N], universal
[N,J,3] m and group_NAME [N]: activity, scene, sequence, subject, ...) or a poses.jsonl of metrabs-pose.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.errors import InputError
from training.protocols import joints

Floats = NDArray[np.floating]
Strings = NDArray[np.str_]

# Data sets of several people in an image, who are told apart by their records' subject.
_SEVERAL_PEOPLE = ("mupots", "3dpw")


@dataclass(frozen=True, eq=False)
class Poses:
    """joint_names J; joints3d [N,J,3] m, the camera's optical frame, NaN where unknown; images [N] and people [N] tell
    whose they are; joints2d [N,J,2] px, NaN where unknown; universal [N,J,3] m, height-normalised, or None; groups:
    name -> [N], what tables are broken down by."""

    joint_names: tuple[str, ...]
    joints3d: Floats
    images: Strings
    people: Strings
    joints2d: Floats
    universal: Floats | None = None
    groups: dict[str, Strings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count, width = len(self.joints3d), len(self.joint_names)
        shapes = {"joints3d": (count, width, 3), "joints2d": (count, width, 2), "images": (count,), "people": (count,)}
        if self.universal is not None:
            shapes["universal"] = (count, width, 3)
        arrays = {name: getattr(self, name) for name in shapes} | {f"group_{k}": v for k, v in self.groups.items()}
        for name, array in arrays.items():
            expected = shapes.get(name, (count,))
            if array.shape != expected:
                raise InputError(f"Poses: {name} must be {list(expected)}, got {list(array.shape)}.")

    def __len__(self) -> int:
        return len(self.joints3d)

    def __getitem__(self, rows: NDArray[Any]) -> Poses:
        universal = None if self.universal is None else self.universal[rows]
        groups = {name: values[rows] for name, values in self.groups.items()}
        return Poses(self.joint_names, self.joints3d[rows], self.images[rows], self.people[rows], self.joints2d[rows],
                     universal, groups)  # fmt: skip

    def with_joints(self, wanted: Sequence[str], whose: str) -> Poses:
        """Only the wanted joints, in that order. Raises InputError that names the lacking ones."""
        pick = [joints.picked(a, self.joint_names, wanted, whose) for a in (self.joints3d, self.joints2d)]
        universal = None if self.universal is None else joints.picked(self.universal, self.joint_names, wanted, whose)
        return replace(self, joint_names=tuple(wanted), joints3d=pick[0], joints2d=pick[1], universal=universal)

    def group(self, name: str) -> Strings:
        if name not in self.groups:
            raise InputError(
                f"The ground truth does not say the {name} of each pose: add group_{name} [N] to its file."
            )
        return self.groups[name]


def poses(joint_names: Sequence[str], joints3d: Any, images: Any, people: Any = None, joints2d: Any = None,
          universal: Any = None, **groups: Any) -> Poses:  # fmt: skip
    """Poses from array-likes; people default to "0", one an image."""
    array = np.asarray(joints3d, np.float64)
    if joints2d is None:
        joints2d = np.full((*array.shape[:2], 2), np.nan)
    return Poses(
        tuple(map(str, joint_names)),
        array,
        np.asarray(images).astype(str),
        np.full(len(array), "0") if people is None else np.asarray(people).astype(str),
        np.asarray(joints2d, np.float64),
        None if universal is None else np.asarray(universal, np.float64),
        {name: np.asarray(values).astype(str) for name, values in groups.items()},
    )


def is_recording(path: Path) -> bool:
    """Whether a file is a poses.jsonl."""
    return path.suffix == ".jsonl"


def load(path: Path) -> Poses:
    """Raises InputError, naming the file, where it cannot be read or lacks something."""
    if is_recording(path):
        return _from_jsonl(path)
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = dict(data)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"Cannot read the poses {path}: {error}; give a .npz of arrays or a poses.jsonl.") from error
    lacking = [name for name in ("joint_names", "joints3d", "images") if name not in arrays]
    if lacking:
        raise InputError(f"{path} lacks the arrays {', '.join(lacking)}: see training/protocols/poses.py.")
    groups = {name.removeprefix("group_"): arrays[name] for name in arrays if name.startswith("group_")}
    return poses(**{k: v for k, v in arrays.items() if not k.startswith("group_")}, **groups)


def save(path: Path, found: Poses) -> None:
    """Write a .npz that ``load`` reads."""
    arrays = {"joint_names": np.array(found.joint_names), "joints3d": found.joints3d, "joints2d": found.joints2d,
              "images": found.images, "people": found.people}  # fmt: skip
    if found.universal is not None:
        arrays["universal"] = found.universal
    np.savez_compressed(path, **arrays, **{f"group_{name}": values for name, values in found.groups.items()})


def joined(truth: Poses, predictions: Poses) -> Poses:
    """The prediction of each true pose, by image and person; NaN where there is none.

    Raises InputError where a person was predicted twice, or where nothing fits at all.
    """
    rows: dict[tuple[str, str], int] = {}
    for i, key in enumerate(zip(predictions.images, predictions.people, strict=True)):
        if key in rows:
            raise InputError(f"Person {key[1]} of image {key[0]} is predicted twice: keep one of the two.")
        rows[key] = i
    index = np.array([rows.get(key, -1) for key in zip(truth.images, truth.people, strict=True)], int)
    if len(truth) and (index < 0).all():
        raise InputError(
            f"No prediction belongs to a pose of the ground truth: it has images like {truth.images[0]!r} with people "
            f"like {truth.people[0]!r}, the predictions have {list(map(str, predictions.images[:1]))} with "
            f"{list(map(str, predictions.people[:1]))}."
        )
    return taken(predictions, index, truth)


def taken(predictions: Poses, index: NDArray[np.intp], truth: Poses) -> Poses:
    """The predictions at index [N] for the N true poses; NaN where it is -1."""
    width = len(predictions.joint_names)
    padded3d = np.concatenate([predictions.joints3d, np.full((1, width, 3), np.nan)])
    padded2d = np.concatenate([predictions.joints2d, np.full((1, width, 2), np.nan)])
    return Poses(predictions.joint_names, padded3d[index], truth.images, truth.people, padded2d[index])


def from_records(records: Iterable[Any]) -> Poses:
    """The labels of training.data records with 3D labels."""
    found = [record for record in records if record.joints3d is not None]
    if not found:
        raise InputError("The data set yields no pose with 3D labels: check its folder.")
    crowded = found[0].dataset in _SEVERAL_PEOPLE
    images = [f"{r.dataset}/{'' if crowded else r.subject}/{r.sequence}/{r.activity}/{r.frame}" for r in found]
    people = [r.subject if crowded else "0" for r in found]
    universal = None
    if all(r.joints3d_universal is not None for r in found):
        universal = np.stack([r.joints3d_universal for r in found])
    groups = {name: [getattr(r, name) for r in found] for name in ("subject", "sequence", "activity", "scene", "frame")}
    return poses(found[0].joint_names, np.stack([r.joints3d for r in found]), images, people,
                 np.stack([r.joints2d for r in found]), universal, **groups)  # fmt: skip


def _from_jsonl(path: Path) -> Poses:
    names: list[str] = []
    rows3d, rows2d, images, people = [], [], [], []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            frame = json.loads(line)
            if names and frame["joint_names"] != names:
                raise ValueError(f"line {number} has other joint_names than the lines before")
            names = frame["joint_names"]
            for person in frame["persons"]:
                rows3d.append(_numbers(person["joints3d"], (len(names), 3), number))
                flat = person.get("joints2d") or [[None, None]] * len(names)
                rows2d.append(_numbers(flat, (len(names), 2), number))
                images.append(str(frame["frame"]))
                people.append(str(person["id"]))
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"Cannot read the poses {path}: {error}; give a poses.jsonl of metrabs-pose.") from error
    if not names:
        raise InputError(f"{path} has no line: expected one a frame, as metrabs-pose writes them.")
    width = len(names)
    return poses(names, np.reshape(rows3d, (-1, width, 3)), np.array(images, str), np.array(people, str),
                 np.reshape(rows2d, (-1, width, 2)))  # fmt: skip


def _numbers(values: Any, shape: tuple[int, int], number: int) -> Floats:
    array = np.array(values, np.float64)  # None becomes NaN
    if array.shape != shape:
        raise ValueError(f"line {number}: a pose must be {list(shape)}, got {list(array.shape)}")
    return array
