"""How a detector's outputs become boxes: the part of a spec that only detectors have."""

from __future__ import annotations

from dataclasses import dataclass

from metrabs_ros.errors import InputError


@dataclass(frozen=True)
class AnchorSpec:
    """A single-shot detector's grid of anchors: strides px and anchors a cell, in the order of the output's rows."""

    strides: tuple[int, ...]
    per_cell: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.strides or len(self.strides) != len(self.per_cell) or min(self.strides + self.per_cell) < 1:
            raise InputError(
                "detection: anchors: strides and per_cell must be positive and as many as each other, got "
                f"{list(self.strides)} and {list(self.per_cell)}."
            )


@dataclass(frozen=True)
class DetectorSpec:
    """Decoding of a BlazePose-style detector: per anchor a box and key points relative to the anchor's centre, px.

    center_keypoint and radius_keypoint span the circle around the whole body, and point from the hips to the head.
    Anchors of ``score_threshold`` and more are detections; those of ``doubtful_threshold`` and more are doubtful ones
    (None: there are none); at what is of ``faint_threshold`` and more, a closer look is taken (None: at nothing).
    nms_iou: overlap of their boxes above which two detections are the same person; nms_iou_across_views: where they
    come from two views and differ in size, too, as those of views that cut somebody off do.
    """

    boxes: str
    scores: str
    anchors: AnchorSpec
    keypoints: int
    center_keypoint: int
    radius_keypoint: int
    score_threshold: float = 0.5
    doubtful_threshold: float | None = None
    faint_threshold: float | None = None
    nms_iou: float = 0.3
    nms_iou_across_views: float = 0.3

    def __post_init__(self) -> None:
        for key, index in (("center_keypoint", self.center_keypoint), ("radius_keypoint", self.radius_keypoint)):
            if not 0 <= index < self.keypoints:
                raise InputError(f"detection: {key} must lie in 0..{self.keypoints - 1}, got {index}.")
        if not 0 < self.score_threshold < 1:
            raise InputError(f"detection: score_threshold must lie between 0 and 1, got {self.score_threshold}.")
        if not 0 < self.least_score <= self.score_threshold:
            raise InputError(
                f"detection: doubtful_threshold must lie between 0 and score_threshold, {self.score_threshold}, got "
                f"{self.doubtful_threshold}."
            )
        if not 0 < self.faintest_score <= self.least_score:
            raise InputError(
                f"detection: faint_threshold must lie between 0 and the other thresholds, {self.least_score}, got "
                f"{self.faint_threshold}."
            )

    @property
    def least_score(self) -> float:
        """Of a detection, be it a doubtful one."""
        return self.score_threshold if self.doubtful_threshold is None else self.doubtful_threshold

    @property
    def faintest_score(self) -> float:
        """Of what is looked at at all."""
        return self.least_score if self.faint_threshold is None else self.faint_threshold
