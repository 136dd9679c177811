"""Person boxes: views of the image, an engine over each, decoding, and non-maximum suppression.

A still image gets all views; of a video each frame gets a few in turn, and tracks carry people over the frames in
between. What is seen too faintly to be anybody tells where a closer look pays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.detection_spec import AnchorSpec, DetectorSpec
from metrabs_ros.detector_views import View, is_in, view_close_to, view_pixels, views_around, views_of
from metrabs_ros.engine import AUTO, Network, open_network, release_memory
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import ModelSpec
from metrabs_ros.network_input import run_network
from metrabs_ros.pose import Detections

Floats = NDArray[np.floating]
# Up to this ratio two boxes are of about one size.
_SAME_SIZE = 1.2
# So many closer looks at a still image; each shows what it is about at least so many times as large as before, and its
# pixels at most so many times as large as they are.
_MOST_CLOSER_LOOKS = 6
_CLOSER = 1.25
_MOST_ENLARGED = 1.5
# What overlaps by more (intersection over union) may be the same person: no closer look is needed.
_SAME_PLACE_IOU = 0.3


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

    def detect(
        self,
        image: NDArray[np.uint8],
        max_views: int | None = None,
        near: Floats | None = None,
        known: Floats | None = None,
    ) -> Detections:
        """People in image [H,W,3] uint8 RGB, by all views or by the next ``max_views`` in turn.

        ``near`` [4] xywh px: a view around this box, each of them in turn, takes the place of one whose turn it is.
        What is seen faintly and is not where somebody ``known`` [M,4] is gets a closer look, too: one of a video's
        image, up to six of a still one.
        """
        size = image.shape[1], image.shape[0]
        views, most_closer = views_of(*size), _MOST_CLOSER_LOOKS
        if max_views is not None and max_views < len(views):
            views, most_closer = self._next_views(size, max_views, near), 1
        decoding = self._decoding
        found, of_view = self._seen_in(image, views)
        closer = closer_views(found, np.reshape(views, (-1, 3))[of_view, 2], size, self.spec, known)[:most_closer]
        there, of_closer = self._seen_in(image, closer)
        # A closer look is about who was not seen surely: of the others, it cuts somebody off.
        sure = found.boxes[found.scores >= decoding.score_threshold]
        is_news = (box_iou(there.boxes, sure) <= _SAME_PLACE_IOU).all(1)
        there, of_closer = there.taken(is_news), of_closer[is_news]
        found, of_view = found.joined(there), np.concatenate([of_view, len(views) + of_closer])
        is_somebody = found.scores >= decoding.least_score
        return suppressed(
            found.taken(is_somebody), of_view[is_somebody], decoding.nms_iou, decoding.nms_iou_across_views
        )

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

    def _next_views(self, size: tuple[int, int], count: int, near: Floats | None) -> tuple[View, ...]:
        """``count`` views whose turn it is, one of them around ``near`` instead where that is given."""
        around: tuple[View, ...] = ()
        if near is not None:
            choices = views_around(near, *size)
            around = (choices[self._turn_around % len(choices)],)
            self._turn_around += 1
        pyramid, first = views_of(*size), self._turn
        self._turn += count - len(around)
        return (*around, *(pyramid[turn % len(pyramid)] for turn in range(first, self._turn)))

    def _seen_in(self, image: NDArray[np.uint8], views: Sequence[View]) -> tuple[Detections, NDArray[np.intp]]:
        """All that views show, faint or not, and the number [N] of each one's view."""
        found, of_view = Detections.from_boxes(np.zeros((0, 4))), []
        for number, view in enumerate(views):
            pixels = view_pixels(image, view, self.spec.input.size)
            outputs = run_network(self._network.run, self.spec, pixels[None])
            raw = outputs[self._decoding.boxes].reshape(len(self._anchors), -1)
            logits = outputs[self._decoding.scores].reshape(len(self._anchors))
            seen = decoded(raw, logits, self._anchors, self._decoding, self.spec.input.size, view)
            found = found.joined(seen)
            of_view += [number] * len(seen)
        return found, np.array(of_view, np.intp)


def open_detector(spec: ModelSpec, backend: str = AUTO) -> Detector:
    """The detector of a spec. Raises InputError where spec, weights and backend do not fit together."""
    if spec.detection is None:
        raise InputError(f"{spec.name} is an engine of kind {spec.kind}, expected kind detector.")
    return Detector(spec, open_network(spec, backend, [spec.detection.boxes, spec.detection.scores]))


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
    """Raw outputs [A,4+2K] and [A] of one view -> all that is seen at least faintly, in pixels of the image.

    A person's box is the square around the circle from the centre key point through the radius key point.
    """
    kept = np.flatnonzero(logits > math.log(spec.faintest_score / (1 - spec.faintest_score)))
    x, y, side = view
    keypoints = raw[kept, 4:].reshape(-1, spec.keypoints, 2) / size + anchors[kept, None]
    keypoints = keypoints * side + np.array([x - 0.5, y - 0.5])
    center, rim = keypoints[:, spec.center_keypoint], keypoints[:, spec.radius_keypoint]
    radius = np.linalg.norm(rim - center, axis=-1, keepdims=True)
    usable = radius[:, 0] > 1e-3 * side
    boxes = np.concatenate([center - radius, 2 * radius, 2 * radius], -1)[usable]
    scores = 1 / (1 + np.exp(-np.clip(logits[kept], -50, 50)))[usable]
    return Detections(boxes, scores.astype(np.float64), ((rim - center) / np.maximum(radius, 1e-9))[usable])


def closer_views(
    found: Detections, view_sides: Floats, size: tuple[int, int], spec: ModelSpec, known: Floats | None = None
) -> list[View]:
    """Closer looks at what is not seen surely, the least faint first, in an image of ``size`` (width, height) px.

    view_sides [N] px, of the view that each of ``found`` was seen in: those that a closer look would not show larger,
    or only by blowing up few pixels, need none, nor do those that are where somebody ``known`` [M,4] is or something
    is seen better.
    """
    decoding = spec.detection
    if decoding is None or decoding.faint_threshold is None:
        return []
    least_side = spec.input.size / _MOST_ENLARGED
    order = np.argsort(-found.scores, kind="stable")
    boxes, scores, sides = found.boxes[order], found.scores[order], view_sides[order]
    is_elsewhere = np.ones(len(order), bool) if known is None else (box_iou(boxes, known) <= _SAME_PLACE_IOU).all(1)
    views = []
    for i in _best_apart(box_iou(boxes, boxes) > _SAME_PLACE_IOU):
        view = view_close_to(boxes[i])
        pays = is_in(view, *size) and least_side <= view[2] < sides[i] / _CLOSER
        if pays and scores[i] < decoding.score_threshold and is_elsewhere[i]:
            views.append(view)
    return views


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
    return detections.taken(order[_best_apart(box_iou(boxes, boxes) > limits)])


def _best_apart(overlaps: NDArray[np.bool_]) -> list[int]:
    """Of N, best first, those that overlap [N,N] no better one of these."""
    kept: list[int] = []
    for i in range(len(overlaps)):
        if not overlaps[i, kept].any():
            kept.append(i)
    return kept


def box_iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union of boxes [N,4] and [M,4] xywh -> [N,M]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    union = a[:, None, 2:].prod(-1) + b[None, :, 2:].prod(-1) - shared
    return shared / np.maximum(union, 1e-9)
