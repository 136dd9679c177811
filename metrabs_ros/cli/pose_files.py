"""The files of metrabs-pose: poses.jsonl out, boxes.jsonl in, a line of JSON per frame."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.errors import InputError
from metrabs_ros.frames import Frame
from metrabs_ros.pose import TrackedPose
from metrabs_ros.skeleton import Skeleton

Floats = NDArray[np.floating]

# Micrometres and thousandths of a pixel: far below what any engine resolves.
_DECIMALS_M, _DECIMALS_PX = 6, 3


class PosesWriter:
    """Writes poses.jsonl line by line to ``<path>.part``, which becomes ``path`` when the block ends well.

    Where it does not, the .part file stays with the frames that are complete.
    """

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self._joint_names = list(skeleton.joint_names)
        try:
            self._file = self.part.open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise self._refused(error) from error

    def write(self, frame: Frame, poses: Sequence[TrackedPose]) -> None:
        """Append a frame's line."""
        line = {
            "frame": frame.index,
            "stamp": round(frame.stamp_s, 6),
            "joint_names": self._joint_names,
            "persons": [_person(pose) for pose in poses],
        }
        try:
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
        except OSError as error:
            raise self._refused(error) from error

    def __enter__(self) -> PosesWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
            if kind is None:
                self.part.replace(self.path)
        except OSError as refused:
            if kind is None:
                raise self._refused(refused) from refused

    def _refused(self, error: OSError) -> InputError:
        return InputError(
            f"Cannot write {self.path}: {error.strerror or error}; make room or choose another place (--output)."
        )


def read_boxes(path: Path, frame_count: int | None) -> dict[int, Floats]:
    """Frame index -> boxes [N,4] xywh px, from lines {"frame": i, "boxes": [[x, y, w, h], ...]}.

    Raises InputError, with the number of the line, for anything else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InputError(f"Cannot read the boxes {path}: {reason}; give a boxes.jsonl.") from error
    boxes: dict[int, Floats] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                frame, frame_boxes = _frame_boxes(line)
                if frame in boxes:
                    raise ValueError(f"frame {frame} has a line already")
                if frame_count is not None and frame >= frame_count:
                    raise ValueError(f"frame {frame} is beyond the input's {frame_count} frames, which count from 0")
            except ValueError as error:
                raise InputError(
                    f"{path}, line {number}: {error}; expected "
                    '{"frame": 0, "boxes": [[x, y, width, height], ...]} in pixels.'
                ) from None
            boxes[frame] = frame_boxes
    return boxes


def _frame_boxes(line: str) -> tuple[int, Floats]:
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"no valid JSON ({error.msg})") from None
    if not isinstance(data, dict) or set(data) != {"frame", "boxes"}:
        got = f"the keys {', '.join(map(str, data)) or 'none'}" if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"got {got}")
    frame, rows = data["frame"], data["boxes"]
    if not isinstance(frame, int) or isinstance(frame, bool) or frame < 0:
        raise ValueError(f"frame must be a whole number from 0 on, got {frame!r}")
    if not isinstance(rows, list):
        raise ValueError(f"boxes must be a list, got {rows!r}")
    for row in rows:
        if not (isinstance(row, list) and len(row) == 4 and all(_is_number(value) for value in row)):
            raise ValueError(f"a box must be four finite numbers, got {row!r}")
        if row[2] <= 0 or row[3] <= 0:
            raise ValueError(f"a box must have a positive width and height, got {row!r}")
    return frame, np.array(rows, np.float64).reshape(-1, 4)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _person(pose: TrackedPose) -> dict[str, Any]:
    return {
        "id": pose.track_id,
        "box": _plain(pose.box, _DECIMALS_PX),
        "score": round(float(pose.score), 4),
        "joints3d": _plain(pose.joints3d, _DECIMALS_M),
        "joints2d": _plain(pose.joints2d, _DECIMALS_PX),
        "uncertainty": _plain(pose.uncertainty, _DECIMALS_M),
    }


def _plain(values: Floats, decimals: int) -> Any:
    """Nested lists, with None where there is no finite number: strict JSON has no NaN."""
    rounded = np.round(np.asarray(values, np.float64), decimals).astype(object)
    rounded[~np.isfinite(values)] = None
    return rounded.tolist()
