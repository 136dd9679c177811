"""The bar: engines side by side on the held-out synthetic people, the same crops for all, in joints that all have."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metrabs_ros import crop
from training import metrics, skeleton, synthetic
from training.examples import Example
from training.protocols import joints
from training.protocols.poses import Floats
from training.skeleton import JOINT_NAMES
from training.synthetic import body_data, evaluation_set, stream
from training.tables import Column, Sheet

COLUMNS = (
    Column("people", "", 0),
    Column("MPJPE ↓"),
    Column("P-MPJPE ↓"),
    Column("A-MPJPE ↓"),
    Column("A-PCK@150 ↑", "%"),
    Column("PCK@150 ↑", "%"),
    Column("depth error ↓"),
    Column("depth bias %", "%"),
)
_TITLE = "Synthetic people, held out"
_BLACK_PX = 2
# Bones that add up to the standing height within 1 %, whatever the pose.
_STATURE = (("head_top", "neck"), ("neck", "spine"), ("spine", "pelvis"), ("left_hip", "left_knee"),
            ("left_knee", "left_ankle"), ("left_ankle", "left_heel"))  # fmt: skip
_STATURES = ((0, 1.1), (1.1, 1.3), (1.3, 1.5), (1.5, 1.7), (1.7, 9))


def examples(count: int, seed: int, room: bool = False, side: int = 256) -> list[Example]:
    """The first ``count`` crops of the evaluation set (seed 0) or of a sibling, kept in the cache between calls;
    ``room``: of adults in a room (training.synthetic.room)."""
    config = stream.StreamConfig(side=side, held_out=True, room=float(room))
    kind = "room_" if room else ""
    place = body_data.cache_folder() / "evaluation" / f"{_fingerprint()}_{kind}{seed}_{side}_{count}.npz"
    names = ("image", "K", "joints3d", "joints2d", "visible")
    if place.is_file():
        with np.load(place, allow_pickle=False) as data:
            arrays = {name: data[name] for name in names}
        return [
            Example(**{name: arrays[name][i] for name in names}, labels3d=True, source=stream.SOURCE)
            for i in range(count)
        ]
    found: list[Example] = []
    while len(found) < count:
        found += stream.block(config, evaluation_set.SEED + seed, len(found) // config.block)
    found = found[:count]
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_suffix(".part.npz")
    np.savez(draft, **{name: np.stack([getattr(example, name) for example in found]) for name in names})
    draft.replace(place)
    return found


def evaluate(found: Mapping[str, tuple[Sequence[str], Floats]], people: Sequence[Example]) -> list[Sheet]:
    """found: engine -> its joint names and absolute poses [N,J,3] m of the crops. First all people, then by kind."""
    shared = joints.common(JOINT_NAMES, *(names for names, _ in found.values()))
    root = joints.root_of(shared)
    every = np.stack([example.joints3d for example in people]).astype(np.float64)
    truth = joints.picked(every, JOINT_NAMES, shared, "The synthetic set")
    poses = {name: joints.picked(pose, names, shared, name) for name, (names, pose) in found.items()}
    judged = {name: _judged(pose, truth, root) for name, pose in poses.items()}
    note = (f"{len(shared)} joints in common: {', '.join(shared)}. Root: "
            f"{'pelvis' if 'pelvis' in shared else 'middle of the hips'}.")  # fmt: skip
    rows = {name: row(np.ones(len(people), bool)) for name, row in judged.items()}
    sheets = [Sheet(f"{_TITLE}: all", COLUMNS, rows, {}, (note,))]
    for kind, groups in groups_of(people, every).items():
        rows = {f"{label}: {name}": row(members) for label, members in groups.items() if members.any()
                for name, row in judged.items()}  # fmt: skip
        sheets.append(Sheet(f"{_TITLE}: by {kind}", COLUMNS, rows))
    return sheets


def groups_of(people: Sequence[Example], joints3d: Floats) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Kind -> label -> members [N]."""
    size, roll = stature(joints3d), lean(np.stack([example.joints2d for example in people]))
    outside, hidden = np.array([_unseen(example) for example in people], int).T
    return {
        "size (height along the body)": _binned(size, _STATURES, "{:.1f}–{:.1f} m"),
        "roll on the crop": _binned(roll, ((0, 15), (15, 45), (45, 90), (90, 181)), "{:.0f}–{:.0f}°"),
        "truncated joints of 27": _binned(outside, ((0, 1), (1, 4), (4, 9), (9, 28)), "{:.0f}–{:.0f}"),
        "hidden joints of 27": _binned(hidden, ((0, 4), (4, 9), (9, 14), (14, 28)), "{:.0f}–{:.0f}"),
    }


def stature(joints3d: Floats) -> Floats:
    """[N,27,3] m -> [N] m: the length of the bones from heel to head."""
    row = {name: i for i, name in enumerate(JOINT_NAMES)}
    return sum(np.linalg.norm(joints3d[:, row[a]] - joints3d[:, row[b]], axis=-1) for a, b in _STATURE)


def lean(joints2d: Floats) -> Floats:
    """[N,27,2] px -> [N] degrees 0..180 between the body's axis, pelvis to neck, and up on the crop."""
    axis = joints2d[:, JOINT_NAMES.index("neck")] - joints2d[:, JOINT_NAMES.index("pelvis")]
    return np.degrees(np.abs(np.arctan2(axis[:, 0], -axis[:, 1])))


def _unseen(example: Example) -> tuple[int, int]:
    """How many joints lie outside the crop or the picture (black there), and how many others are hidden."""
    side = example.image.shape[0]
    at = np.nan_to_num(example.joints2d, nan=-1e4)
    outside = ((at < 0) | (at > side - 1)).any(1)
    for j in np.flatnonzero(~outside & ~example.visible):
        u, v = np.rint(at[j]).astype(int)
        low_u, low_v = max(0, u - _BLACK_PX), max(0, v - _BLACK_PX)
        outside[j] = not example.image[low_v : v + _BLACK_PX + 1, low_u : u + _BLACK_PX + 1].any()
    return int(outside.sum()), int((~outside & ~example.visible).sum())


def _judged(poses: Floats, truth: Floats, root: Floats) -> Callable[[NDArray[np.bool_]], list[float]]:
    """A row of figures for those members [N] of a group."""
    relative = metrics.distances(metrics.root_relative(poses, root), metrics.root_relative(truth, root))
    aligned = metrics.procrustes_distances(poses, truth)
    absolute = metrics.distances(poses, truth)
    roots, true_roots = metrics.root_points(poses, root), metrics.root_points(truth, root)

    def row(members: NDArray[np.bool_]) -> list[float]:
        return [float(members.sum()), metrics.mean_error(relative[members]), metrics.mean_error(aligned[members]),
                metrics.mean_error(absolute[members]), metrics.pck(absolute[members]), metrics.pck(relative[members]),
                metrics.depth_error(roots[members], true_roots[members]),
                metrics.relative_depth_bias(roots[members], true_roots[members])]  # fmt: skip

    return row


def _binned(values: Floats, bins: Sequence[tuple[float, float]], form: str) -> dict[str, NDArray[np.bool_]]:
    whole = values.dtype.kind in "iu"
    return {_label(form, low, high - whole): (values >= low) & (values < high) for low, high in bins}


def _label(form: str, low: float, high: float) -> str:
    return form.format(low, high) if low != high else f"{low:.0f}"


def _fingerprint() -> str:
    """Of the code that draws the people, names their joints and crops them, and of the list of pictures: other code,
    other crops."""
    digest = hashlib.sha256()
    folder = Path(synthetic.__file__).parent
    pictures = sorted(body_data.cache_folder().glob("**/index.json"))
    modules = [Path(inspect.getfile(module)) for module in (skeleton, crop)]
    for path in [*sorted(folder.glob("*.py")), *modules, *pictures]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
