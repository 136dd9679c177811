"""Detectors alone on whole synthetic pictures that training never sees: who is found, by size, and who is imagined.

`python -m training.detector.evaluate blazepose_detector person_detector --frames 40`, by name or spec file.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metrabs_ros.detector import Detector, box_iou, open_detector
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import find_spec, load_spec
from training.detector.scenes import Picture, blocks, of_frame, read_block
from training.detector.targets import people_of
from training.protocols.synthetic_frames import LEAST_VISIBLE
from training.synthetic import evaluation_set
from training.tables import Column, Sheet, rendered

# Found is whose square a detection overlaps by this much; a detection that overlaps nobody's by half of it is false.
_SAME_IOU = 0.4
# By the diameter of the person's circle, as a part of the picture's longer side.
SIZES = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.4), (0.4, 9.0))
COLUMNS = (
    Column("people", "", 0),
    Column("found ↑", "%"),
    *(Column(f"{100 * a:.0f}–{100 * b:.0f} % wide ↑" if b < 1 else f"over {100 * a:.0f} % ↑", "%") for a, b in SIZES),
    Column("false alarms a picture ↓", "", 2),
    Column("ms a picture ↓", "", 1),
)


@dataclass(frozen=True)
class Seen:
    """Of one picture: sizes [N] and found [N] of the people who count; detections of nobody."""

    sizes: np.ndarray
    found: np.ndarray
    false_alarms: int


def seen(detector: Detector, picture: Picture) -> Seen:
    """What all views of the picture together show to the detector."""
    people = people_of(picture)
    radius = people.radius[:, None]
    squares = np.concatenate([people.hips - 0.5 - radius, 2 * radius, 2 * radius], 1)
    found_there = detector.detect(np.ascontiguousarray(picture.image))
    sure = found_there.taken(found_there.scores >= detector.sure_score)
    overlaps = box_iou(sure.boxes, squares)
    counts = people.visible >= LEAST_VISIBLE
    found = (overlaps > _SAME_IOU).any(0)
    false_alarms = int((overlaps.max(1, initial=0.0) < _SAME_IOU / 2).sum())
    return Seen(2 * people.radius[counts] / max(picture.image.shape[:2]), found[counts], false_alarms)


def evaluate(detectors: dict[str, Detector], pictures: Iterable[Picture]) -> Sheet:
    """One row a detector."""
    results: dict[str, list[Seen]] = {name: [] for name in detectors}
    took = dict.fromkeys(detectors, 0.0)
    for picture in pictures:
        for name, detector in detectors.items():
            start = time.perf_counter()
            results[name].append(seen(detector, picture))
            took[name] += time.perf_counter() - start
    rows = {name: _row(parts, 1e3 * took[name] / max(1, len(parts))) for name, parts in results.items()}
    note = f"People who show at least {LEAST_VISIBLE:.0%} of their joints; sizes are of the circle around the body."
    return Sheet("Synthetic pictures: the detector alone", COLUMNS, rows, {}, (note,))


def _row(parts: list[Seen], took_ms: float) -> list[float]:
    sizes, found = (np.concatenate([getattr(part, name) for part in parts]) for name in ("sizes", "found"))
    shares = []
    for least, most in SIZES:
        those = found[(sizes >= least) & (sizes < most)]
        shares.append(float(those.mean()) if len(those) else float("nan"))
    alarms = float(np.mean([part.false_alarms for part in parts]))
    return [float(len(found)), float(found.mean()) if len(found) else float("nan"), *shares, alarms, took_ms]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("detectors", nargs="+", help="names or spec files")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--seed", type=int, default=evaluation_set.SEED)
    parser.add_argument("--pictures", type=Path, help="instead: a folder that training.detector.scenes wrote")
    options = parser.parse_args()
    try:
        opened = {name: open_detector(load_spec(find_spec(name))) for name in options.detectors}
        if options.pictures:
            pictures = (stored.picture() for path in blocks(options.pictures) for stored in read_block(path))
        else:
            pictures = (of_frame(frame) for frame in evaluation_set.frames(options.frames, seed=options.seed))
        print(rendered([evaluate(opened, pictures)]))
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
