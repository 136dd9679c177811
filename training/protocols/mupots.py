"""MuPoTS-3D: all and matched annotations, relative and absolute, universal and unnormalised (P tables 8, 9, 11).

Predictions are matched to annotations by their 2D joints as the official script does it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrabs_ros.errors import InputError
from training import metrics
from training.protocols import joints
from training.protocols.poses import Floats, Poses, taken
from training.tables import Column, Sheet

JOINTS = joints.SEVENTEEN
# Beside the 14 joints of the published tables: all, without and with the root, which is never off relative to itself.
VARIANTS = {
    "": joints.FOURTEEN,
    ", 16 joints": tuple(name for name in JOINTS if name != "pelvis"),
    ", 17 joints": JOINTS,
}
# The official script matches by all of the 14 joints but the top of the head.
MATCHED_BY = joints.FOURTEEN[1:]
MATCH_PX = 40.0
COLUMNS = (Column("A-MPJPE ↓"), Column("MPJPE ↓"), Column("A-PCK ↑", "%"), Column("PCK ↑", "%"), Column("A-AUC ↑", "%"),
           Column("AUC ↑", "%"), Column("Det.Rate ↑", "%"))  # fmt: skip
_ROOT_COLUMNS = (Column("MRPE ↓"), Column("x ↓"), Column("y ↓"), Column("z ↓"), Column("PCK_root ↑", "%"),
                 Column("PCOD ↑", "%"))  # fmt: skip
_PAPER = {
    ("unnormalised", "matched"): {
        "2.5D baseline": ["317.6", "114.0", "40.0±1.0", "79.3±0.3", "–", "–", "94.2±0.0"],
        "MeTRAbs": ["248.2", "108.2", "40.2±1.9", "81.1±0.4", "–", "–", "94.1±0.1"],
        "w/o abs. loss": ["328.8", "108.4", "36.7±3.2", "80.9±0.4", "–", "–", "94.1±0.1"],
    },
    ("unnormalised", "all"): {"MeTRAbs": ["–", "–", "38.1±1.8", "77.2±0.4", "–", "–", "–"]},
    ("universal", "all"): {"MeTRAbs": ["–", "–", "38.4", "–", "–", "–", "–"]},
}


def evaluate(predictions: Poses, truth: Poses, name: str, wanted: tuple[str, ...] = JOINTS) -> list[Sheet]:
    """truth: with group sequence; figures are means over sequences, as the official script's, but the detection rate is
    over all people. Both need joints2d."""
    truth = truth.with_joints(wanted, "The ground truth")
    predictions = predictions.with_joints(wanted, name)
    index = matches(truth, predictions)
    found = taken(predictions, index, truth)
    sequences = truth.group("sequence")
    sheets = []
    for skeleton in ("universal", "unnormalised"):
        true3d = truth.joints3d if skeleton == "unnormalised" else truth.universal
        if true3d is None:
            continue
        absolute, relative = _distances(found.joints3d, true3d, wanted, rescaled=skeleton == "universal")
        for kept in ("all", "matched"):
            rows = np.ones(len(truth), bool) if kept == "all" else index >= 0
            means: dict[str, list[float]] = {}
            by_sequence: dict[str, list[float]] = {}
            for variant, names in _variants(wanted).items():
                judged = [joint in names for joint in wanted]
                each = {
                    f"{name}, {s}": _figures(absolute[:, judged], relative[:, judged], index, rows, sequences == s)
                    for s in sorted(set(sequences), key=_number)
                }
                *mean, _ = np.ma.masked_invalid(list(each.values())).mean(axis=0).filled(np.nan).tolist()
                means[name + variant] = [*mean, metrics.detection_rate(index)]
                by_sequence = by_sequence or each
            title = f"MuPoTS-3D, {skeleton}, {kept} annotations"
            published = _PAPER.get((skeleton, kept), {})
            sheets.append(Sheet(title, COLUMNS, means | by_sequence, published, _notes(wanted)))
    return [*sheets, _roots(found, truth, name, wanted)]


def matches(truth: Poses, predictions: Poses) -> NDArray[np.intp]:
    """[N] row of the prediction of each true pose, -1 where there is none.

    Annotations choose in their order, each the free prediction of its image with the most joints that lie nearer than
    40 px both along x and along y. Raises InputError where poses have no 2D joints.
    """
    for whose, these in (("The ground truth", truth), ("The predictions", predictions)):
        if len(these) and not np.isfinite(these.joints2d).any():
            raise InputError(f"{whose} have no joints2d: matching of people is done in the image and needs them.")
    by = [name for name in MATCHED_BY if name in truth.joint_names] or list(truth.joint_names)
    true2d = joints.picked(truth.joints2d, truth.joint_names, by, "The ground truth")
    found2d = joints.picked(predictions.joints2d, predictions.joint_names, by, "The predictions")
    in_image: dict[str, list[int]] = {}
    for i, image in enumerate(predictions.images):
        in_image.setdefault(image, []).append(i)
    index = np.full(len(truth), -1, np.intp)
    for row, image in enumerate(truth.images):
        free = in_image.get(image, [])
        if free:
            near = (np.abs(found2d[free] - true2d[row]) < MATCH_PX).all(-1).sum(-1)
            if near.max() > 0:
                index[row] = free.pop(int(near.argmax()))
    return index


def _distances(found: Floats, truth: Floats, names: tuple[str, ...], rescaled: bool) -> tuple[Floats, Floats]:
    """[N,J] absolute and root-relative ones."""
    root = joints.root_of(names)
    if rescaled:
        found = joints.with_bone_lengths_of(found, truth, names)
    relative = metrics.distances(metrics.root_relative(found, root), metrics.root_relative(truth, root))
    return metrics.distances(found, truth), relative


def _figures(
    absolute: Floats, relative: Floats, index: NDArray[np.intp], rows: NDArray[np.bool_], own: NDArray[np.bool_]
) -> list[float]:
    a, r = absolute[rows & own], relative[rows & own]
    errors = [measure(part) for measure in (metrics.mean_error, metrics.pck, metrics.auc) for part in (a, r)]
    return [*errors, metrics.detection_rate(index[own])]


def _roots(found: Poses, truth: Poses, name: str, wanted: tuple[str, ...]) -> Sheet:
    root = joints.root_of(wanted)
    places, true = metrics.root_points(found.joints3d, root), metrics.root_points(truth.joints3d, root)
    figures = [*metrics.mrpe(places, true), metrics.pck_root(places, true),
               metrics.pcod(places[:, 2], true[:, 2], truth.images)]  # fmt: skip
    note = "MRPE is over matched people; people not found are wrong in PCK_root (150 mm) and PCOD."
    return Sheet("MuPoTS-3D, roots", _ROOT_COLUMNS, {name: figures}, {}, (note,))


def _variants(wanted: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Those whose joints are there; of fewer than 14, what there is."""
    return {variant: names for variant, names in VARIANTS.items() if not variant or set(names) <= set(wanted)}


def _notes(wanted: tuple[str, ...]) -> tuple[str, ...]:
    count = sum(name in joints.FOURTEEN for name in wanted)
    return (
        f"{count} joints where no number is named; means over sequences, detection rate over all people.",
        "MPJPE is over those found.",
    )


def _number(sequence: str) -> tuple[int, str]:
    digits = "".join(filter(str.isdigit, sequence))
    return int(digits or 0), sequence
