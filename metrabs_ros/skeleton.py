"""Skeletons: joint names, the bones between them, and which joints mirror each other."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.errors import InputError


@dataclass(frozen=True)
class Skeleton:
    """joint_names ('left_wrist' style, unique) and edges as pairs of joint indices.

    Raises InputError where a name repeats or an edge points at no joint.
    """

    joint_names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if len(set(self.joint_names)) != len(self.joint_names):
            repeated = sorted({name for name in self.joint_names if self.joint_names.count(name) > 1})
            raise InputError(f"Joint names must be unique, but these repeat: {', '.join(repeated)}.")
        count = len(self.joint_names)
        if any(not 0 <= end < count for edge in self.edges for end in edge):
            raise InputError(f"Edges must join two of the {count} joints, got {list(self.edges)}.")

    @classmethod
    def from_names(cls, joint_names: Sequence[str], edges: Sequence[Sequence[str]]) -> Skeleton:
        """Edges given by the names of their joints."""
        index = {name: i for i, name in enumerate(joint_names)}
        unknown = sorted({end for edge in edges for end in edge if end not in index})
        if unknown:
            raise InputError(f"Edges name joints that the skeleton lacks: {', '.join(unknown)}.")
        return cls(tuple(joint_names), tuple((index[a], index[b]) for a, b in edges))

    @property
    def mirror(self) -> NDArray[np.intp]:
        """[J] index of each joint's counterpart on the other side; middle joints are their own."""
        index = {name: i for i, name in enumerate(self.joint_names)}
        return np.array([index.get(_other_side(name), i) for i, name in enumerate(self.joint_names)], np.intp)

    @functools.cached_property
    def bones(self) -> NDArray[np.intp]:
        """[E,2]: the edges."""
        return np.array(self.edges, np.intp).reshape(-1, 2)

    def mean_of(self, names: Sequence[str]) -> NDArray[np.float64] | None:
        """[J] weights that average the named joints, None where the skeleton lacks one of them."""
        if any(name not in self.joint_names for name in names):
            return None
        weights = np.zeros(len(self.joint_names))
        for name in names:
            weights[self.joint_names.index(name)] += 1 / len(names)
        return weights


def _other_side(name: str) -> str:
    if name.startswith("left_"):
        return "right_" + name.removeprefix("left_")
    if name.startswith("right_"):
        return "left_" + name.removeprefix("right_")
    return name
