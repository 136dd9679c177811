"""One example format for every data set and for the synthetic stream, and how examples become a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray

from metrabs_ros.errors import InputError

# What the source of a crop without people begins with.
BACKGROUND = "background"


@dataclass(frozen=True)
class Example:
    """One person as its virtual camera sees it, or a crop without one: source begins with "background", no labels.

    image [S,S,3] uint8 RGB; K [3,3] px float32 (pixel centres at integers, principal point near S/2); joints3d [J,3] m
    float32 in the crop camera's frame, absolute, NaN where unlabelled; joints2d [J,2] px float32 of the crop, possibly
    outside it, NaN where unlabelled; visible [J] bool: rendered, inside and not occluded; labels3d: False where only
    the 2D pose is known; source: name of the data set. Raises InputError where the shapes or types do not fit.
    """

    image: NDArray[np.uint8]
    K: NDArray[np.float32]
    joints3d: NDArray[np.float32]
    joints2d: NDArray[np.float32]
    visible: NDArray[np.bool_]
    labels3d: bool
    source: str

    def __post_init__(self) -> None:
        side, joints = self.image.shape[0], len(self.joints2d)
        expected = {
            "image": ((side, side, 3), np.uint8),
            "K": ((3, 3), np.float32),
            "joints3d": ((joints, 3), np.float32),
            "joints2d": ((joints, 2), np.float32),
            "visible": ((joints,), np.bool_),
        }
        for name, (shape, dtype) in expected.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise InputError(
                    f"Example of {self.source}: {name} must be {np.dtype(dtype).name} {list(shape)}, "
                    f"got {array.dtype} {list(array.shape)}."
                )


@dataclass(frozen=True)
class Batch:
    """N examples as tensors; NaNs of the labels are zeros here and the masks tell where labels are.

    image [N,S,S,3] uint8; K [N,3,3] float32 px; joints3d [N,J,3] float32 m; joints2d [N,J,2] float32 px; visible [N,J]
    bool; labelled [N,J] bool: the 2D joint is known; labelled3d [N,J] bool: the 3D joint is known; labels3d [N] bool;
    sources: data set names.
    """

    image: torch.Tensor
    K: torch.Tensor
    joints3d: torch.Tensor
    joints2d: torch.Tensor
    visible: torch.Tensor
    labelled: torch.Tensor
    labelled3d: torch.Tensor
    labels3d: torch.Tensor
    sources: tuple[str, ...]

    @property
    def person(self) -> torch.Tensor:
        """[N] bool: whether the crop holds a person at all."""
        return self.labelled.any(1)

    @property
    def background(self) -> torch.Tensor:
        """[N] bool: whether the crop is known to hold nobody."""
        nobody = [source.startswith(BACKGROUND) for source in self.sources]
        return torch.tensor(nobody, dtype=torch.bool, device=self.image.device)

    def __len__(self) -> int:
        return len(self.image)

    def to(self, device: torch.device | str) -> Batch:
        moved = {
            f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self) if f.name != "sources"
        }
        return Batch(**moved, sources=self.sources)

    def __getitem__(self, rows: torch.Tensor | slice) -> Batch:
        """The named examples: a slice, or an index or bool tensor [N]."""
        numbers = torch.arange(len(self))[rows.cpu() if isinstance(rows, torch.Tensor) else rows].tolist()
        picked = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "sources"}
        return Batch(**picked, sources=tuple(self.sources[i] for i in numbers))


# The names of a batch's tensors but its pictures.
LABELS = tuple(f.name for f in fields(Batch) if f.name not in ("image", "sources"))


def collate(examples: Sequence[Example]) -> Batch:
    """Examples of one crop side and one skeleton -> a Batch. Raises InputError where they differ."""
    if not examples:
        raise InputError("A batch needs at least one example, got none.")
    sides = sorted({example.image.shape[0] for example in examples})
    counts = sorted({len(example.joints2d) for example in examples})
    if len(sides) > 1 or len(counts) > 1:
        raise InputError(f"Examples of a batch must share crop side and joints, got sides {sides} and joints {counts}.")
    joints2d = np.stack([example.joints2d for example in examples])
    joints3d = np.stack([example.joints3d for example in examples])
    labels3d = np.array([example.labels3d for example in examples], bool)
    return Batch(
        image=torch.from_numpy(np.stack([example.image for example in examples])),
        K=torch.from_numpy(np.stack([example.K for example in examples])),
        joints3d=torch.from_numpy(np.nan_to_num(joints3d)),
        joints2d=torch.from_numpy(np.nan_to_num(joints2d)),
        visible=torch.from_numpy(np.stack([example.visible for example in examples])),
        labelled=torch.from_numpy(np.isfinite(joints2d).all(-1)),
        labelled3d=torch.from_numpy(np.isfinite(joints3d).all(-1) & labels3d[:, None]),
        labels3d=torch.from_numpy(labels3d),
        sources=tuple(example.source for example in examples),
    )


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches of one crop side and one skeleton, one after the other."""
    names = [f.name for f in fields(Batch) if f.name != "sources"]
    tensors = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in names}
    return Batch(**tensors, sources=tuple(source for batch in batches for source in batch.sources))


def mirrored(batch: Batch, flipped: torch.Tensor, counterparts: torch.Tensor) -> Batch:
    """The batch with the named examples [N] bool as a mirror shows them; counterparts [J]: Skeleton.mirror."""
    side = batch.image.shape[2]
    changed = {
        "image": batch.image.flip(2),
        "K": torch.cat([_mirrored_rows(batch.K, side), batch.K[:, 1:]], 1),
        "joints3d": batch.joints3d[:, counterparts] * batch.joints3d.new_tensor([-1.0, 1.0, 1.0]),
        "joints2d": batch.joints2d[:, counterparts] * batch.joints2d.new_tensor([-1.0, 1.0])
        + batch.joints2d.new_tensor([side - 1.0, 0.0]),
        "visible": batch.visible[:, counterparts],
        "labelled": batch.labelled[:, counterparts],
        "labelled3d": batch.labelled3d[:, counterparts],
    }
    picked = {
        name: torch.where(flipped.view(-1, *[1] * (value.ndim - 1)), value, getattr(batch, name))
        for name, value in changed.items()
    }
    return replace(batch, **picked)


def _mirrored_rows(K: torch.Tensor, side: int) -> torch.Tensor:
    """[N,1,3] first rows of cameras whose picture is mirrored: x and the pixel column change their signs."""
    row = K[:, :1].clone()
    row[..., 1] = -row[..., 1]
    row[..., 2] = side - 1 - row[..., 2]
    return row
