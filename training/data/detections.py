"""Boxes of a person detector, from a JSON file: {"TS1/1": [[x, y, width, height, score], ...], ...}, in px.

The names of pictures are those that the data set's reader says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from metrabs_ros.errors import InputError

Detections = Mapping[str, Sequence[Sequence[float]]]


def load(path: Path) -> Detections:
    """Raises InputError where the file cannot be read or a picture has something else than boxes with scores."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for picture, boxes in content.items():
            if any(np.asarray(box, float).shape != (5,) for box in boxes):
                raise ValueError(f"{picture} has {boxes}")
        return content
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"Cannot read the detections {path} ({error}): expected JSON of lists of [x, y, width, height, score] by "
            "picture."
        ) from error
