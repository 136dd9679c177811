"""What the detector is to say about people in a view: which anchors answer for whom, and where hips and rim are.

As BlazePose's own does: a person is told by the anchors at the middle between shoulders and nose, by the second of
stride 8 and the first of stride 16; hips and rim span the circle around the body, and the rim lies above the head.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.camera import Camera
from metrabs_ros.detection_spec import AnchorSpec
from metrabs_ros.detector import anchor_centers
from metrabs_ros.regions import Regions
from training.detector.network import PER_CELL, STRIDES
from training.detector.scenes import Picture
from training.skeleton import JOINT_NAMES, SKELETON

Floats = NDArray[np.floating]
ANCHORS = AnchorSpec(STRIDES, PER_CELL)
# Who shows fewer of their joints, as a part of all, or is smaller, px, is neither asked for nor forbidden.
LEAST_VISIBLE = 0.25
LEAST_SIZE = 18.0
# Stride, which of its anchors in a cell, and the people it answers for, by the circle's diameter in px.
ANSWERS = ((8, 1, 0.0, 280.0), (16, 0, 56.0, 1e4))
_NOSE = JOINT_NAMES.index("nose")
_SHOULDERS = [JOINT_NAMES.index("left_shoulder"), JOINT_NAMES.index("right_shoulder")]
_REGIONS = Regions(SKELETON)


@dataclass(frozen=True, eq=False)
class People:
    """N people in a picture or a view of it, px from its top-left corner (not its first pixel's centre): hips, rim,
    point (between shoulders and nose) [N,2]; joints [N,J,2], and seen [N,J]: nothing hides them."""

    hips: Floats
    rim: Floats
    point: Floats
    joints: Floats
    seen: NDArray[np.bool_]

    @classmethod
    def nobody(cls) -> People:
        none = np.zeros((0, 2))
        return cls(none, none, none, np.zeros((0, len(JOINT_NAMES), 2)), np.zeros((0, len(JOINT_NAMES)), bool))

    @classmethod
    def joined(cls, parts: list[People]) -> People:
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    @property
    def radius(self) -> Floats:
        return np.linalg.norm(self.rim - self.hips, axis=-1)

    @property
    def visible(self) -> Floats:
        """[N] part of the joints that are seen."""
        return self.seen.mean(1)

    def moved(self, A: Floats) -> People:
        """Through the affine map A [3,3]."""
        hips, rim, point, joints = (
            place @ A[:2, :2].T + A[:2, 2] for place in (self.hips, self.rim, self.point, self.joints)
        )
        return People(hips, rim, point, joints, self.seen)

    def within(self, size: int) -> People:
        """Those of whom a view of ``size`` px shows something; no joint is seen beyond it."""
        seen = self.seen & ((self.joints > 0) & (self.joints < size)).all(-1)
        kept = seen.any(1)
        return People(self.hips[kept], self.rim[kept], self.point[kept], self.joints[kept], seen[kept])


@dataclass(frozen=True, eq=False)
class Targets:
    """Of the A anchors of one view: person [A], the row of whom it answers for, -1 nobody, -2 anything will do; weight
    [A], so that a person's anchors of one stride weigh 1 together."""

    person: NDArray[np.intp]
    weight: NDArray[np.float32]


def people_of(picture: Picture) -> People:
    """Everybody in the picture whose circle is known."""
    height, width = picture.image.shape[:2]
    joints = picture.joints2d.astype(np.float64)
    squares = _REGIONS.squares(joints, Camera.from_fov(60, (width, height)))
    hips, radius = squares[:, :2] + squares[:, 2:] / 2, squares[:, 2:] / 2
    rim = hips + radius * _REGIONS.torso_axes(joints)
    point = (joints[:, _SHOULDERS].mean(1) + joints[:, _NOSE]) / 2
    known = np.isfinite(np.concatenate([hips, rim, point], 1)).all(1)
    hips, rim, point, joints = (place[known] + 0.5 for place in (hips, rim, point, np.nan_to_num(joints, nan=-1e6)))
    return People(hips, rim, point, joints, picture.visible[known])


def assigned(people: People, size: int) -> Targets:
    """Who is told by which anchor in a view of ``size`` px."""
    centers = anchor_centers(ANCHORS, size) * size
    person = np.full(len(centers), -1, np.intp)
    weight = np.ones(len(centers), np.float32)
    # Of somebody whose head is cut off, the place at the border that is nearest to it tells.
    point = np.clip(people.point, 0, size)
    gaps = np.linalg.norm(centers[:, None] - point[None], axis=-1)
    asked = (people.visible >= LEAST_VISIBLE) & (2 * people.radius >= LEAST_SIZE)
    for i in np.flatnonzero(~asked):
        person[gaps[:, i] < max(10.0, 0.6 * people.radius[i])] = -2
    order = np.flatnonzero(asked)
    spans = np.stack([_span(stride, people.radius) for stride, *_ in ANSWERS])
    for i in order:
        for (stride, *_), span in zip(ANSWERS, spans, strict=True):
            near = _of_stride(stride, size) & (gaps[:, i] < 2 * span[i])
            person[near & (person == -1)] = -2
    best = np.full(len(centers), np.inf)
    for i in order:
        for (stride, which, least, most), span in zip(ANSWERS, spans, strict=True):
            if not least <= 2 * people.radius[i] < most:
                continue
            chosen = _of_stride(stride, size, which) & (gaps[:, i] < span[i]) & (gaps[:, i] < best)
            person[chosen] = i
            best[chosen] = gaps[chosen, i]
            weight[chosen] = 1 / max(1, int(chosen.sum()))
    return Targets(person, weight)


def _span(stride: int, radius: Floats) -> Floats:
    """How far from the point anchors answer, px: the nearest at least."""
    return np.maximum(0.75 * stride, 0.1 * radius)


def _of_stride(stride: int, size: int, which: int | None = None) -> NDArray[np.bool_]:
    """[A] anchors of a stride, of one of a cell's if given."""
    parts = []
    for other, count in zip(STRIDES, PER_CELL, strict=True):
        cells = (-(-size // other)) ** 2
        number = np.tile(np.arange(count), cells)
        parts.append((number == which if which is not None else np.ones_like(number, bool)) & (other == stride))
    return np.concatenate(parts)
