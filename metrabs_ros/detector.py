"""Person boxes: views of the image, an engine over each, decoding, and non-maximum suppression.

The network sees 224 px; a person of a quarter of the image's height would be lost in it. So the image is looked at as a
pyramid of square views, the whole and overlapping parts of it. A still image gets all views; of a video each frame gets
a few in turn, and tracks carry people over the frames in between.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from metrabs_ros.detection_spec import AnchorSpec, DetectorSpec
from metrabs_ros.engine import AUTO, Network, open_network, release_memory
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import ModelSpec
from metrabs_ros.network_input import run_network
from metrabs_ros.pose import Detections

Floats = NDArray[np.floating]
# x, y of the top-left pixel and side of a square part of the image, px; it may reach beyond the image.
View = tuple[int, int, int]

# Neighbouring views share at least this part of their side, so that a person on a seam is whole in one of them.
_OVERLAP = 0.25
# Around somebody who is not cut off by a view, as a part of their longer side.
_LEAST_MARGIN = 0.1
# Views smaller than this show nobody; strips longer than so many views are looked at as a whole only.
_LEAST_SIDE = 16
_MOST_VIEWS_ACROSS = 12
# Up to this ratio two boxes are of about one size.
_SAME_SIZE = 1.2


class Detector:
    """Finds people; ``detect`` keeps no state but whose turn it is among the views."""

    def __init__(self, spec: ModelSpec, network: Network) -> None:
        if spec.detection is None:
            raise InputError(f"{spec.name} is an engine of kind {spec.kind}, expected kind detector.")
        self.spec = spec
        self._decoding = spec.detection
        self._network = network
        self._anchors = anchor_centers(spec.detection.anchors, spec.input.size)
        self._turn = self._turn_around = 0

    @property
    def sure_score(self) -> float:
        """Detections that score less are doubtful."""
        return self._decoding.score_threshold

    def detect(self, image: NDArray[np.uint8], max_views: int | None = None, near: Floats | None = None) -> Detections:
        """People in image [H,W,3] uint8 RGB, by all views or by the next ``max_views`` in turn.

        ``near`` [4] xywh px: a view around this box, each of them in turn, takes the place of one whose turn it is.
        """
        views = views_of(image.shape[1], image.shape[0])
        if max_views is not None and max_views < len(views):
            around = () if near is None else self._next_around(near, image.shape[1], image.shape[0])
            turns = max_views - len(around)
            views = (*around, *(views[(self._turn + i) % len(views)] for i in range(turns)))
            self._turn += turns
        found, of_view = Detections.from_boxes(np.zeros((0, 4))), []
        for number, view in enumerate(views):
            seen = self._detect_in(image, view)
            found = found.joined(seen)
            of_view += [number] * len(seen)
        decoding = self._decoding
        return suppressed(found, np.array(of_view, np.intp), decoding.nms_iou, decoding.nms_iou_across_views)

    def through(self, around: Callable[[Network], Network]) -> Detector:
        """A detector with turns of its own whose network is this one's, called through ``around(network)``."""
        return Detector(self.spec, around(self._network))

    def run_raw(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The bare network on a batch that is already as it wants it."""
        return self._network.run(batch)

    def reset(self) -> None:
        """Begin again with the whole image."""
        self._turn = self._turn_around = 0

    def release_memory(self) -> None:
        """Give back what runs have taken, where the network can; not while one is under way."""
        release_memory(self._network)

    def close(self) -> None:
        self._network.close()

    def _next_around(self, near: Floats, width: int, height: int) -> tuple[View, ...]:
        around = views_around(near, width, height)
        self._turn_around += 1
        return (around[(self._turn_around - 1) % len(around)],)

    def _detect_in(self, image: NDArray[np.uint8], view: View) -> Detections:
        pixels = view_pixels(image, view, self.spec.input.size)
        outputs = run_network(self._network.run, self.spec, pixels[None])
        raw = outputs[self._decoding.boxes].reshape(len(self._anchors), -1)
        logits = outputs[self._decoding.scores].reshape(len(self._anchors))
        return decoded(raw, logits, self._anchors, self._decoding, self.spec.input.size, view)


def open_detector(spec: ModelSpec, backend: str = AUTO) -> Detector:
    """The detector of a spec. Raises InputError where spec, weights and backend do not fit together."""
    if spec.detection is None:
        raise InputError(f"{spec.name} is an engine of kind {spec.kind}, expected kind detector.")
    return Detector(spec, open_network(spec, backend, [spec.detection.boxes, spec.detection.scores]))


@functools.lru_cache(maxsize=16)
def views_of(width: int, height: int) -> tuple[View, ...]:
    """Square views (x, y, side) px: the whole image, squares of its shorter side, and squares of two thirds of that."""
    longer, shorter = max(width, height), min(width, height)
    views = [((width - longer) // 2, (height - longer) // 2, longer)]
    for side in (shorter, shorter * 2 // 3):
        if max(_LEAST_SIDE, longer / _MOST_VIEWS_ACROSS) < side < longer / 1.2:
            views += [(x, y, side) for y in _starts(height, side) for x in _starts(width, side)]
    return tuple(views)


def views_around(box: Floats, width: int, height: int) -> list[View]:
    """The image's views that do not cut off what is there of somebody in the box [4] xywh px; largest people first.

    The whole image is always one of them.
    """
    margin = _LEAST_MARGIN * max(box[2:])
    low = np.maximum(box[:2] - margin, 0)
    high = np.minimum(box[:2] + box[2:] + margin, [width, height])
    whole, *parts = views_of(width, height)
    inside = [view for view in parts if (low >= view[:2]).all() and (high <= np.add(view[:2], view[2])).all()]
    return [*sorted(inside, key=lambda view: view[2]), whole]


def view_pixels(image: NDArray[np.uint8], view: View, size: int) -> NDArray[np.float32]:
    """The view resampled to [size,size,3] float32 RGB in 0..1, black outside the image, anti-aliased."""
    x, y, side = view
    height, width = image.shape[:2]
    left, top, right, bottom = max(0, x), max(0, y), min(width, x + side), min(height, y + side)
    scale = size / side
    small = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    part = image[top:bottom, left:right]
    # Halving is ten times as fast as means over squares that are not whole.
    while part.shape[0] >= 2 * small[1] and part.shape[1] >= 2 * small[0]:
        part = cv2.resize(part, (part.shape[1] // 2, part.shape[0] // 2), interpolation=cv2.INTER_AREA)
    part = cv2.resize(part, small, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    pixels = np.zeros((size, size, 3), np.float32)
    u, v = round((left - x) * scale), round((top - y) * scale)
    part = part[: size - v, : size - u]
    np.multiply(part, np.float32(1 / 255), out=pixels[v : v + part.shape[0], u : u + part.shape[1]])
    return pixels


def anchor_centers(anchors: AnchorSpec, size: int) -> NDArray[np.float32]:
    """[A,2] centres in 0..1 of the view, row by row, stride by stride."""
    centers = []
    for stride, per_cell in zip(anchors.strides, anchors.per_cell, strict=True):
        cells = -(-size // stride)
        axis = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
        centers.append(np.repeat(grid, per_cell, 0))
    return np.concatenate(centers).astype(np.float32)


def decoded(raw: Floats, logits: Floats, anchors: Floats, spec: DetectorSpec, size: int, view: View) -> Detections:
    """Raw outputs [A,4+2K] and [A] of one view -> the people above the least score, in pixels of the image.

    A person's box is the square around the circle from the centre key point through the radius key point.
    """
    kept = np.flatnonzero(logits > math.log(spec.least_score / (1 - spec.least_score)))
    x, y, side = view
    keypoints = raw[kept, 4:].reshape(-1, spec.keypoints, 2) / size + anchors[kept, None]
    keypoints = keypoints * side + np.array([x - 0.5, y - 0.5])
    center, rim = keypoints[:, spec.center_keypoint], keypoints[:, spec.radius_keypoint]
    radius = np.linalg.norm(rim - center, axis=-1, keepdims=True)
    usable = radius[:, 0] > 1e-3 * side
    boxes = np.concatenate([center - radius, 2 * radius, 2 * radius], -1)[usable]
    scores = 1 / (1 + np.exp(-np.clip(logits[kept], -50, 50)))[usable]
    return Detections(boxes, scores.astype(np.float64), ((rim - center) / np.maximum(radius, 1e-9))[usable])


def suppressed(
    detections: Detections, of_view: NDArray[np.intp], max_iou: float, max_iou_across_views: float
) -> Detections:
    """Best first, without those that overlap a better one by more than ``max_iou`` (intersection over union), or by
    more than ``max_iou_across_views`` where of_view [N], the view that each was seen in, differs, and the size, too.

    Of 18,157 pairs of detections of one person in two views 12 % overlap by 0.3 to 0.6, under 1 % with about one size.
    """
    order = np.argsort(-detections.scores, kind="stable")
    boxes, seen_in, sizes = detections.boxes[order], of_view[order], detections.boxes[order, 2]
    ratio = sizes[:, None] / np.maximum(sizes[None], 1e-9)
    is_alike = (seen_in[:, None] == seen_in[None]) | (np.maximum(ratio, ratio.T) < _SAME_SIZE)
    limits = np.where(is_alike, max_iou, max_iou_across_views)
    overlaps = box_iou(boxes, boxes) > limits
    kept: list[int] = []
    for i in range(len(order)):
        if not overlaps[i, kept].any():
            kept.append(i)
    return detections.taken(order[kept])


def box_iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union of boxes [N,4] and [M,4] xywh -> [N,M]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    union = a[:, None, 2:].prod(-1) + b[None, :, 2:].prod(-1) - shared
    return shared / np.maximum(union, 1e-9)


def _starts(length: int, side: int) -> list[int]:
    """Where views of ``side`` begin so that they cover 0..length evenly."""
    count = 1 + math.ceil((length - side) / (side * (1 - _OVERLAP)) - 1e-9)
    return [round(start) for start in np.linspace(0, length - side, count)]
