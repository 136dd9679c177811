"""The protocols on poses whose figures are known, their files, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import datasets_for_tests as trees
import numpy as np
import pytest
import torch
from sheet_cells import cell
from training_fakes import CONFIG
from typer.testing import CliRunner

from metrabs_ros import crop
from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from training import skeleton, tables
from training.augment import Augmentation
from training.data import h36m as reader
from training.data.record import Record
from training.evaluate import app
from training.examples import Example
from training.protocols import (
    h36m,
    joints,
    looks,
    mpi_inf_3dhp,
    mupots,
    synthetic,
    synthetic_frames,
    threedpw,
    truncated_crops,
    truncation,
)
from training.protocols.poses import Poses, from_records, joined, load, poses, save
from training.skeleton import JOINT_NAMES
from training.tables import Column, Sheet
from training.trainer import Trainer

J17 = joints.SEVENTEEN
PELVIS = J17.index("pelvis")
run = CliRunner()


def people(count: int, seed: int = 0, **more: object) -> Poses:
    """One a picture, of 17 joints."""
    rng = np.random.default_rng(seed)
    joints3d = rng.normal(0, 0.4, (count, 17, 3)) + [0, 0, 5]
    images = [f"image {i}" for i in range(count)]
    given = {"images": images, "joints2d": 500 + 1000 * joints3d[..., :2] / joints3d[..., 2:]} | more
    return poses(J17, joints3d, **given)


def moved(truth: Poses, offset: object, joint: int | None = None) -> Poses:
    joints3d = truth.joints3d.copy()
    joints3d[:, slice(None) if joint is None else joint] += offset
    return Poses(truth.joint_names, joints3d, truth.images, truth.people, truth.joints2d)


def test_h36m_is_root_aligned_and_per_action() -> None:
    truth = people(4, subject=["S9", "11", "S11", "S1"], activity=["Directions 1", "TakingPhoto", "Photo 1", "Walking"])
    found = moved(moved(truth, [1, 0, 0]), [0, 0.17, 0], joint=3)
    found.joints3d[1, 3, 1] += 0.17
    (sheet,) = h36m.evaluate(found, truth, "ours")
    assert cell(sheet, "ours", "Dir.") == pytest.approx(0.01)
    assert cell(sheet, "ours", "Pht.") == pytest.approx(0.015)
    assert cell(sheet, "ours", "Avg ↓") == pytest.approx(0.04 / 3)  # S1 is not tested
    assert np.isnan(cell(sheet, "ours", "Walk"))
    assert sheet.published["MeTRo"][-1] == "49.3±0.7"
    assert len(sheet.published["MeTRo"]) == len(sheet.columns)


def test_h36m_protocol_2_aligns_and_takes_s11_only() -> None:
    truth = people(3, subject=["S9", "S11", "S11"], activity=["Walking"] * 3)
    found = Poses(J17, 1.2 * truth.joints3d @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]), truth.images, truth.people,
                  truth.joints2d)  # fmt: skip
    found.joints3d[0] = 0
    (sheet,) = h36m.evaluate(found, truth, "ours", protocol=2)
    assert cell(sheet, "ours", "Avg ↓") < 1e-9
    with pytest.raises(InputError, match="no pose of S11"):
        h36m.evaluate(found, truth[truth.groups["subject"] == "S9"], "ours", protocol=2)


def test_3dhp_by_activity_and_scene_without_the_root() -> None:
    groups = {"sequence": ["TS1", "TS3", "TS5"], "activity": ["1", "Exercise", "2"]}
    truth = people(3, **groups)
    found = moved(truth, 0.0)
    found.joints3d[1, 0, 0] += 0.2  # one of 14 is wrong
    found.joints3d[2, J17.index("head"), 0] += 9  # not judged
    (sheet,) = mpi_inf_3dhp.evaluate(found, truth, "ours")
    assert cell(sheet, "ours", "Stand/walk PCK ↑") == 1
    assert cell(sheet, "ours", "Exercise PCK ↑") == pytest.approx(27 / 28)
    assert cell(sheet, "ours", "No gr.sc. PCK ↑") == pytest.approx(13 / 14)
    assert cell(sheet, "ours", "Outdoor PCK ↑") == 1
    assert cell(sheet, "ours", "Total PCK ↑") == pytest.approx(41 / 42)
    assert cell(sheet, "ours", "MPJPE ↓") == pytest.approx(0.2 / 42)
    assert all(len(cells) == len(sheet.columns) for cells in sheet.published.values())
    with pytest.raises(InputError, match="TS9"):
        mpi_inf_3dhp.evaluate(found, people(3, **{**groups, "sequence": ["TS9"] * 3}), "ours")


def test_3dhp_rescales_bones_of_neither_skeleton() -> None:
    truth = people(2, sequence=["TS1", "TS2"], activity=["1", "1"])
    truth = Poses(J17, truth.joints3d, truth.images, truth.people, truth.joints2d, truth.joints3d * 1.3, truth.groups)
    universal, metric = mpi_inf_3dhp.evaluate(moved(truth, 0.0), truth, "ours")
    assert cell(universal, "ours", "MPJPE ↓") > 0.05
    assert cell(metric, "ours", "MPJPE ↓") < 1e-9
    larger = Poses(J17, 1.3 * truth.joints3d, truth.images, truth.people, truth.joints2d)
    universal, metric = mpi_inf_3dhp.evaluate(larger, truth, "ours")
    assert cell(universal, "ours", "MPJPE ↓") < 1e-9
    assert cell(metric, "ours", "MPJPE ↓") > 0.05


def test_rescaled_bones_keep_directions_and_take_lengths() -> None:
    pose, truth = people(3, 1).joints3d, people(3, 2).joints3d
    rescaled = joints.with_bone_lengths_of(pose, truth, J17)
    np.testing.assert_array_equal(rescaled[:, PELVIS], pose[:, PELVIS])
    for name, parent in joints.BONES:
        j, p = J17.index(name), J17.index(parent)
        new, old, true = (a[:, j] - a[:, p] for a in (rescaled, pose, truth))
        np.testing.assert_allclose(np.linalg.norm(new, axis=-1), np.linalg.norm(true, axis=-1))
        np.testing.assert_allclose(np.cross(new, old), 0, atol=1e-9)
    assert {name for name, _ in joints.BONES} | {"pelvis"} == set(J17)


def crowd() -> tuple[Poses, Poses]:
    """Two people in each of two pictures; predicted in the other order, one of them not at all."""
    truth = people(4, images=["a", "a", "b", "b"], people=["0", "1", "0", "1"], sequence=["TS1", "TS1", "TS2", "TS2"])
    truth.joints2d[1::2] += 400
    found = truth[np.array([1, 0, 3])]
    return truth, Poses(J17, found.joints3d + [0, 0, 0.1], found.images, np.array(["7", "8", "9"]), found.joints2d + 5)


def test_mupots_matches_in_the_image_and_counts_the_missing_in_all_only() -> None:
    truth, found = crowd()
    assert mupots.matches(truth, found).tolist() == [1, 0, -1, 2]
    every, matched, roots = mupots.evaluate(found, truth, "ours")
    assert cell(every, "ours", "Det.Rate ↑") == 0.75
    assert cell(every, "ours, TS2", "A-PCK ↑") == 0.5
    assert cell(matched, "ours, TS2", "A-PCK ↑") == 1
    assert cell(matched, "ours", "A-MPJPE ↓") == pytest.approx(0.1)
    assert cell(matched, "ours", "MPJPE ↓") == pytest.approx(0, abs=1e-12)
    assert cell(roots, "ours", "z ↓") == pytest.approx(0.1)
    assert cell(roots, "ours", "PCK_root ↑") == 0.75
    assert cell(roots, "ours", "PCOD ↑") == 0.5
    assert all(len(cells) == len(mupots.COLUMNS) for sheet in (every, matched) for cells in sheet.published.values())


def test_mupots_detection_rate_is_over_people_and_the_rest_over_sequences() -> None:
    truth = people(4, sequence=["TS1", "TS1", "TS1", "TS2"])
    every, matched, _ = mupots.evaluate(moved(truth, 0.0)[np.array([1, 3])], truth, "ours")
    assert cell(every, "ours", "Det.Rate ↑") == cell(matched, "ours", "Det.Rate ↑") == 0.5
    assert cell(every, "ours, TS1", "Det.Rate ↑") == pytest.approx(1 / 3)
    assert cell(every, "ours", "PCK ↑") == pytest.approx((1 / 3 + 1) / 2)


def test_mupots_variants_count_more_joints() -> None:
    truth = people(2, sequence=["TS1", "TS1"])
    bent = truth.joints3d + 0.17 * np.array([name == "spine" for name in J17])[:, None]
    found = Poses(J17, bent, truth.images, truth.people, truth.joints2d)
    every, *_ = mupots.evaluate(found, truth, "ours")
    off = 0.17 * 3**0.5
    assert cell(every, "ours", "MPJPE ↓") == pytest.approx(0, abs=1e-12)
    assert cell(every, "ours, 16 joints", "MPJPE ↓") == pytest.approx(off / 16)
    assert cell(every, "ours, 17 joints", "MPJPE ↓") == pytest.approx(off / 17)
    few = mupots.evaluate(found, truth, "ours", wanted=joints.FOURTEEN)[0]
    assert "ours, 16 joints" not in few.rows


def test_mupots_rescales_bones_for_universal_skeletons_only() -> None:
    truth = people(2, sequence=["TS1", "TS1"])
    truth = Poses(J17, truth.joints3d, truth.images, truth.people, truth.joints2d, truth.joints3d * 1.3, truth.groups)
    smaller = Poses(J17, 0.8 * truth.joints3d, truth.images, truth.people, truth.joints2d)
    universal, _, unnormalised, *_ = mupots.evaluate(smaller, truth, "ours")
    assert cell(universal, "ours", "MPJPE ↓") < 1e-9
    assert cell(unnormalised, "ours", "MPJPE ↓") > 0.05


def test_mupots_matching_is_the_official_one() -> None:
    truth, _ = crowd()
    near = truth[np.array([0])]
    shifted = Poses(J17, near.joints3d, near.images, near.people, near.joints2d + [39.9, -39.9])
    assert mupots.matches(truth, shifted).tolist() == [0, -1, -1, -1]
    far = Poses(J17, near.joints3d, near.images, near.people, near.joints2d + [40.0, 0])
    assert mupots.matches(truth[:1], far).tolist() == [-1]
    head_only = near.joints2d + 1000
    head_only[:, 0] = near.joints2d[:, 0]  # the top of the head does not count
    assert mupots.matches(truth[:1], Poses(J17, near.joints3d, near.images, near.people, head_only)).tolist() == [-1]
    blind = Poses(J17, near.joints3d, near.images, near.people, np.full_like(near.joints2d, np.nan))
    with pytest.raises(InputError, match="no joints2d"):
        mupots.matches(truth, blind)


def test_3dpw_known_and_unknown_association() -> None:
    truth, found = crowd()
    (unknown,) = threedpw.evaluate(found, truth, "ours", "unknown", wanted=J17)
    assert cell(unknown, "ours", "MPJPE ↓") == pytest.approx(0, abs=1e-12)
    assert cell(unknown, "ours", "Det.Rate ↑") == 0.75
    named = Poses(J17, found.joints3d, found.images, np.array(["1", "0", "1"]), found.joints2d)
    (known,) = threedpw.evaluate(named, truth, "ours", "known", wanted=J17)
    assert cell(known, "ours", "PCK@50mm ↑") == 0.75
    swapped = Poses(J17, found.joints3d, found.images, np.array(["0", "1", "1"]), found.joints2d)
    (wrong,) = threedpw.evaluate(swapped, truth, "ours", "known", wanted=J17)
    assert cell(wrong, "ours", "MPJPE ↓") > 0.1


def test_3dpw_counts_limbs_only_as_correct_or_not() -> None:
    truth = people(2)
    found = moved(truth, 0.0)
    torso = [J17.index(name) for name in ("head_top", "head", "neck", "spine")]
    found.joints3d[:, torso, 0] += 9
    found.joints3d[0, J17.index("left_wrist"), 0] += 0.0995
    (sheet,) = threedpw.evaluate(found, truth, "ours", wanted=J17)
    assert len(threedpw.LIMBS) == 12
    assert cell(sheet, "ours", "PCK@50mm ↑") == pytest.approx(23 / 24)
    # Exact joints are right at all thresholds but that of 0 mm, the wrist from 100 mm on.
    assert cell(sheet, "ours", "AUC@200mm ↑") == pytest.approx((23 * 199 / 200 + 0.5) / 24)
    assert cell(sheet, "ours", "MPJPE ↓") > 1


def test_truncation_counts_joints_outside_the_crop() -> None:
    truth = people(3, side=[256] * 3)
    truth.joints2d[:] = 100
    truth.joints2d[1, :2] = [300, 100]
    truth.joints2d[2, 5] = [100, -0.1]
    found = moved(truth, 0.0)
    found.joints3d[1, :2, 0] += 0.17
    found.joints3d[2, 4, 0] += 0.17
    (sheet,) = truncation.evaluate(found, truth, "ours")
    assert cell(sheet, "ours, 0 truncated", "MPJPE all ↓") == pytest.approx(0, abs=1e-12)
    assert cell(sheet, "ours, 2 truncated", "MPJPE all ↓") == pytest.approx(0.02)
    assert cell(sheet, "ours, 2 truncated", "truncated ↓") == pytest.approx(0.17)
    assert cell(sheet, "ours, 2 truncated", "present ↓") == pytest.approx(0, abs=1e-12)
    assert cell(sheet, "ours, 1 truncated", "present ↓") == pytest.approx(0.17 / 16)
    assert cell(sheet, "ours", "poses") == 3


def test_truncated_crops_keep_more_than_a_quarter_and_are_repeatable(tmp_path: Path) -> None:
    records = list(reader.evaluation_records(trees.human36m(tmp_path, (9, 11), frames=2)))
    parts = list(truncated_crops.examples(records, 64))
    assert len(parts) == len(records) == 8
    for part, record in zip(parts, records, strict=True):
        whole = Augmentation(side=64).example(record, np.random.default_rng(0))
        assert 1 < part.K[0, 0] / whole.K[0, 0] < 2.1
        projected = part.joints3d @ part.K.T
        np.testing.assert_allclose(projected[:, :2] / projected[:, 2:], part.joints2d, atol=0.01)
    assert len({part.joints2d.tobytes() for part in parts}) == 8
    assert any(truncation_of(part).any() for part in parts)
    again, others = (list(truncated_crops.examples(records, 64, seed)) for seed in (truncated_crops.SEED, 1))
    assert [part.image.tobytes() for part in again] == [part.image.tobytes() for part in parts]
    assert all((one.joints2d != other.joints2d).any() for one, other in zip(parts, others, strict=True))


def truncation_of(example: Example) -> np.ndarray:
    side = example.image.shape[0]
    return ((example.joints2d < 0) | (example.joints2d > side - 1)).any(-1)


def test_an_engine_is_judged_on_truncated_crops(tmp_path: Path) -> None:
    records = list(reader.evaluation_records(trees.human36m(tmp_path, (9,), frames=2), subjects=(9,)))
    engine = looks.engine_of("blazepose_full")
    found, truth = truncated_crops.seen(engine, records)
    parts = list(truncated_crops.examples(records, engine.spec.input.size))
    np.testing.assert_array_equal(found.joints3d, looks.seen_on_crops(engine, parts))
    np.testing.assert_array_equal(truth.joints3d, np.stack([part.joints3d for part in parts]))
    (sheet,) = truncation.evaluate(moved(truth, [1, 0, 0]), truth, "exact")
    assert cell(sheet, "exact", "MPJPE all ↓") < 1e-6
    outside = np.stack([truncation_of(part) for part in parts]).sum(1)
    assert cell(sheet, f"exact, {outside.max()} truncated", "poses") == (outside == outside.max()).sum()
    shared = joints.common(truncation.JOINTS, found.joint_names)
    (sheet,) = truncation.evaluate(found, truth, engine.spec.name, wanted=shared)
    assert cell(sheet, engine.spec.name, "poses") == len(records)
    assert cell(sheet, engine.spec.name, "MPJPE all ↓") > 0
    with pytest.raises(InputError, match="no pose with 3D labels"):
        truncated_crops.seen(engine, [])


def test_lacking_joints_are_named() -> None:
    truth = people(1, subject=["S9"], activity=["Walking"])
    few = poses(J17[:-2], truth.joints3d[:, :-2], truth.images)
    with pytest.raises(InputError, match=r"ours lacks joints of this protocol: spine, head;"):
        h36m.evaluate(few, truth, "ours")
    with pytest.raises(InputError, match="share only 1 joint"):
        joints.common(("nose", "chin"), ("nose", "tail"))
    with pytest.raises(InputError, match="neither a pelvis nor both hips"):
        joints.root_of(("nose", "left_hip"))


def test_files_come_back_and_bad_ones_are_refused(tmp_path: Path) -> None:
    truth, _ = crowd()
    save(tmp_path / "t.npz", truth)
    again = load(tmp_path / "t.npz")
    np.testing.assert_array_equal(again.joints3d, truth.joints3d)
    np.testing.assert_array_equal(again.groups["sequence"], truth.groups["sequence"])
    np.savez(tmp_path / "bare.npz", joints3d=truth.joints3d)
    with pytest.raises(InputError, match="lacks the arrays joint_names, images"):
        load(tmp_path / "bare.npz")
    (tmp_path / "no.npz").write_text("nothing")
    with pytest.raises(InputError, match="Cannot read the poses"):
        load(tmp_path / "no.npz")
    (tmp_path / "no.jsonl").write_text('{"frame": 0}\n')
    with pytest.raises(InputError, match="Cannot read the poses"):
        load(tmp_path / "no.jsonl")
    twice = truth[np.array([0, 0])]
    with pytest.raises(InputError, match="predicted twice"):
        joined(truth, twice)
    with pytest.raises(InputError, match="No prediction belongs"):
        joined(truth, people(1))


def write_jsonl(path: Path, found: Poses) -> None:
    lines = []
    for image in dict.fromkeys(found.images):
        rows = np.flatnonzero(found.images == image)
        persons = [{"id": int(found.people[i]), "joints3d": found.joints3d[i].tolist(),
                    "joints2d": [[None, None], *found.joints2d[i, 1:].tolist()]} for i in rows]  # fmt: skip
        frame = 0 if image == "a" else 1
        lines.append(json.dumps({"frame": frame, "joint_names": found.joint_names, "persons": persons}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_the_command_on_a_poses_jsonl_with_two_seeds(tmp_path: Path) -> None:
    truth, found = crowd()
    numbered = np.array(["0", "0", "1", "1"])
    save(tmp_path / "truth.npz", Poses(J17, truth.joints3d, numbered, truth.people, truth.joints2d, None, truth.groups))
    write_jsonl(tmp_path / "first.jsonl", found)
    write_jsonl(tmp_path / "second.jsonl", moved(found, [0, 0, 0.1]))
    files = ["--predictions", str(tmp_path / "first.jsonl"), "--predictions", str(tmp_path / "second.jsonl")]
    out = ["--output", str(tmp_path / "table.md")]
    shown = run.invoke(app, ["mupots", *files, "--truth", str(tmp_path / "truth.npz"), *out])
    assert shown.exit_code == 0, shown.output
    assert "150.0±50.0" in shown.stdout
    assert "248.2" in shown.stdout
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == shown.stdout.rstrip("\n") + "\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["h36n"], "did you mean 'h36m'"),
        (["h36m"], "Give either --predictions or --engine"),
        (["h36m", "--predictions", "x.npz"], "either --truth FILE or --root"),
        (["h36m", "--engine", "a", "--engine", "b"], "one --engine, or several --checkpoint"),
        (["synthetic"], "one or several --engine"),
        (["synthetic", "--truth", "x.npz"], "makes its own people"),
        (["agreement", "--engine", "blazepose_full"], "Agreement needs --pictures"),
        (["h36m", "--engine", "blazepose_ful", "--truth", "x.npz"], "did you mean 'blazepose_full'"),
    ],
)
def test_the_command_says_what_it_wants(arguments: list[str], words: str) -> None:
    refused = run.invoke(app, arguments)
    assert refused.exit_code == 2
    assert words in refused.output


def test_tables_show_mean_and_deviation_and_dashes() -> None:
    columns = (Column("MPJPE ↓"), Column("PCK ↑", "%"))
    runs = [Sheet("T", columns, {"ours": [0.05, float("nan")]}, {"MeTRo": ["49.3±0.7", "–"]}) for _ in range(2)]
    runs[1].rows["ours"][0] = 0.06
    text = tables.rendered(runs)
    assert "| ours          | 55.0±5.0 |     – |" in text
    assert "| MeTRo (paper) | 49.3±0.7 |     – |" in text
    with pytest.raises(InputError, match="different shape"):
        tables.rendered([runs[0], Sheet("U", columns, {})])


def standing(height: float, roll_deg: float, shift: float = 0.0) -> Example:
    """A stick person seen by a level camera."""
    y = {"head_top": 0.0, "nose": 0.1, "neck": 0.18, "spine": 0.33, "pelvis": 0.48, "knee": 0.72, "ankle": 0.95,
         "heel": 1.0, "foot": 1.0, "hip": 0.48, "shoulder": 0.19, "elbow": 0.35, "wrist": 0.5,
         "hand": 0.55}  # fmt: skip
    rows = []
    for number, name in enumerate(JOINT_NAMES):
        part = name.removeprefix("left_").removeprefix("right_")
        side = (
            0.02 * number if name.startswith(("left", "right")) and part not in ("hip", "knee", "ankle", "heel") else 0
        )
        rows.append([side, y.get(part, 0.09) - 0.5, 0.0])
    angle = np.radians(roll_deg)
    R = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    pose = height * np.array(rows) @ R.T + [shift, 0, 4]
    K = np.array([[300.0, 0, 128], [0, 300, 128], [0, 0, 1]])
    pixels = (pose @ K.T)[:, :2] / pose[:, 2:]
    visible = ((pixels >= 0) & (pixels <= 255)).all(1)
    image = np.full((256, 256, 3), 99, np.uint8)
    return Example(image, K.astype(np.float32), pose.astype(np.float32), pixels.astype(np.float32), visible, True, "s")


def test_synthetic_people_are_told_apart_by_size_roll_truncation_and_occlusion() -> None:
    crowd = [standing(1.8, 0), standing(1.2, 60), standing(1.8, 0, shift=2.0)]
    truth = np.stack([example.joints3d for example in crowd]).astype(float)
    assert synthetic.stature(truth) == pytest.approx([1.8, 1.2, 1.8], rel=0.01)
    np.testing.assert_allclose(synthetic.lean(np.stack([e.joints2d for e in crowd])), [0, 60, 0], atol=1)
    crowd[0].visible[:6] = False
    crowd[1].visible[3] = False
    u, v = np.rint(crowd[1].joints2d[3]).astype(int)
    crowd[1].image[v - 2 : v + 3, u - 2 : u + 3] = 0  # outside the real picture
    groups = synthetic.groups_of(crowd, truth)
    size, roll, cut, hidden = groups.values()
    assert size["1.1–1.3 m"].tolist() == [False, True, False]
    assert roll["45–90°"].tolist() == [False, True, False]
    assert cut["0"].tolist() == [True, False, False]
    assert cut["1–3"].tolist() == [False, True, False]
    assert cut["9–27"].tolist() == [False, False, True]
    assert hidden["4–8"].tolist() == [True, False, False]


@pytest.mark.parametrize("module", [skeleton, crop])
def test_synthetic_crops_are_not_reused_after_a_change_of_joints_or_cropping(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = synthetic._fingerprint()
    changed = tmp_path / "changed.py"
    changed.write_text(Path(str(module.__file__)).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    monkeypatch.setattr(module, "__file__", str(changed))
    assert synthetic._fingerprint() != before


def test_engines_are_compared_in_common_joints() -> None:
    crowd = [standing(1.8, 0), standing(1.2, 30)]
    truth = np.stack([example.joints3d for example in crowd]).astype(float)
    body = [i for i, name in enumerate(JOINT_NAMES) if name != "pelvis"][::-1]
    far = truth[:, body] * 1.2
    far[:, 0] += 9  # the first of the second engine's joints is in the other, too
    found = {"exact": (JOINT_NAMES, truth), "far": ([JOINT_NAMES[i] for i in body], far)}
    sheets = synthetic.evaluate(found, crowd)
    assert "26 joints in common" in sheets[0].notes[0]
    assert "middle of the hips" in sheets[0].notes[0]
    assert cell(sheets[0], "exact", "A-MPJPE ↓") == 0
    assert cell(sheets[0], "exact", "A-PCK@150 ↑") == 1
    assert cell(sheets[0], "far", "depth bias %") == pytest.approx(0.2)
    assert cell(sheets[0], "far", "depth error ↓") == pytest.approx(0.8)
    assert cell(sheets[0], "far", "people") == 2
    assert len(sheets) == 5


def test_a_real_engine_looks_at_crops_and_turns_those_that_lean() -> None:
    engine = looks.engine_of("blazepose_full")
    crowd = [standing(1.8, 0), standing(1.8, 50)]
    once = looks.seen_on_crops(engine, crowd, second_look=False)
    assert once.shape == (2, len(engine.spec.joints), 3)
    assert np.isfinite(once).all()
    assert np.isfinite(looks.seen_on_crops(engine, crowd)).all()


def test_a_checkpoint_looks_as_its_export_would(tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, torch.device("cpu"), 0, 1)
    trainer.save(tmp_path, {})
    engine = looks.engine_of_checkpoint(tmp_path)
    assert engine.spec.joints == JOINT_NAMES
    side = engine.spec.input.size
    output = engine.infer(np.full((2, side, side, 3), 0.5, np.float32))
    assert output.coords3d_rel.shape == (2, 27, 3)
    with pytest.raises(InputError, match="no checkpoint"):
        looks.engine_of_checkpoint(tmp_path / "nothing")


class FakePicture:
    def load(self) -> np.ndarray:
        return np.full((240, 320, 3), 128, np.uint8)


def test_an_engine_predicts_on_the_records_of_a_data_set() -> None:
    camera = Camera(np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]), np.zeros(0), "plumb_bob", (320, 240))
    truth = people(2)
    records = [
        Record("mupots", FakePicture(), camera, np.array([60.0, 20, 200, 200]), J17, camera.project(joints3d)[0],
               joints3d,
               sequence="TS1", frame=4, subject=str(person))
        for person, joints3d in enumerate(truth.joints3d)
    ]  # fmt: skip
    labels = from_records(records)
    assert labels.images.tolist() == ["mupots//TS1//4"] * 2
    assert labels.people.tolist() == ["0", "1"]
    assert labels.groups["sequence"].tolist() == ["TS1", "TS1"]
    engine = looks.engine_of("blazepose_full")
    found = looks.seen_in_records(engine, records, labels)
    assert found.joints3d.shape == (2, len(engine.spec.joints), 3)
    assert joined(labels, found).joints2d.shape == found.joints2d.shape
    with pytest.raises(InputError, match="lacks joints"):
        mupots.evaluate(found, labels, engine.spec.name)
    shared = joints.common(J17, found.joint_names)
    assert len(mupots.evaluate(found, labels, engine.spec.name, wanted=shared)) == 3


def test_people_in_pictures_are_matched_nearest_first_and_near_only() -> None:
    true2d = np.array([[[10.0, 10], [20, 50]], [[60, 10], [70, 50]], [[200, 10], [210, 50]]])
    boxes = np.array([[5.0, 5, 20, 50], [55, 5, 20, 50], [195, 5, 20, 50]])
    seen = np.ones((3, 2), bool)
    found = np.stack([true2d[1] + 3, true2d[1] + 1, true2d[0], true2d[2] + 40])
    assert synthetic_frames.matched(true2d, seen, boxes, found).tolist() == [2, 1, -1]
    half = true2d[2:] + [[[0, 0], [0, 900]]]
    assert synthetic_frames.matched(true2d[2:], np.array([[True, False]]), boxes[2:], half).tolist() == [0]
    assert synthetic_frames.matched(true2d, seen, boxes, found[:0]).tolist() == [-1] * 3


def test_whole_pictures_with_and_without_the_floor() -> None:
    """A few adults in rooms, by the real runtime: who is found is the same, and nearer to where they are."""
    pytest.importorskip("anny", reason="synthetic people need anny: see requirements/training.txt")
    from training.synthetic import evaluation_set

    pipeline = looks.pipeline_of(looks.engine_of("metrabs_base"))
    sheet = synthetic_frames.evaluate({"it": pipeline}, evaluation_set.room_frames(6), floor=True)
    columns = [column.name for column in sheet.columns]
    without, known = (dict(zip(columns, sheet.rows[name], strict=True)) for name in ("it", "it, floor known"))
    assert without["people"] == known["people"] >= 6
    assert without["found ↑"] == known["found ↑"] > 0.4
    assert known["A-MPJPE ↓"] < 0.9 * without["A-MPJPE ↓"]
