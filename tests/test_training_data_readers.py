"""Readers of data sets, each on a tiny tree in its official layout: joints, selection, missing files."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import datasets_for_tests as trees
import h5py
import numpy as np
import pytest
import scipy.io

from metrabs_ros.errors import InputError
from training.augment import Augmentation
from training.data import coco, h36m, mpi_inf_3dhp, mpii, muco, mupots, panoptic, threedpw
from training.data.missing import DataError
from training.data.pictures import VideoFrame
from training.data.record import Record, Thinning, in_order, joint_box, with_detection


def check_projections(record: Record) -> None:
    """2D joints are the 3D ones in the picture, and a crop shows them where the example says."""
    pixels, _ = record.camera.project(record.joints3d)
    np.testing.assert_allclose(pixels, record.joints2d, atol=1e-3)
    example = Augmentation(side=64).example(record, np.random.default_rng(0))
    known = np.isfinite(example.joints3d).all(-1)
    assert known.sum() >= 13
    projected = example.joints3d[known] @ example.K.T
    np.testing.assert_allclose(projected[:, :2] / projected[:, 2:], example.joints2d[known], atol=0.01)
    assert example.image.std() > 1


def test_3dhp_training_keeps_moving_people_of_chest_height_cameras(tmp_path: Path) -> None:
    root = trees.mpi_inf_3dhp_train(tmp_path / "3dhp")
    records = list(mpi_inf_3dhp.training_records(root, subjects=(1,), cameras=(0,)))
    # 60 mm every 5 frames: frame 5 is too near to frame 0.
    assert [(r.sequence, r.frame) for r in records] == [("Seq1/0", 0), ("Seq1/0", 10), ("Seq2/0", 0), ("Seq2/0", 10)]
    assert 3 not in mpi_inf_3dhp.CHEST_HEIGHT
    np.testing.assert_allclose(records[1].joints3d, trees.person(mpi_inf_3dhp.TRAIN_JOINTS, (0.12, 0, 4)), atol=1e-6)
    np.testing.assert_allclose(records[1].joints3d_universal, records[1].joints3d * 0.9, atol=1e-6)
    np.testing.assert_allclose(records[0].up, [0, -1, 0])
    check_projections(records[1])
    # The frame itself, not another: gamma 0.67 of the pattern that was written.
    shown = (trees.pattern((128, 128), 10) / 255.0) ** 0.67 * 255
    assert np.abs(records[1].image() - shown).mean() < 4
    inside = records[0].mask.load()[:, :, 0] > 0
    assert inside[40:90, 50:80].all()
    assert not inside[:20].any()


def test_3dhp_test_reads_valid_frames_scenes_and_activities(tmp_path: Path) -> None:
    records = list(mpi_inf_3dhp.evaluation_records(trees.mpi_inf_3dhp_test(tmp_path), subjects=(5,)))
    assert [(r.frame, r.activity, r.scene, r.gamma) for r in records] == [
        (1, "Stand/Walk", "outdoor", 1.0), (3, "Sports", "outdoor", 1.0),
    ]  # fmt: skip
    np.testing.assert_allclose(records[1].joints3d[:, 0], trees.person(mpi_inf_3dhp.JOINTS)[:, 0] + 0.2)
    check_projections(records[0])
    # Focal length of TS1–4 as it is known in pixels.
    np.testing.assert_allclose(mpi_inf_3dhp.camera_of_test(1)[0].K[0], [1500.17, 0, 1017.39], atol=0.01)


def test_h36m_training_and_test(tmp_path: Path) -> None:
    root = trees.human36m(tmp_path)
    records = list(h36m.training_records(root, subjects=(1,)))
    per_camera = [r for r in records if r.sequence.endswith(h36m.CAMERAS[0])]
    # 11 mm a frame, every 5th frame is looked at.
    assert [r.frame for r in per_camera] == [0, 10, 20, 30, 40, 50, 60]
    assert len(records) == 4 * len(per_camera)
    first = per_camera[0]
    np.testing.assert_allclose(first.joints3d, trees.person(h36m.JOINTS, (0, 0, 4)), atol=1e-5)
    np.testing.assert_allclose(first.box, [299.5, 199.5, 401, 701])
    np.testing.assert_allclose(first.up, [0, -1, 0], atol=1e-9)
    check_projections(first)
    # A frame without a box is not what the next one is compared with: frame 15 is kept, 110 mm after frame 5.
    without_box = h5py.File(root / "S1" / "MySegmentsMat" / "ground_truth_bb" / f"Greeting.{h36m.CAMERAS[0]}.mat", "a")
    with without_box as file:
        file["#refs#/empty"] = np.zeros((1000, 1000), np.uint8)
        for frame in (0, 10):
            file["Masks"][frame] = file["#refs#/empty"].ref
    kept = [r.frame for r in h36m.training_records(root, subjects=(1,)) if r.sequence.endswith(h36m.CAMERAS[0])]
    assert kept[:2] == [5, 15]
    tested = list(h36m.evaluation_records(root, subjects=(9,)))
    assert [r.frame for r in tested if r.sequence.endswith(h36m.CAMERAS[0])] == [0, 64]
    # S9's Greeting is shifted by 200 mm, and its boxes with it.
    np.testing.assert_allclose(tested[0].joints3d, first.joints3d - [0.2, 0, 0], atol=1e-5)
    assert tested[0].box[0] == pytest.approx(first.box[0] - 0.2 * 1145 / 4, abs=12)


def test_mupots_fits_the_camera_that_made_the_annotations(tmp_path: Path) -> None:
    K = np.array([[310.0, 0, 158], [0, 312, 121], [0, 0, 1]])
    records = list(mupots.evaluation_records(trees.mupots(tmp_path, K), sequences=(1,)))
    assert [(r.frame, r.subject) for r in records] == [(0, "0"), (0, "1"), (1, "0")]
    np.testing.assert_allclose(records[0].camera.K, K, atol=1e-6)
    assert records[0].visible.all()
    assert not records[1].visible[0]
    assert records[1].visible[1:].all()
    assert {record.gamma for record in records} == {0.67}
    check_projections(records[1])


def test_3dpw_reads_people_found_in_trusted_frames_of_all_splits(tmp_path: Path) -> None:
    root = trees.threedpw(tmp_path, threedpw.JOINTS)
    # Frame 1 moved 50 mm only, frame 2 has no camera, and in frame 3 nobody was found.
    (record,) = threedpw.training_records(root)
    assert (record.sequence, record.frame) == ("downtown_walking_train", 0)
    np.testing.assert_allclose(record.joints3d, trees.person(threedpw.JOINTS, (0, 0.1, 4.5)))
    check_projections(record)
    tested = list(threedpw.evaluation_records(root))
    assert [r.frame for r in tested] == [0, 1] * 3
    assert [r.sequence.split("_")[-1] for r in tested[::2]] == ["train", "validation", "test"]
    only = threedpw.evaluation_records(root, splits=("test",))
    assert {r.sequence for r in only} == {"downtown_walking_test"}


class Malicious:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("run-by-pickle"),)


def test_3dpw_runs_nothing_from_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = trees.threedpw(tmp_path, threedpw.JOINTS)
    path = root / "sequenceFiles" / "train" / "downtown_walking_train.pkl"
    path.write_bytes(pickle.dumps({"sequence": Malicious()}))
    with pytest.raises(DataError, match="no annotation needs"):
        list(threedpw.training_records(root))
    assert not (tmp_path / "run-by-pickle").exists()


def test_coco(tmp_path: Path) -> None:
    (record,) = coco.training_records(trees.coco(tmp_path))
    np.testing.assert_allclose(record.joints2d[5], [9.5, 19.5])
    assert np.isnan(record.joints2d[0]).all()
    assert record.visible.sum() == 4
    example = Augmentation(side=64).example(record, np.random.default_rng(0))
    assert not example.labels3d
    assert np.isnan(example.joints3d).all()
    assert np.isfinite(example.joints2d).all(-1).sum() == 8


def test_mpii_takes_people_apart_and_their_limbs(tmp_path: Path) -> None:
    (record,) = mpii.training_records(trees.mpii(tmp_path / "mpii"))
    assert record.activity == "running"
    # 40 px high, centred 0.075 of it below the labelled middle.
    np.testing.assert_allclose(record.box, [20, 13, 40, 40])
    np.testing.assert_allclose(record.joints2d[record.joint_names.index("left_wrist")], [24, 44])
    assert "pelvis" not in record.joint_names
    assert record.visible.sum() == 6


def test_panoptic(tmp_path: Path) -> None:
    records = list(panoptic.training_records(trees.panoptic(tmp_path, panoptic.JOINTS)))
    # Frame 3, out of the picture, is not what frame 6 is compared with; a nose that comes and goes has not moved.
    assert [r.frame for r in records] == [0, 9]
    assert np.isnan(records[0].joints3d[panoptic.JOINTS.index("nose")]).all()
    np.testing.assert_allclose(records[0].joints3d[2], [0, 0, 4])
    check_projections(records[1])


def test_muco_finds_places_from_relative_poses(tmp_path: Path) -> None:
    K = np.array([[1480.0, 0, 1010], [0, 1480, 1030], [0, 0, 1]])
    poses = np.stack(
        [trees.person(mpi_inf_3dhp.JOINTS, place) for place in ((-0.7, 0, 3), (0, 0.1, 3.6), (0.8, 0, 4.4))]
    )
    pixels = poses @ K.T
    root = tmp_path / "unaugmented_set_001"
    root.mkdir()
    relative = poses - poses[:, 14:15]
    names = np.empty((1, 1), object)
    names[0, 0] = "000001.jpg"
    content = {
        "img_names": names,
        "joint_loc2": np.repeat((pixels[..., :2] / pixels[..., 2:]).transpose(2, 1, 0)[..., None], 2, 3)[..., :1],
        "joint_loc3": relative.transpose(2, 1, 0)[..., None] * 1000,
    }
    scipy.io.savemat(root / "chunk_00001_annot.mat", content)
    trees.write_image(root / "000001.jpg", trees.pattern((64, 64)))
    records = list(muco.training_records(tmp_path))
    assert [r.subject for r in records] == ["0", "1", "2"]
    for record, pose in zip(records, poses, strict=True):
        assert np.abs(record.joints3d - pose).max() < 0.02
    scipy.io.savemat(root / "chunk_00001_annot.mat", {**content, "joint_loc2": np.zeros((2, 5))})
    with pytest.raises(DataError, match=r"chunk_00001_annot\.mat cannot be read"):
        list(muco.training_records(tmp_path))


def test_muco_is_composed_by_depth(tmp_path: Path) -> None:
    people = list(mpi_inf_3dhp.training_records(trees.mpi_inf_3dhp_train(tmp_path), subjects=(1,), cameras=(0,)))
    near, far = people[0], people[1]
    far = Record(**{**vars(far), "joints3d": far.joints3d + [0, 0, 1]})
    made = muco.composed([far, near])
    assert made.records[0].joints3d[4, 2] < made.records[1].joints3d[4, 2]
    assert made.covered == (0.0, 1.0)
    # Not gamma-corrected, as the official pictures are not.
    assert np.abs(made.image[50:80, 55:75].astype(int) - near.picture.load()[50:80, 55:75]).max() <= 2
    assert np.abs(made.image[:15].astype(int) - far.picture.load()[:15]).max() <= 2
    assert {record.gamma for record in made.records} == {1.0}
    hips = [record.visible[record.joint_names.index("left_hip")] for record in made.records]
    assert hips == [True, False]
    again = [next(muco.composites(people, 1, seed=3, people=2, min_gap_m=0.1)).image for _ in range(2)]
    np.testing.assert_array_equal(*again)
    written = muco.composed_records(tmp_path, 3, people=2, subjects=(1,), cameras=(0,), min_gap_m=0.1)
    # Masks are the same here: whoever is in front hides the other whole.
    assert [record.frame for record in written] == [0, 1, 2]
    with pytest.raises(InputError, match="apart"):
        next(muco.composites(people, 1, seed=3, people=2, min_gap_m=5))


def test_video_frames_in_any_order(tmp_path: Path) -> None:
    for name in ("a.avi", "a.mp4"):
        frames = [np.repeat(20 * np.uint8([[i // 10], [i % 10]]) + np.uint8(10), 16, 0) for i in range(120)]
        frames = [np.repeat(np.repeat(frame, 32, 1)[:, :, None], 3, 2) for frame in frames]
        trees.write_video(tmp_path / name, frames)
        for number in (3, 4, 100, 2, 119, 0):
            image = VideoFrame(tmp_path / name, number).load()
            digits = [round((image[rows].mean() - 10) / 20) for rows in (slice(2, 14), slice(18, 30))]
            assert digits == [number // 10, number % 10], name
        with pytest.raises(DataError, match="ends before frame 120"):
            VideoFrame(tmp_path / name, 120).load()
    with pytest.raises(DataError, match="missing"):
        VideoFrame(tmp_path / "b.avi", 0).load()


def read_all(reader: Callable, root: Path) -> list[Record]:
    return list(reader(root))


@pytest.mark.parametrize(
    ("reader", "named"),
    [
        (lambda root: mpi_inf_3dhp.training_records(root), "S1/Seq1/annot.mat"),
        (lambda root: mpi_inf_3dhp.evaluation_records(root), "TS1/annot_data.mat"),
        (h36m.training_records, "metadata.xml"),
        (mupots.evaluation_records, "TS1/annot.mat"),
        (threedpw.training_records, "sequenceFiles/train"),
        (coco.training_records, "person_keypoints_train2017.json"),
        (mpii.training_records, "mpii_human_pose_v1_u12_1.mat"),
        (panoptic.training_records, "SEQUENCE"),
        (muco.training_records, "chunk_00001_annot.mat"),
    ],
)
def test_what_is_missing_is_named_with_its_origin(reader: Callable, named: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_all(reader, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert named in str(caught.value)
    assert "obtained from" in str(caught.value)


@pytest.mark.parametrize("name", ["S1/Seq1/camera.calibration", "S1/Seq1/imageSequence/video_0.avi"])
def test_single_files_are_missed(name: str, tmp_path: Path) -> None:
    root = trees.mpi_inf_3dhp_train(tmp_path)
    (root / name).unlink()
    with pytest.raises(DataError, match=name):
        list(mpi_inf_3dhp.training_records(root, subjects=(1,), cameras=(0,)))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    root = trees.mpi_inf_3dhp_train(tmp_path)
    (root / "S1" / "Seq1" / "annot.mat").write_bytes(b"nothing that Matlab wrote, but long enough to look at" * 9)
    with pytest.raises(DataError, match=r"annot\.mat cannot be read"):
        list(mpi_inf_3dhp.training_records(root, subjects=(1,)))


def test_thinning_does_not_take_joints_that_flicker_for_moving_ones() -> None:
    still, unknown = np.zeros((2, 3)), np.array([[0.0, 0, 0], [np.nan] * 3])
    flickering = Thinning(0.1)
    assert [flickering.keeps(pose) for pose in (still, unknown, still, unknown)] == [True, False, False, False]
    first_seen_late = Thinning(0.1)
    far = still + [[0, 0, 0], [5, 0, 0]]
    assert [first_seen_late.keeps(pose) for pose in (unknown, far, far + 0.05, unknown)] == [True, False, False, False]
    assert first_seen_late.keeps(far + [[0, 0, 0], [0, 0.11, 0]])
    # What moves while it is unknown is noticed when it is seen again, even if others were kept meanwhile.
    assert first_seen_late.keeps(unknown + 0.2)
    assert not first_seen_late.keeps(far + [[0.2, 0.2, 0.2], [0, 0.12, 0]])
    assert first_seen_late.keeps(far + [[0.2, 0.2, 0.2], [0, 0.4, 0]])


def test_thinning_boxes_and_orders() -> None:
    thinning = Thinning(0.1)
    still = np.zeros((3, 3))
    moved = still + [[0, 0, 0.11], [0, 0, 0], [0, 0, 0]]
    assert [thinning.keeps(pose) for pose in (still, still + 0.05, moved)] == [True, False, True]
    np.testing.assert_allclose(joint_box(np.array([[0, 0], [10, 20], [np.nan, np.nan]]), 1.1), [-0.5, -1, 11, 22])
    box = np.array([0.0, 0, 10, 10])
    np.testing.assert_allclose(with_detection(box, [[-2, 0, 12, 11, 0.9], [0, 0, 50, 50, 0.2]]), [-2, 0, 12, 11])
    np.testing.assert_allclose(with_detection(box, [[40, 40, 10, 10, 0.9]]), box)
    values = in_order(np.array([[1.0], [2.0]]), ("a", "b"), ("b", "c"))
    np.testing.assert_array_equal(values, [[2], [np.nan]])
