"""What an engine's errors are in terms of what it shows of them: `python -m training.calibrate ENGINE`.

Whole held-out synthetic pictures go through the whole runtime, once in one view and once in several. Printed are the
section `calibration` for the engine's spec, and how the uncertainty with it compares with the true errors of people
whom it was not fitted to: it is meant to be within a factor of 2 at every distance.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
import yaml
from numpy.typing import NDArray
from scipy.optimize import nnls

from metrabs_ros import uncertainty
from metrabs_ros.errors import InputError
from metrabs_ros.pipeline import PosePipeline
from metrabs_ros.uncertainty import Calibration
from training.protocols import joints
from training.protocols.synthetic_frames import LEAST_VISIBLE, matched
from training.skeleton import JOINT_NAMES
from training.synthetic import evaluation_set
from training.synthetic.frame import Frame
from training.tables import Column, Sheet, rendered

Floats = NDArray[np.float64]

# Only what the engine shows, as it is.
_BARE = Calibration(heatmap=1.0, views=0.0, distance=0.0)
# Metres; people beyond are of no use to a robot.
_DISTANCES = (0.0, 3.0, 5.0, 8.0, 12.0)
COLUMNS = (
    Column("joints", "", 0),
    Column("one view: uncertainty"),
    Column("true error"),
    Column("ratio", "", 2),
    Column("views: uncertainty"),
    Column("true error"),
    Column("ratio", "", 2),
)


@dataclass(frozen=True, eq=False)
class Observed:
    """M joints that are visible and were found: error [M] m, what was shown of it (deviation of the heatmaps or spread
    of the views) [M] m, NaN where nothing, and distance [M] m from the camera as found. Of their P people, taken_for
    [P] m: how tall whoever looks like that would be where they were found."""

    error: Floats
    shown: Floats
    distance: Floats
    taken_for: Floats


def observed(pipeline: PosePipeline, frames: Iterable[Frame], num_aug: int) -> Observed:
    """The visible joints that engine and truth have in common, of the people whom the pipeline finds in the frames."""
    pipeline.num_aug, pipeline.estimator.calibration = num_aug, _BARE
    shared = joints.common(JOINT_NAMES, pipeline.skeleton.joint_names)
    own = [pipeline.skeleton.joint_names.index(name) for name in shared]
    true = [JOINT_NAMES.index(name) for name in shared]
    parts: list[tuple[Floats, Floats, Floats]] = []
    taken_for: list[float] = []
    for frame in frames:
        found = pipeline.estimate(frame.image, frame.camera)
        joints2d = np.array([pose.joints2d[own] for pose in found]).reshape(-1, len(own), 2)
        index = matched(frame.joints2d[:, true], frame.visible[:, true], frame.boxes, joints2d)
        counts = frame.visible.mean(1) >= LEAST_VISIBLE
        for person in np.flatnonzero((index >= 0) & counts):
            pose, seen = found[index[person]], frame.visible[person, true]
            place = pose.joints3d[own][seen]
            error = np.linalg.norm(place - frame.joints3d[person, true][seen], axis=-1)
            distance = np.linalg.norm(place, axis=-1)
            parts.append((error, pose.uncertainty[own][seen], distance))
            truly = np.linalg.norm(frame.joints3d[person, true][seen], axis=-1)
            taken_for.append(frame.heights[person] * distance.mean() / truly.mean())
    if not parts:
        raise InputError("The engine found nobody in the synthetic pictures: give more --frames, or another engine.")
    error, shown, distance = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Observed(error, shown * np.sqrt(num_aug), distance, np.array(taken_for))


def fitted(one: Observed, several: Observed, num_aug: int) -> Calibration:
    """The calibration whose squared uncertainties are nearest to the squared errors, as parts of the squared distance.

    height is the median of what people were taken for. heatmap keeps 1 where the engine shows no spread of its
    heatmaps. What is fitted is linear in the squares:
    e^2 = heatmap^2 h^2 + distance^2 Z^2 of one view and e^2 - s^2/A = views^2 s^2 + distance^2 Z^2 of A views.
    """
    has_heatmaps = bool(np.isfinite(one.shown).all())
    rows, errors = [], []
    if has_heatmaps:
        rows.append(np.stack([(one.shown / one.distance) ** 2, 0 * one.distance, 0 * one.distance + 1], -1))
        errors.append((one.error / one.distance) ** 2)
    shown = (several.shown / several.distance) ** 2
    rows.append(np.stack([0 * shown, shown, 0 * shown + 1], -1))
    errors.append((several.error / several.distance) ** 2 - shown / num_aug)
    squares, _ = nnls(np.concatenate(rows), np.concatenate(errors))
    heatmap, views, distance = np.round(np.sqrt(squares), 3).tolist()
    height = round(float(np.median(one.taken_for)), 2)
    return Calibration(heatmap if has_heatmaps else 1.0, views, distance, height)


def compared(one: Observed, several: Observed, num_aug: int, calibration: Calibration) -> Sheet:
    """Root mean squares of uncertainty and error by distance."""
    predicted = (
        uncertainty.of_heatmaps(one.shown, one.distance, calibration),
        uncertainty.of_views(several.shown, num_aug, several.distance, calibration),
    )
    rows = {}
    for near, far in itertools.pairwise(_DISTANCES):
        row: list[float] = [float(((several.distance >= near) & (several.distance < far)).sum())]
        for seen, said in zip((one, several), predicted, strict=True):
            here = (seen.distance >= near) & (seen.distance < far)
            expected, true = (_root_mean_square(values[here]) for values in (said, seen.error))
            row += [expected, true, expected / true]
        rows[f"{near:g}-{far:g} m"] = row
    return Sheet(f"Uncertainty against error, {num_aug} views", COLUMNS, rows, {}, ())


def _root_mean_square(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    engine: Annotated[str, typer.Argument(help="Engine by name or spec.")],
    frames: Annotated[int, typer.Option(help="Pictures of 1 to 6 people.")] = 200,
    num_aug: Annotated[int, typer.Option(help="Views of test-time augmentation.")] = 5,
) -> None:
    try:
        pipeline = PosePipeline.from_engine(engine)
        pictures = list(evaluation_set.frames(frames))
        # What is fitted on one half is compared on the other.
        fit, held_out = (
            (observed(pipeline, half, 1), observed(pipeline, half, num_aug))
            for half in (pictures[: frames // 2], pictures[frames // 2 :])
        )
        calibration = fitted(*fit, num_aug)
        print(yaml.safe_dump({"calibration": vars(calibration)}, default_flow_style=None, sort_keys=False))
        print(rendered((compared(*held_out, num_aug, calibration),)))
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    app()
