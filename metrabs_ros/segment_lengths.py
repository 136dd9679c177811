"""How long a person's segments are: measured from joints, steadied over frames, completed by human proportions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrabs_ros.body_frame import head_rotation, torso_rotation
from metrabs_ros.body_landmarks import Landmarks
from metrabs_ros.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SegmentLengths:
    """Lengths of one person, m; in brackets what `human_description` calls them.

    hip_width between the hip joints (waist_length); torso from between the hips to between the shoulders
    (torso_height); shoulder_width between the shoulder joints (2 neck_shoulder_length); upper_arm (upperarm_length);
    forearm (forearm_length); thigh (tight_length); shank (tibia_length), each the mean of both sides; neck from
    between the shoulders up to the point about which the head turns (neck_length); head_up and head_forward from
    there to between the eyes (head_radius and head_radius / 2).

    ``measured`` names the segments that come from joints; the others come from proportions. Raises InputError where
    a length is not a positive number.
    """

    hip_width: float
    torso: float
    shoulder_width: float
    upper_arm: float
    forearm: float
    thigh: float
    shank: float
    neck: float
    head_up: float
    head_forward: float
    measured: frozenset[str] = field(default=frozenset(), kw_only=True)

    def __post_init__(self) -> None:
        for name, length in zip(SEGMENTS, self.as_array(), strict=True):
            if not 0 < length < np.inf:
                raise InputError(f"A body's {name} must be a positive length in metres, got {length}.")

    @classmethod
    def from_height(cls, height: float) -> SegmentLengths:
        """Of an adult of this height, m, none measured.

        Proportions: means over 200 standing adults of training/synthetic, between joint centres as engines label
        them; standard deviations 0.002 to 0.015 of the height. Drillis and Contini's (1966, in Winter, Biomechanics
        and Motor Control of Human Movement), which are the usual ones, are taken between points on the skin and differ
        by up to 0.05 (shoulder_width 0.259, upper_arm 0.186, thigh 0.245, shank 0.246).
        """
        return cls(*(float(part) for part in _OF_HEIGHT * height))

    @classmethod
    def from_joints(cls, joints3d: ArrayLike, joint_names: Sequence[str]) -> SegmentLengths:
        """Medians over the frames of one person, joints3d [F,J,3] m (or [J,3]), completed as ``completed`` says."""
        joints = np.asarray(joints3d, np.float64)
        return completed(_medians(segment_samples(joints[None] if joints.ndim == 2 else joints, joint_names)))

    def as_array(self) -> Floats:
        """[len(SEGMENTS)] m, in the order of SEGMENTS."""
        return np.array([getattr(self, name) for name in SEGMENTS], np.float64)


SEGMENTS = tuple(each.name for each in fields(SegmentLengths) if not each.kw_only)
_OF_HEIGHT = np.array([0.111, 0.271, 0.208, 0.152, 0.136, 0.224, 0.258, 0.085, 0.056, 0.067])
# Where the head turns, as a part of the height of the eyes over the shoulders: what leaves the eyes of 840 poses of
# training/synthetic nearest to where they are (95 % within 19 mm; at 0.4 or 0.8 within 26 mm).
_NECK_PART = 0.6
# Height from the segments that vary least with it.
_TELL_HEIGHT = [SEGMENTS.index(name) for name in ("torso", "upper_arm", "forearm", "thigh", "shank")]
# human_description's default, where no segment tells the height.
_UNKNOWN_HEIGHT = 1.65


class LengthEstimator:
    """One person's lengths over time: they change only when the person's measured medians have moved on.

    Weighted medians over the last ``memory`` frames; ``lengths`` keeps its value (the same object) until a segment is
    off by more than ``tolerance`` m or is measured for the first time, so that a URDF need not be published anew with
    every frame: `is not` tells. Until the first frame they are those of an adult of 1.65 m.
    """

    def __init__(self, memory: int = 300, tolerance: float = 0.015) -> None:
        if memory < 1 or not tolerance >= 0:
            raise InputError(
                f"A length estimator needs a memory of at least 1 frame and a tolerance of at least 0 m, "
                f"got {memory} frames and {tolerance} m."
            )
        self._tolerance = tolerance
        # The oldest are written over.
        self._samples = np.full((memory, len(SEGMENTS)), np.nan)
        self._weights = np.zeros(memory)
        self._count = 0
        self.lengths = completed(np.full(len(SEGMENTS), np.nan))

    def update(self, sample: Floats, weight: float = 1.0) -> SegmentLengths:
        """``lengths`` after one more frame: sample [len(SEGMENTS)] m, a row of segment_samples; weight its score or
        1 / variance (0: ignored)."""
        if not 0 <= weight < np.inf:
            raise InputError(f"The weight of a frame must be a number of at least 0, got {weight}.")
        if weight > 0 and np.isfinite(sample).any():
            place = self._count % len(self._samples)
            self._samples[place], self._weights[place] = sample, weight
            self._count += 1
            now = completed(_medians(self._samples[: self._count], self._weights[: self._count]))
            moved = np.abs(now.as_array() - self.lengths.as_array()).max() > self._tolerance
            if moved or now.measured != self.lengths.measured:
                self.lengths = now
        return self.lengths


def segment_samples(joints3d: ArrayLike, joint_names: Sequence[str]) -> Floats:
    """[F,J,3] m, frames or people -> [F,len(SEGMENTS)] m, NaN where a segment's joints are not known."""
    points = Landmarks.from_joints(joints3d, joint_names)
    torso = torso_rotation(points, points.pelvis)
    neck, head_up, head_forward = _head_offsets(points, torso)
    samples = np.stack(
        [
            _length(points.hips[:, 0] - points.hips[:, 1]),
            _length(points.chest - points.pelvis),
            np.abs(((points.shoulders[:, 0] - points.shoulders[:, 1]) * torso[..., 1]).sum(-1)),
            _of_both(points.shoulders, points.elbows),
            _of_both(points.elbows, points.wrists),
            _of_both(points.hips, points.knees),
            _of_both(points.knees, points.ankles),
            neck,
            head_up,
            head_forward,
        ],
        1,
    )
    return np.where(samples > 1e-3, samples, np.nan)


def completed(medians: Floats) -> SegmentLengths:
    """Lengths [len(SEGMENTS)] m, where NaN by the proportions of a person as tall as the others say."""
    known = np.isfinite(medians)
    heights = (medians / _OF_HEIGHT)[_TELL_HEIGHT]
    told = heights[np.isfinite(heights)]
    if not len(told):
        told = (medians / _OF_HEIGHT)[known]
    height = float(np.median(told)) if len(told) else _UNKNOWN_HEIGHT
    values = np.where(known, medians, _OF_HEIGHT * height)
    return SegmentLengths(
        *(float(value) for value in values),
        measured=frozenset(name for name, is_known in zip(SEGMENTS, known, strict=True) if is_known),
    )


def _head_offsets(points: Landmarks, R_torso: Floats) -> tuple[Floats, Floats, Floats]:
    """neck, head_up, head_forward [F]: those that put the eyes where they are seen, by least squares.

    eyes - chest = h (k z_torso + (1 - k) z_head) + f x_head, in h and f, where k is the neck's part of h.
    """
    R_head = head_rotation(points)
    eyes = points.eyes.mean(1) - points.chest
    basis = np.stack([_NECK_PART * R_torso[..., 2] + (1 - _NECK_PART) * R_head[..., 2], R_head[..., 0]], -1)
    gram = np.einsum("nia,nib->nab", basis, basis)
    right = np.einsum("nia,ni->na", basis, eyes)
    determinant = gram[:, 0, 0] * gram[:, 1, 1] - gram[:, 0, 1] ** 2
    determinant = np.where(determinant > 0.05, determinant, np.nan)
    height = (gram[:, 1, 1] * right[:, 0] - gram[:, 0, 1] * right[:, 1]) / determinant
    forward = (gram[:, 0, 0] * right[:, 1] - gram[:, 0, 1] * right[:, 0]) / determinant
    return _NECK_PART * height, (1 - _NECK_PART) * height, forward


def _length(vectors: Floats) -> Floats:
    return np.linalg.norm(vectors, axis=-1)


def _of_both(starts: Floats, ends: Floats) -> Floats:
    """[F,2,3] -> [F]: the mean length of the sides that are known."""
    lengths = _length(ends - starts)
    known = np.isfinite(lengths)
    return np.where(known, lengths, 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)


def _medians(samples: Floats, weights: Floats | None = None) -> Floats:
    """[F,S] -> [S]: weighted medians over the frames in which each is known, NaN where none is."""
    each = np.ones(len(samples)) if weights is None else weights
    if not len(samples):
        return np.full(len(SEGMENTS), np.nan)
    order = np.argsort(samples, axis=0)
    ordered = np.take_along_axis(samples, order, 0)
    share = np.cumsum(np.where(np.isfinite(ordered), each[order], 0), axis=0)
    half = (share >= share[-1:] / 2) & np.isfinite(ordered)
    return np.take_along_axis(ordered, half.argmax(0)[None], 0)[0]
