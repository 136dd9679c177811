"""What is no human pose, and which of several poses are the same person. All rules are those of the released code.

Each rule takes N people at once and says [N] who passes; what it cannot judge passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.ranges import check_ranges, ranged

Floats = NDArray[np.float64]
Passed = NDArray[np.bool_]

# A bone is impossible only if it is also off its typical length by more than this.
_BONE_OFF_M = 0.3
# Pose NMS: similarity over the quarter of the joints that differ most, each worth nothing from this distance on.
_SAME_JOINT_M = 0.3
# In the image two people never cover each other to within this part of their size in every joint, whereas two crops
# of one far person can disagree by more than _SAME_JOINT_M in depth. Measured on looks at one person from boxes that
# differ as detections do: 0.02 median, 0.08 at the 95th percentile.
_SAME_IMAGE = 0.12
# Two people whom the frames before told apart may come nearer to each other: of two looks at the same one, which start
# from nearly the same box, half differ by less than a third of this.
_SAME_IMAGE_OF_KNOWN = 0.06
# Of poses that a doubtful detection begins with, most that come nearer than this to a better one are of somebody found
# already (nine of ten at 0.13 to 0.27, on synthetic pictures of rooms), of new people one in four.
_SAME_IMAGE_OF_DOUBTFUL = 0.3


@dataclass(frozen=True)
class PlausibilityParams:
    """Where the rules draw the line. Raises InputError for values outside their range."""

    least_bone: float = ranged(0.1, 0.0, 1.0, "Part of its typical length below which a bone is impossible.")
    most_bone: float = ranged(3.0, 1.0, 100.0, "Multiple of its typical length above which a bone is impossible.")
    agreed_m: float = ranged(0.2, 0.0, 10.0, "Spread up to which the views of num_aug agree on a joint, m.")
    covered: float = ranged(0.5, 0.0, 1.0, "Part of the box that was looked into that a pose must cover.")
    same_pose: float = ranged(0.4, 0.0, 1.0, "Similarity from which two poses are the same person's.")

    def __post_init__(self) -> None:
        check_ranges(self)


DEFAULT = PlausibilityParams()


def in_front(joints3d: Floats) -> Passed:
    """[N,J,3] m -> [N]: finite, and most of the body before the camera."""
    before = (joints3d[..., 2] > 0.1).sum(1) > joints3d.shape[1] / 2
    return np.isfinite(joints3d).all((1, 2)) & before


def bones_possible(
    joints3d: Floats, edges: NDArray[np.intp], typical_m: Floats, params: PlausibilityParams = DEFAULT
) -> Passed:
    """[N,J,3] m, bones as pairs of joints [E,2] and their typical lengths [E] m (NaN: unknown) -> [N].

    No bone is shorter than 0.1 or longer than 3 times its typical length and also off by more than 0.3 m.
    """
    ends = joints3d[:, edges]
    length = np.linalg.norm(ends[:, :, 1] - ends[:, :, 0], axis=-1)
    ratio = length / typical_m
    off = np.abs(length - typical_m) > _BONE_OFF_M
    return ~(((ratio < params.least_bone) | (ratio > params.most_bone)) & off).any(-1)


def views_agree(posture_spread: Floats, params: PlausibilityParams = DEFAULT) -> Passed:
    """Spread [N,J] m of the views of test-time augmentation around their own middles, NaN where unknown -> [N].

    At least a quarter of the joints whose spread is known spread by less than 0.2 m. The released code judges the
    spread of absolute joints; that of the distance, which all joints share, would reject everybody who is far away.
    """
    known = np.isfinite(posture_spread)
    agreed = known & (posture_spread < params.agreed_m)
    return agreed.sum(-1) >= known.sum(-1) / 4


def covers_box(pose_boxes: Floats, boxes: Floats, params: PlausibilityParams = DEFAULT) -> Passed:
    """Boxes around poses and the boxes that were looked into, [N,4] xywh px -> [N]: half of the latter is covered.

    A pose that does not is of somebody else, of whom the box shows a part, or of nobody.
    """
    low = np.maximum(pose_boxes[:, :2], boxes[:, :2])
    high = np.minimum(pose_boxes[:, :2] + pose_boxes[:, 2:], boxes[:, :2] + boxes[:, 2:])
    # This way around so that NaN passes.
    return ~(np.clip(high - low, 0, None).prod(-1) < params.covered * boxes[:, 2:].prod(-1))


def kept_by_nms(
    joints3d: Floats,
    joints2d: Floats,
    scores: Floats,
    is_known: Passed | None = None,
    is_doubtful: Passed | None = None,
    params: PlausibilityParams = DEFAULT,
) -> NDArray[np.intp]:
    """Indices, best first, of poses [N,J,3] m / [N,J,2] px that repeat no better-scored one.

    ``is_known`` [N]: the frames before told this person apart from the others of whom it is set. ``is_doubtful`` [N]:
    this one only counts where it is well apart from all others, and comes after them.
    """
    if len(scores) < 2:
        return np.arange(len(scores))
    doubtful = np.zeros(len(scores), bool) if is_doubtful is None else is_doubtful
    order = np.lexsort((-scores, doubtful))
    known = np.zeros(len(scores), bool) if is_known is None else is_known
    least = np.where(known[:, None] & known[None], _SAME_IMAGE_OF_KNOWN, _SAME_IMAGE)
    least[doubtful[:, None] | doubtful[None]] = _SAME_IMAGE_OF_DOUBTFUL
    same = (_similarity(joints3d) > params.same_pose) | (_image_distance(joints2d) < least)
    kept: list[int] = []
    for i in order:
        if not same[i, kept].any():
            kept.append(int(i))
    return np.array(kept, np.intp)


def _similarity(joints3d: Floats) -> Floats:
    """[N,N]: mean of relu(1 - d / 0.3 m) over the J/4 largest joint distances."""
    distances = np.linalg.norm(joints3d[:, None] - joints3d[None], axis=-1)
    count = max(1, joints3d.shape[1] // 4)
    largest = np.partition(distances, -count, axis=-1)[..., -count:]
    return np.maximum(0, 1 - largest / _SAME_JOINT_M).mean(-1)


def _image_distance(joints2d: Floats) -> Floats:
    """[N,N]: mean distance of the joints in the image over the larger person's size; inf where none can be compared."""
    both = np.isfinite(joints2d).all(-1)
    points = np.where(both[..., None], joints2d, 0.0)
    shared = both[:, None] & both[None]
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    count = shared.sum(-1)
    mean = (distances * shared).sum(-1) / np.maximum(count, 1)
    extent = np.where(both[..., None], joints2d, -np.inf).max(1, initial=-np.inf) - np.where(
        both[..., None], joints2d, np.inf
    ).min(1, initial=np.inf)
    size = np.where(both.any(-1), extent.max(-1), 0.0)
    larger = np.maximum(np.maximum(size[:, None], size[None]), 1.0)
    return np.where(count > 0, mean / larger, np.inf)
