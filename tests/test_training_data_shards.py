"""Shards: what goes in comes out, writing resumes, and shards that vanish are survived or named."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import datasets_for_tests as trees
import numpy as np
import pytest
import torch

from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from training.augment import NONE, Augmentation, AugmentConfig
from training.config import load_config
from training.data import coco, shard
from training.data.missing import DataError
from training.data.people import ShardedPeople
from training.data.pictures import PictureArray
from training.data.record import Mask, Record
from training.data.shards import Shards
from training.data.threedpw import JOINTS as JOINTS_3DPW
from training.model.metrabs import MetrabsConfig
from training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("pelvis", "left_wrist", "right_wrist", "nose")


def people(count: int, side: int = 400, seed: int = 0) -> list[Record]:
    K = np.array([[300.0, 0, side / 2], [0, 300, side / 2], [0, 0, 1]])
    camera = Camera(K, np.array([-0.1, 0.01, 0, 0, 0]), "plumb_bob", (side, side))
    rng = np.random.default_rng(seed)
    records = []
    for i in range(count):
        joints3d = np.array([[0, 0, 4], [0.4, 0.1, 4], [-0.3, 0, 3.8], [0, -0.6, 4.1]]) + rng.uniform(-0.3, 0.3, 3)
        joints2d, _ = camera.project(joints3d)
        joints3d[1] = np.nan
        low, high = joints2d.min(0) - 10, joints2d.max(0) + 10
        mask = np.zeros((side, side, 3), np.uint8)
        mask[100:300, 100:300] = 255
        box = np.concatenate([low, high - low])
        picture = PictureArray(trees.pattern((side, side), seed * 100 + i))
        records.append(
            Record("people", picture, camera, box, NAMES, joints2d, joints3d, mask=Mask(PictureArray(mask)), frame=i)
        )
    return records


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    records = people(3)
    records.append(replace(records[0], joints3d=None, frame=3))
    shard.write(records, tmp_path)
    for old, new in zip(records, Shards(tmp_path).once(), strict=True):
        assert (new.dataset, new.frame, new.joint_names) == (old.dataset, old.frame, old.joint_names)
        if old.joints3d is None:
            assert new.joints3d is None
        else:
            np.testing.assert_allclose(new.joints3d, old.joints3d, atol=1e-5)
        # A part of the picture, so other pixels; but the crop is the same, augmented or not.
        assert new.camera.size != old.camera.size
        for config in (NONE, AugmentConfig(colour=False, occlusion=0, occlusion_composited=0, background=0)):
            one, two = (Augmentation(config, side=96).example(r, np.random.default_rng(4)) for r in (old, new))
            np.testing.assert_allclose(two.joints2d, one.joints2d, atol=0.02)
            np.testing.assert_allclose(two.K, one.K, rtol=1e-4)
            assert np.abs(two.image.astype(int) - one.image).mean() < 1.5
        assert new.mask.load()[:, :, 0].any()


def test_large_people_are_averaged_down(tmp_path: Path) -> None:
    (record,) = people(1, side=400)
    large = replace(record, box=np.array([20.0, 10, 330, 370]))
    zoomed = Camera(large.camera.zoomed(4).K, large.camera.D, "plumb_bob", (1600, 1600))
    large = replace(
        large, picture=PictureArray(trees.pattern((1600, 1600))), camera=zoomed, box=large.box * 4,
        joints2d=zoomed.project(np.nan_to_num(large.joints3d, nan=4.0))[0], mask=None,
    )  # fmt: skip
    shard.write([large], tmp_path)
    (small,) = Shards(tmp_path).once()
    assert small.camera.size == (400, 400)
    one, two = (Augmentation(NONE, side=96).example(r, np.random.default_rng(4)) for r in (large, small))
    np.testing.assert_allclose(two.joints2d, one.joints2d, atol=0.05)
    assert np.abs(two.image.astype(int) - one.image).mean() < 2


def test_writing_resumes_after_whole_shards(tmp_path: Path) -> None:
    records = people(5)

    def interrupted():
        yield from records[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shard.write(interrupted(), tmp_path, per_shard=2)
    assert list(Shards(tmp_path).counts().values()) == [2]
    first = tmp_path / "shard-00000.tar"
    before = (first.stat().st_mtime_ns, first.read_bytes())
    index = shard.write(records, tmp_path, per_shard=2)
    assert [entry["count"] for entry in index["shards"].values()] == [2, 2, 1]
    assert (first.stat().st_mtime_ns, first.read_bytes()) == before
    shard.write(records, tmp_path / "anew", per_shard=2)
    assert (tmp_path / "anew" / "index.json").read_text() == (tmp_path / "index.json").read_text()
    # A damaged shard is written again.
    first.write_bytes(b"nothing")
    shard.write(records, tmp_path, per_shard=2)
    assert first.read_bytes() == before[1]
    with pytest.raises(InputError, match="has changed"):
        shard.write(records[:1], tmp_path, per_shard=2)
    with pytest.raises(InputError, match="not 3"):
        shard.write(records, tmp_path, per_shard=3)


def test_vanished_and_damaged_shards_are_named_and_survived(tmp_path: Path) -> None:
    shard.write(people(6), tmp_path, per_shard=2)
    (tmp_path / "shard-00001.tar").unlink()
    with pytest.warns(UserWarning, match=r"shard-00001\.tar is left out: it is not there"):
        assert [r.frame for r in Shards(tmp_path).once()] == [0, 1, 4, 5]
    whole = (tmp_path / "shard-00002.tar").read_bytes()
    (tmp_path / "shard-00002.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match=r"shard-00002\.tar is left out: its SHA-256"):
        assert [r.frame for r in Shards(tmp_path).once()] == [0, 1]
    with pytest.warns(UserWarning, match=r"shard-00002\.tar is left out"):
        assert [r.frame for r in Shards(tmp_path, check=False).once()] == [0, 1]
    (tmp_path / "shard-00000.tar").unlink()
    with pytest.warns(UserWarning, match="left out"), pytest.raises(InputError, match="None of the 3 shards"):
        list(Shards(tmp_path).once())
    (tmp_path / "index.json").unlink()
    with pytest.raises(DataError, match=r"index\.json is missing"):
        list(Shards(tmp_path).once())


def test_batches_are_half_2d_and_resume(tmp_path: Path) -> None:
    shard.write(people(5), tmp_path / "a", per_shard=2)
    shard.write(coco.training_records(trees.coco(tmp_path / "coco")), tmp_path / "b")
    source = ShardedPeople(
        folders3d=(tmp_path / "a",), folders2d=(tmp_path / "b",), held_out=(tmp_path / "a",), side=48, threads=2,
        augment=AugmentConfig(objects=0, background=0),
    )  # fmt: skip
    stream = source.batches(4, seed=3, skip=0, rank=0)
    batches = [next(stream) for _ in range(4)]
    assert batches[0].sources == ("people", "people", "coco", "coco")
    assert batches[0].labels3d.tolist() == [True, True, False, False]
    resumed = next(source.batches(4, seed=3, skip=3, rank=0))
    np.testing.assert_array_equal(resumed.image.numpy(), batches[3].image.numpy())
    np.testing.assert_array_equal(resumed.joints3d.numpy(), batches[3].joints3d.numpy())
    other = next(source.batches(4, seed=3, skip=0, rank=1))
    assert (other.image.numpy() != batches[0].image.numpy()).any()
    held_out = list(source.validation(2))
    assert [len(batch) for batch in held_out] == [2, 2, 1]
    with pytest.raises(InputError, match="cannot be shared"):
        next(source.batches(3, seed=3, skip=0, rank=0))


def test_the_papers_run_trains_from_official_layouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From trees in the official layouts to an update of the paper's config, on a small backbone without weights."""
    subjects = (1, 5, 6, 7, 8, 9, 11)
    roots = {"h36m": trees.human36m(tmp_path / "h36m", subjects, frames=2), "mpii": trees.mpii(tmp_path / "mpii")}
    roots["h36m_test"] = roots["h36m"]
    for name, root in roots.items():
        shard.write(shard.records(name, root), tmp_path / "shards" / name)
    monkeypatch.chdir(tmp_path)
    config = load_config(str(ROOT / "training" / "configs" / "paper_h36m.py"))
    people = config.data
    assert isinstance(people, ShardedPeople)
    assert config.steps == 27 * people.examples3d() // 32
    small = replace(
        config,
        model=MetrabsConfig(backbone="resnet18"),
        data=replace(people, pascal_voc=None, augment=AugmentConfig(objects=0)),
        batch_size=2,
    )
    trainer = Trainer(small, torch.device("cpu"))
    batch = next(small.data.batches(2, 0, 0, 0))
    assert batch.joints3d.shape == (2, 17, 3)
    assert batch.labels3d.tolist() == [True, False]
    assert np.isfinite(trainer.update(batch)["loss"])
    with pytest.raises(InputError, match=r"no backbone weights at weights/resnet50\.pth"):
        Trainer(config, torch.device("cpu"))


def frames(name: str, root: Path) -> list[tuple[str, int]]:
    return [(record.subject, record.frame) for record in shard.records(name, root)]


def test_names_choose_the_readers_options(tmp_path: Path) -> None:
    h36m = trees.human36m(tmp_path / "h36m", (1, 5, 6, 7, 8, 9, 11), frames=2)
    assert {subject for subject, _ in frames("h36m", h36m)} == {"S1", "S5", "S6", "S7", "S8"}
    assert {subject for subject, _ in frames("h36m2", h36m)} == {"S1", "S5", "S6", "S7", "S8", "S9"}
    assert {subject for subject, _ in frames("h36m_test", h36m)} == {"S9", "S11"}
    assert {subject for subject, _ in frames("h36m2_test", h36m)} == {"S11"}
    mpii = trees.mpii(tmp_path / "mpii")
    assert (len(frames("mpii", mpii)), len(frames("mpii_all", mpii))) == (1, 2)
    threedpw = trees.threedpw(tmp_path / "3dpw", JOINTS_3DPW)
    assert {r.sequence for r in shard.records("3dpw_test", threedpw)} == {"downtown_walking_test"}
    assert len({r.sequence for r in shard.records("3dpw_challenge", threedpw)}) == 3


def test_3dhp_takes_detections(tmp_path: Path) -> None:
    """The tiny tree has S1 only: what comes first is enough."""
    root = trees.mpi_inf_3dhp_train(tmp_path / "3dhp")
    plain = next(shard.records("mpi_inf_3dhp", root))
    larger = [*(plain.box[:2] - 3), *(plain.box[2:] + 6)]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"S1/Seq1/0/0": [[*larger, 0.9]], "S1/Seq1/0/5": []}))
    np.testing.assert_allclose(next(shard.records("mpi_inf_3dhp", root, path)).box, larger)
    with pytest.raises(InputError, match="reader of coco takes no detections"):
        shard.records("coco", root, path)
    path.write_text('{"S1/Seq1/0/0": [[1, 2, 3, 4]]}')
    with pytest.raises(InputError, match=r"boxes\.json .*expected JSON of lists"):
        shard.records("mpi_inf_3dhp", root, path)


def test_the_command_writes_and_says_what_is_missing(tmp_path: Path) -> None:
    root = trees.coco(tmp_path / "coco")

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "training.data.shard", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("coco", str(root), str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "1 examples in 1 shards" in done.stdout
    assert json.loads((tmp_path / "out" / "index.json").read_text())["shards"]["shard-00000.tar"]["count"] == 1
    failed = run("h36m", str(tmp_path), str(tmp_path / "out2"))
    assert failed.returncode == 2
    assert "metadata.xml is missing" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "There is no data set named" in run("imagenet", str(root), str(tmp_path / "x")).stderr
