"""A released model's directory but for its network: its configuration, joints and skeletons, read and checked.

Layout and meaning of the files are those of the authors' code (isarandi/metrabs, metrabs_pytorch).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from metrabs_ros.errors import InputError
from metrabs_ros.joint_transform import MAX_JOINTS
from metrabs_ros.released import unpickling
from metrabs_ros.strict import nearest

SIZES = ("s", "m", "l")
CHECKPOINT = "ckpt.pt"
_NETWORK_STRIDE = 32
_MAX_TEXT_BYTES = 1 << 20
_MAX_ARRAY_BYTES = 128 << 20


@dataclass(frozen=True)
class ReleasedConfig:
    """config.yaml. side and strides px, depth bins of the volume, box m; mix_3d: mix_3d_inside_fov, null being 0."""

    size: str
    side: int
    stride_train: int
    stride_test: int
    centred: bool
    legacy_half_stride: bool
    depth: int
    box: float
    weak_perspective: bool
    mix_3d: float


@dataclass(frozen=True, eq=False)
class Selection:
    """The joints of one skeleton: weights [J_model, J] of the network's joints in each, names and edges of names."""

    weights: NDArray[np.float32]
    names: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class ReleasedModel:
    """joint_names [J_model] of the network; transform [J_model, J_out]; skeletons name their joints among J_out."""

    path: Path
    config: ReleasedConfig
    joint_names: tuple[str, ...]
    transform: NDArray[np.float32]
    skeletons: Mapping[str, Selection]

    @property
    def mirror(self) -> tuple[int, ...]:
        """[J_model] the network's joints on the other side: names that begin with l and r."""
        index = {name: i for i, name in enumerate(self.joint_names)}
        return tuple(index.get(_other_side(name), i) for i, name in enumerate(self.joint_names))

    def selected(self, skeleton: str) -> Selection:
        """A skeleton by name, '' for all joints. Raises InputError where the model has none of that name."""
        if skeleton not in self.skeletons:
            known = [name for name in self.skeletons if name]
            raise InputError(f"{self.path} has no skeleton {skeleton!r}{nearest(skeleton, known)}.")
        return self.skeletons[skeleton]


def read(path: Path) -> ReleasedModel:
    """Everything but the network. Raises InputError for what is missing, damaged or does not fit together."""
    if not path.is_dir():
        raise InputError(f"There is no model directory at {path}: give the unpacked directory of a released model.")
    names = ("config.yaml", CHECKPOINT, "joint_info.npz", "joint_transform_matrix.npy", "skeleton_infos.pkl")
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        raise InputError(
            f"{path} lacks {', '.join(missing)}: expected the unpacked directory of a released PyTorch model."
        )
    config = _config(path / "config.yaml")
    joint_names, edges = _joint_info(path / "joint_info.npz")
    transform = _transform(path / "joint_transform_matrix.npy", len(joint_names))
    skeletons = _skeletons(path / "skeleton_infos.pkl", transform)
    if "" not in skeletons and transform.shape[1] == len(joint_names):
        skeletons[""] = Selection(transform, joint_names, edges)
    return ReleasedModel(path, config, joint_names, transform, skeletons)


def _config(path: Path) -> ReleasedConfig:
    try:
        if path.stat().st_size > _MAX_TEXT_BYTES:
            raise InputError(f"{path} is larger than 1 MiB, which no configuration is.")
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML ({' '.join(str(error).split())[:120]}).") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} must hold keys and values as a released model's does, got a {type(data).__name__}.")
    values = _Values(path, data)
    for key in ("transform_coords", "predict_all_and_latents"):
        if values.flag(key, False):
            raise InputError(
                f"{path} says {key}: networks that predict latent points cannot be imported; take a model without it."
            )
    side, stride_train, stride_test = (
        values.whole("proc_side", 64, 1024),
        values.whole("stride_train", 4, 64),
        values.whole("stride_test", 4, 64),
    )
    if side % _NETWORK_STRIDE:
        raise InputError(f"{path}: proc_side must be a multiple of {_NETWORK_STRIDE}, got {side}.")
    return ReleasedConfig(
        values.size(),
        side,
        stride_train,
        stride_test,
        values.flag("centered_stride", None),
        values.flag("legacy_centered_stride_bug", False),
        values.whole("depth", 2, 256),
        values.number("box_size_mm", 100, 100000) / 1000,
        values.flag("weak_perspective", None),
        0.0 if data.get("mix_3d_inside_fov") is None else values.number("mix_3d_inside_fov", 0, 1),
    )


class _Values:
    """Values of config.yaml, each of its type and in its range or a sentence."""

    def __init__(self, path: Path, data: dict[Any, Any]) -> None:
        self._path = path
        self._data = data

    def size(self) -> str:
        backbone = str(self._data.get("backbone", ""))
        size = self._data.get("efficientnet_size") or backbone.rpartition("-")[2]
        if size not in SIZES or (backbone and not backbone.startswith("efficientnetv2-")):
            raise self._wrong("efficientnet_size", size or backbone, "s, m or l (EfficientNetV2)")
        return str(size)

    def whole(self, key: str, low: int, high: int) -> int:
        value = self._data.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._wrong(key, value, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float) -> float:
        value = self._data.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise self._wrong(key, value, f"a number from {low} to {high}")
        return float(value)

    def flag(self, key: str, default: bool | None) -> bool:
        value = self._data.get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def _wrong(self, key: str, value: Any, expected: str) -> InputError:
        return InputError(f"{self._path}: {key} must be {expected}, got {value!r:.60}.")


def _joint_info(path: Path) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MAX_ARRAY_BYTES:
                raise InputError(f"{path} unpacks to more than {_MAX_ARRAY_BYTES >> 20} MiB, which no joint names do.")
        with np.load(path, allow_pickle=False) as arrays:
            if not {"joint_names", "joint_edges"} <= set(arrays):
                raise InputError(f"{path} must hold joint_names and joint_edges, got {', '.join(arrays) or 'nothing'}.")
            entries, ends = arrays["joint_names"], arrays["joint_edges"]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"{path} is damaged ({_said(error)}): copy the model directory again.") from None
    names = _unique_names(entries, f"{path}: joint_names")
    edges = _whole_numbers(ends, 2, len(names), f"{path}: joint_edges")
    return names, tuple((names[a], names[b]) for a, b in edges.tolist())


def _transform(path: Path, joints: int) -> NDArray[np.float32]:
    try:
        if path.stat().st_size > _MAX_ARRAY_BYTES:
            raise InputError(f"{path} is larger than {_MAX_ARRAY_BYTES >> 20} MiB, which no joint transform is.")
        # Mapped first: the header alone decides how much memory reading takes.
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, OverflowError) as error:
        raise InputError(f"{path} is damaged ({_said(error)}): copy the model directory again.") from None
    shape = list(getattr(matrix, "shape", []))
    if len(shape) != 2 or shape[0] != joints or not 0 < shape[1] <= MAX_JOINTS or matrix.dtype.kind not in "fiu":
        raise InputError(
            f"{path} must hold numbers of shape [{joints}, joints], one row for each joint in joint_info.npz, got "
            f"{shape} {getattr(matrix, 'dtype', '')}: the files are not of one model."
        )
    matrix = np.array(matrix, np.float32)
    if not np.isfinite(matrix).all():
        raise InputError(f"{path} holds numbers that are not finite: copy the model directory again.")
    return matrix


def _skeletons(path: Path, transform: NDArray[np.float32]) -> dict[str, Selection]:
    infos = unpickling.read(path)
    if not isinstance(infos, dict) or not 0 < len(infos) <= 1000 or not all(isinstance(name, str) for name in infos):
        raise InputError(f"{path} must hold skeletons by name, got a {type(infos).__name__}.")
    return {name: _selection(info, transform, f"{path}: skeleton {name!r:.60}") for name, info in infos.items()}


def _selection(info: Any, transform: NDArray[np.float32], where: str) -> Selection:
    if not isinstance(info, dict) or not {"indices", "names", "edges"} <= set(info):
        raise InputError(f"{where} must have indices, names and edges.")
    count = transform.shape[1]
    indices = _whole_numbers(info["indices"], 1, count, f"{where}: indices")
    names = _unique_names(info["names"], f"{where}: names")
    if len(indices) != len(names):
        raise InputError(f"{where} has {len(indices)} indices but {len(names)} names.")
    edges = _whole_numbers(info["edges"], 2, len(names), f"{where}: edges")
    pairs = tuple((names[a], names[b]) for a, b in edges.tolist())
    return Selection(np.ascontiguousarray(transform[:, indices]), names, pairs)


def _whole_numbers(values: Any, dimensions: int, below: int, where: str) -> NDArray[np.intp]:
    rows = _entries(values, where)
    if dimensions == 2:
        return np.array([_whole_numbers(_pair(row, where), 1, below, where) for row in rows], np.intp).reshape(-1, 2)
    if not all(isinstance(i, (int, np.integer)) and not isinstance(i, bool) and 0 <= i < below for i in rows):
        raise InputError(f"{where} must be whole numbers from 0 to {below - 1}: the files are not of one model.")
    return np.array(rows, np.intp)


def _pair(row: Any, where: str) -> Sequence[Any]:
    entries = _entries(row, where)
    if len(entries) != 2:
        raise InputError(f"{where} must be pairs, got {len(entries)} entries.")
    return entries


def _unique_names(values: Any, where: str) -> tuple[str, ...]:
    entries = _entries(values, where)
    names = tuple(str(name) for name in entries if isinstance(name, str))
    if not names or len(names) != len(entries) or len(set(names)) != len(names):
        raise InputError(f"{where} must be different names, one for each joint.")
    if any(not 0 < len(name) <= 100 or not name.isprintable() for name in names):
        raise InputError(f"{where} must be words of at most 100 characters.")
    return names


def _entries(values: Any, where: str) -> Sequence[Any]:
    """A list's or an array's entries, not looked into: a few bytes can nest lists without end."""
    if isinstance(values, np.ndarray) and values.ndim in (1, 2):
        entries: Sequence[Any] = list(values)
    elif isinstance(values, (list, tuple)):
        entries = values
    else:
        raise InputError(f"{where} must be a list, got a {type(values).__name__}.")
    if len(entries) > MAX_JOINTS:
        raise InputError(f"{where} has {len(entries)} entries, expected at most {MAX_JOINTS}.")
    return entries


def _other_side(name: str) -> str:
    return {"l": "r", "r": "l"}.get(name[:1], name[:1]) + name[1:]


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
