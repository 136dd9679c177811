"""`python -m training.evaluate PROTOCOL --root`: each data set's own layout in, the protocol's table out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets_for_tests as trees
import numpy as np
import pytest
import torch
from training_fakes import CONFIG
from typer.testing import CliRunner

from metrabs_ros.errors import InputError
from training import evaluate
from training.data import threedpw
from training.protocols import recording
from training.protocols.poses import Poses, from_records, load, save
from training.trainer import Trainer

run = CliRunner()
K = np.array([[310.0, 0, 158], [0, 312, 121], [0, 0, 1]])
OFFSET_M = 0.034


def three_splits(root: Path) -> Path:
    return trees.threedpw(root, threedpw.JOINTS)


# Protocol -> what writes its tree, what of the data set that holds, and the name of a recording in it.
SETS: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str]] = {
    "h36m": (trees.human36m, {"subjects": (9,)}, "Greeting/54138969"),
    "h36m2": (lambda root: trees.human36m(root, (11,)), {"subjects": (11,)}, "S11/Greeting/54138969"),
    "3dhp": (trees.mpi_inf_3dhp_test, {"subjects": (5,)}, "TS5"),
    "mupots": (lambda root: trees.mupots(root, K), {"sequences": (1,)}, "TS1"),
    "3dpw_unknown": (three_splits, {"splits": ("test",)}, "downtown_walking_test"),
    "3dpw": (three_splits, {"splits": ("test",)}, "downtown_walking_test"),
    "truncation": (lambda root: trees.human36m(root, (9,), frames=2), {"subjects": (9,)}, ""),
}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[Path, Poses]]:
    """Writes a protocol's tree and gives its folder and the labels in it."""

    def written(protocol: str) -> tuple[Path, Poses]:
        write, part, _ = SETS[protocol]
        known = evaluate.PROTOCOLS[protocol]
        own = replace(known, selection=known.selection | part)
        monkeypatch.setitem(evaluate.PROTOCOLS, protocol, own)
        root = write(tmp_path / "tree")
        return root, from_records(own.records(root))

    return written


def with_wrist_off(labels: Poses) -> Poses:
    joints3d = labels.joints3d.copy()
    joints3d[:, labels.joint_names.index("left_wrist"), 0] += OFFSET_M
    return replace(labels, joints3d=joints3d)


def as_metrabs_pose_writes(labels: Poses, first_frame: int) -> str:
    """Lines of a poses.jsonl whose track ids say nothing of who is who, with somebody else in each picture."""
    lines = []
    for frame in dict.fromkeys(labels.group("frame").tolist()):
        rows = np.flatnonzero(labels.group("frame") == frame).tolist()
        someone = {"joints3d": (labels.joints3d[rows[0]] + [3, 0, 0]).tolist(), "joints2d": None, "id": 70}
        persons = [
            {"joints3d": labels.joints3d[i].tolist(), "joints2d": labels.joints2d[i].tolist(), "id": 71 + i}
            for i in rows
        ]
        lines.append(
            {"frame": int(frame) - first_frame, "joint_names": labels.joint_names, "persons": [someone, *persons]}
        )
    return "\n".join(map(json.dumps, lines)) + "\n"


def row_of(shown: str, title: str, name: str) -> dict[str, str]:
    """A row of the first table whose title has these words, by column."""
    table = shown[shown.index(title) :].splitlines()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if line.startswith("|")]
    return dict(zip(lines[0], next(cells for cells in lines if cells[0] == name), strict=True))


@pytest.mark.parametrize(
    ("protocol", "title", "column", "joints"),
    [
        ("h36m", "Human3.6M", "Avg ↓", 17),
        ("3dhp", "metric skeletons", "MPJPE ↓", 14),
        ("mupots", "unnormalised, matched", "MPJPE ↓", 14),
        ("3dpw_unknown", "3DPW", "MPJPE ↓", 15),
    ],
)
def test_poses_of_a_recording_are_judged_by_the_data_set(
    tree: Callable[[str], tuple[Path, Poses]], tmp_path: Path, protocol: str, title: str, column: str, joints: int
) -> None:
    root, labels = tree(protocol)
    name = SETS[protocol][2]
    own = labels[(labels.group("sequence") == name)]
    first = evaluate.PROTOCOLS[protocol].first_frame
    (tmp_path / "poses.jsonl").write_text(as_metrabs_pose_writes(with_wrist_off(own), first), encoding="utf-8")
    asked = [protocol, "--predictions", str(tmp_path / "poses.jsonl"), "--root", str(root)]
    shown = run.invoke(evaluate.app, [*asked, "--recording", name])
    assert shown.exit_code == 0, shown.output
    row = row_of(shown.stdout, title, "poses")
    assert float(row[column]) == pytest.approx(1000 * OFFSET_M / joints, abs=0.06)
    refused = run.invoke(evaluate.app, asked)
    assert refused.exit_code == 2
    assert f"name it with --recording, such as {name}" in refused.output


@pytest.mark.parametrize("protocol", ["h36m2", "3dpw"])
def test_poses_kept_from_an_engine_are_predictions_again(
    tree: Callable[[str], tuple[Path, Poses]], tmp_path: Path, protocol: str
) -> None:
    root, labels = tree(protocol)
    save(tmp_path / "poses.npz", with_wrist_off(labels))
    shown = run.invoke(evaluate.app, [protocol, "--predictions", str(tmp_path / "poses.npz"), "--root", str(root)])
    assert shown.exit_code == 0, shown.output
    assert "poses" in shown.stdout


def test_parts_of_people_are_cut_for_the_engine(tree: Callable[[str], tuple[Path, Poses]]) -> None:
    root, labels = tree("truncation")
    asked = ["truncation", "--root", str(root), "--common-joints"]
    shown = run.invoke(evaluate.app, [*asked, "--engine", "blazepose_full"])
    assert shown.exit_code == 0, shown.output
    row = row_of(shown.stdout, "Truncation", "blazepose_full")
    assert int(row["poses"]) == len(labels)
    assert float(row["MPJPE all ↓"]) > 0
    refused = run.invoke(evaluate.app, [*asked, "--predictions", "poses.npz"])
    assert refused.exit_code == 2
    assert "makes its own crops" in refused.output
    refused = run.invoke(evaluate.app, [*asked, "--engine", "blazepose_full", "--num-aug", "5"])
    assert refused.exit_code == 2
    assert "looks once at crops of its own, got --num-aug 5" in refused.output


@pytest.mark.parametrize("protocol", ["3dhp", "3dpw"])
def test_a_checkpoint_sees_the_people_of_a_data_set_in_their_true_boxes(
    tree: Callable[[str], tuple[Path, Poses]], tmp_path: Path, protocol: str
) -> None:
    root, labels = tree(protocol)
    Trainer(CONFIG, torch.device("cpu")).save(tmp_path / "run", {})
    kept = tmp_path / "run.npz"
    asked = [protocol, "--root", str(root), "--common-joints", "--keep", str(kept)]
    shown = run.invoke(evaluate.app, [*asked, "--checkpoint", str(tmp_path / "run")])
    assert shown.exit_code == 0, shown.output
    found = load(kept)
    assert found.images.tolist() == labels.images.tolist()
    assert np.isfinite(found.joints3d).all()
    again = run.invoke(evaluate.app, [*asked[:-2], "--predictions", str(kept)])
    assert again.stdout == shown.stdout


def test_where_people_are_told_by_place_an_engine_looks_for_them(
    tree: Callable[[str], tuple[Path, Poses]], tmp_path: Path
) -> None:
    root, _ = tree("mupots")
    asked = ["mupots", "--root", str(root), "--common-joints", "--engine", "blazepose_full"]
    shown = run.invoke(evaluate.app, [*asked, "--keep", str(tmp_path / "found.npz")])
    assert shown.exit_code == 0, shown.output
    # Nobody is in these pictures, whatever their labels say.
    assert len(load(tmp_path / "found.npz")) == 0
    given = run.invoke(evaluate.app, [*asked, "--keep", str(tmp_path / "given.npz"), "--true-boxes"])
    assert given.exit_code == 0, given.output
    assert len(load(tmp_path / "given.npz")) == 3


def test_recordings_of_several_subjects_are_told_apart(
    tree: Callable[[str], tuple[Path, Poses]], tmp_path: Path
) -> None:
    _, one = tree("h36m")
    both = replace(
        one[np.r_[0 : len(one), 0 : len(one)]],
        images=np.concatenate([one.images, np.char.replace(one.images, "S9", "S11")]),
        groups=one.groups
        | {k: np.tile(v, 2) for k, v in one.groups.items()}
        | {"subject": np.repeat(["S9", "S11"], len(one))},
    )
    with pytest.raises(InputError, match="name one of S11/Greeting/54138969, S9/Greeting/54138969"):
        recording.of_recording(both, "Greeting/54138969", 0)
    assert len(recording.of_recording(both, "S11/Greeting/54138969", 0)) == 2


def test_track_ids_are_not_the_numbers_of_3dpw(tree: Callable[[str], tuple[Path, Poses]], tmp_path: Path) -> None:
    root, labels = tree("3dpw")
    (tmp_path / "poses.jsonl").write_text(as_metrabs_pose_writes(labels, 0), encoding="utf-8")
    refused = run.invoke(evaluate.app, ["3dpw", "--predictions", str(tmp_path / "poses.jsonl"), "--root", str(root)])
    assert refused.exit_code == 2
    assert "take 3dpw_unknown" in refused.output
