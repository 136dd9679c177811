"""The paper's claims in miniature: runs end to end, resuming, results that are damaged, and the figures by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("torch")

import torch

from training.synthetic import synthetic_ready

if not synthetic_ready():
    pytest.skip("the body model's or the backgrounds' cache is not built", allow_module_level=True)

from metrabs_ros.errors import InputError
from training.claims import __main__ as command
from training.claims import lanes, people, report, results, runs
from training.claims.feed import Feed, fixed, stored
from training.claims.figures import (
    Found,
    absolute_figures,
    baseline_figures,
    figures,
    pose_figures,
    truncation_figures,
)
from training.claims.learner import network_of, trained
from training.claims.people import PeopleConfig, Pictures
from training.claims.results import Result
from training.claims.runs import JOINT_NAMES, ROOT, RunConfig
from training.protocols.truncation import outside
from training.validation import to_input

J = len(JOINT_NAMES)
FEW = PeopleConfig(side=96, training=6, evaluation=4)
TINY = RunConfig(backbone="blazepose_random", side=64, steps=3, batch_size=2, people=FEW)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("claims")
    for held_out in (True, False):
        people.load(place, FEW, held_out, workers=1)
    return place


@pytest.fixture(scope="module")
def training(folder: Path) -> Pictures:
    return people.load(folder, FEW, held_out=False)


@pytest.fixture(scope="module")
def evaluation(folder: Path) -> Pictures:
    return people.load(folder, FEW, held_out=True)


def feed_of(config: RunConfig, folder: Path) -> Feed:
    return Feed(lanes.crops_of(folder, config), config.batch_size, config.seed)


def pose(depth: float = 3.0, size: float = 1.0) -> np.ndarray:
    """[J,3] m: something with extent in all directions, its root at (0, 0, depth)."""
    points = size * np.random.default_rng(5).normal(0, 0.4, (J, 3))
    return points - points[ROOT] + [0, 0, depth]


# Pictures and batches


def test_pictures_are_the_same_whenever_rendered(training: Pictures) -> None:
    image, K, up, joints3d, height = people.shot(2, FEW.side, held_out=False)
    np.testing.assert_array_equal(image, training.images[2])
    for array, name in ((K, "K"), (up, "up"), (joints3d, "joints3d"), (height, "heights")):
        np.testing.assert_array_equal(array, getattr(training, name)[2])


def test_training_and_evaluation_have_no_picture_in_common(training: Pictures, evaluation: Pictures) -> None:
    assert not any(np.array_equal(a, b) for a in training.images for b in evaluation.images)
    assert not set(training.heights.round(6)) & set(evaluation.heights.round(6))


def test_people_stand_whole_in_their_pictures_with_a_margin(training: Pictures) -> None:
    for number in range(len(training)):
        record = training.record(number)
        assert record.box[2:].max() == pytest.approx(FEW.side / people.MARGIN)
        assert (record.joints2d > FEW.side * 0.1).all()
        assert (record.joints2d < FEW.side * 0.9).all()
        assert np.linalg.norm(record.up) == pytest.approx(1)


def test_batches_depend_on_seed_and_step_alone(folder: Path) -> None:
    first = feed_of(TINY, folder).batch(4)
    again = feed_of(TINY, folder).batch(4)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.joints3d, again.joints3d)
    other = feed_of(replace(TINY, seed=1), folder).batch(4)
    assert not torch.equal(first.joints3d, other.joints3d)


def test_every_crop_is_shown_once_an_epoch(folder: Path) -> None:
    config = replace(TINY, batch_size=5)
    feed = feed_of(config, folder)
    crops = FEW.training * config.showings
    shown = torch.cat([feed.batch(step).joints2d for step in range(4)])
    assert len({joints.numpy().tobytes() for joints in shown[:crops]}) == crops
    assert len({joints.numpy().tobytes() for joints in shown}) == crops


def test_stored_maps_are_what_the_network_makes_of_the_crops(folder: Path, training: Pictures) -> None:
    config = replace(TINY, backbone="blazepose", geometry=False, colour=False, occlusion=False, showings=1)
    feed = Feed(stored(folder, config, training), 1, 0)
    crops = {crop.numpy().tobytes(): crop for crop in fixed(training, 64, 6)[0].joints2d}
    batch, whole = feed.batch(0), fixed(training, 64, 6)[0]
    row = list(crops).index(batch.joints2d[0].numpy().tobytes())
    network = network_of(config).eval()
    with torch.no_grad():
        from_pixels = network(to_input(whole.image[row : row + 1])).coords2d
        from_map = network(to_input(batch.image)).coords2d
    torch.testing.assert_close(from_pixels, from_map, atol=0.05, rtol=0)


def test_truncated_crops_cut_joints_and_whole_ones_do_not(evaluation: Pictures) -> None:
    whole = outside(fixed(evaluation, 64, 4)[0].joints2d.numpy(), 64)
    cut = outside(fixed(evaluation, 64, 4, truncated=True)[0].joints2d.numpy(), 64)
    assert not whole.any()
    assert cut.any()


# Runs


@pytest.mark.parametrize("network", ["metrabs", "metro", "2.5d"])
def test_resuming_gives_the_same_figures(
    network: str, folder: Path, tmp_path: Path, training: Pictures, evaluation: Pictures
) -> None:
    config = replace(TINY, network=network)
    at_once = trained(config, feed_of(config, folder), tmp_path / "a")
    trained(config, feed_of(config, folder), tmp_path / "b", until=2)
    resumed = trained(config, feed_of(config, folder), tmp_path / "b")
    assert resumed.step == config.steps
    assert figures(resumed, training, evaluation) == pytest.approx(
        figures(at_once, training, evaluation), rel=0, abs=0, nan_ok=True
    )


def test_a_checkpoint_of_another_run_is_refused(folder: Path, tmp_path: Path) -> None:
    trained(TINY, feed_of(TINY, folder), tmp_path, until=1)
    other = replace(TINY, seed=1)
    with pytest.raises(InputError, match="another run"):
        trained(other, feed_of(other, folder), tmp_path)


def test_weights_go_to_denser_strides() -> None:
    image = torch.rand(1, 3, 64, 64)
    coarse, dense = network_of(TINY), network_of(TINY, 16)
    dense.load_state_dict(coarse.state_dict())
    with torch.no_grad():
        assert coarse.eval()(image).coords3d_rel.shape == dense.eval()(image).coords3d_rel.shape


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(InputError, match="no network 'metrabbs'"):
        network_of(replace(TINY, network="metrabbs"))


def test_key_changes_with_every_setting() -> None:
    others = [replace(TINY, seed=1), replace(TINY, truncation=0.1), replace(TINY, people=PeopleConfig(side=97))]
    assert len({TINY.key, *(other.key for other in others)}) == 4
    assert replace(TINY).key == TINY.key


def test_runs_that_claims_share_are_trained_once() -> None:
    every = runs.wanted(tuple(runs.CLAIMS), 3)
    assert len({config.key for _, config in every}) == len(every) == 3 * len(runs.VARIANTS)
    assert [config.seed for _, config in every] == sorted(config.seed for _, config in every)


def test_long_runs_are_others_and_as_current() -> None:
    (variant, short), (_, long) = runs.wanted((4,), 1)[0], runs.wanted((4,), 1, long=True)[0]
    assert short.key != long.key
    assert runs.is_current(variant, 0, short.key)
    assert runs.is_current(variant, 0, long.key)
    assert not runs.is_current(variant, 1, short.key)
    assert not runs.is_current("forgotten", 0, short.key)


@pytest.mark.slow
def test_end_to_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variants = {
        name: replace(TINY, centred=config.centred, strides=config.strides) for name, config in runs.VARIANTS.items()
    }
    monkeypatch.setattr(runs, "VARIANTS", variants)
    monkeypatch.setattr(results, "STORED", tmp_path / "results.json")
    command.main(folder, claim=1, seeds=1, lanes=1)
    printed = capsys.readouterr().out
    assert "2/2" in printed
    assert "| center-aligned (paper) | 50.9 |" in " ".join(printed.split())
    command.main(folder, claim=1, seeds=1, lanes=1, store=True)
    table = capsys.readouterr().out
    assert table in printed
    assert len(json.loads((tmp_path / "results.json").read_text())) == 2
    # What the repository knows is not trained again, wherever the work goes on.
    command.main(tmp_path / "elsewhere", claim=1, seeds=1, lanes=1)
    assert capsys.readouterr().out == table
    assert not list(folder.glob("checkpoints/*"))
    with pytest.raises(SystemExit):
        command.main(folder, claim=7)
    assert "no claim 7" in capsys.readouterr().err


# Results


def test_results_survive_the_disk(tmp_path: Path) -> None:
    result = Result("k", "base", 2, {"mpjpe": 0.123456, "none": float("nan")})
    results.save(tmp_path, result)
    found = results.known(tmp_path, tmp_path / "no")["k"]
    assert (found.variant, found.seed, found.figures["mpjpe"]) == ("base", 2, 0.123456)
    assert np.isnan(found.figures["none"])
    results.store([result], tmp_path / "stored")
    assert list(results.known(tmp_path / "none", tmp_path / "stored")) == ["k"]


@pytest.mark.parametrize("text", ['{"key": "k", "vari', "{}", "[]", '{"key": "k", "variant": "b", "seed": 0}'])
def test_a_mutilated_result_is_refused_with_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "k.json").write_text(text)
    with pytest.raises(InputError, match=r"k\.json.*start again"):
        results.known(tmp_path, tmp_path / "no")


def test_a_mutilated_file_of_the_repository_is_refused(tmp_path: Path) -> None:
    stored = tmp_path / "results.json"
    stored.write_text(json.dumps({"key": "k"}))
    with pytest.raises(InputError, match="must hold a list"):
        results.known(tmp_path / "none", stored)


def test_report_says_which_seeds_are_missing() -> None:
    every = runs.wanted((2,), 2)
    found = {
        config.key: Result(config.key, variant, config.seed, {"full/a_mpjpe": 0.1 + 0.02 * config.seed})
        for variant, config in every
        if (variant, config.seed) != ("without absolute loss", 1)
    }
    text = report.report(found, (2,), 2)
    assert "110.0±10.0" in text
    assert "Runs missing, seeds there: without absolute loss 1 of 2." in text
    assert "248.2" in text


def test_every_figure_of_the_tables_is_one_that_runs_have(
    folder: Path, tmp_path: Path, training: Pictures, evaluation: Pictures
) -> None:
    for variant in ("base", "metro", "2.5d"):
        config = replace(TINY, network=runs.VARIANTS[variant].network, strides=runs.VARIANTS[variant].strides)
        have = set(figures(trained(config, feed_of(config, folder), tmp_path / variant), training, evaluation))
        for table in report.TABLES.values():
            for row in table.rows:
                if runs.VARIANTS[row.variant].network == config.network:
                    assert set(row.names) - {""} <= have, (row, set(row.names) - have)


# Figures by hand


def test_pose_figures_of_a_pose_that_is_too_large() -> None:
    truth = np.stack([pose(), pose(4)])
    poses = np.stack([pose(2, 1.1), pose(2, 1.0)])
    found = pose_figures(poses, truth, np.array([1.7, 1.0]))
    off = 0.1 * np.linalg.norm(pose() - pose()[ROOT], axis=1).mean()
    assert found["adults/mpjpe"] == pytest.approx(off)
    assert found["children/mpjpe"] == pytest.approx(0, abs=1e-12)
    assert found["mpjpe"] == pytest.approx(off / 2)
    assert found["scale"] == pytest.approx(0.05)
    assert found["pa_mpjpe"] == pytest.approx(0, abs=1e-9)


def test_absolute_figures_of_somebody_put_too_far() -> None:
    near, far = pose(1.8), pose(9.0)
    truth = np.stack([near, far])
    found = absolute_figures(truth + [[[0, 0, 0.1]], [[0, 0, 0.2]]], truth, "x/")
    assert found["x/near/a_mpjpe"] == pytest.approx(0.1)
    assert found["x/far/a_mpjpe"] == pytest.approx(0.2)
    assert found["x/a_mpjpe"] == pytest.approx(0.15)
    assert found["x/a_pck"] == 0.5
    assert found["x/mpjpe"] == pytest.approx(0, abs=1e-12)
    assert found["x/pck"] == 1


def test_truncation_figures_separate_present_and_cut_joints() -> None:
    truth = np.stack([pose(), pose()])
    cut = np.zeros((2, J), bool)
    cut[1, [3, 4]] = True
    poses = truth.copy()
    poses[1, 3] += [0.3, 0, 0]
    poses[1, 5] += [0, 0.15, 0]
    found = truncation_figures(poses, truth, cut)
    assert found["truncated/absent"] == pytest.approx(0.15)
    assert found["truncated/present"] == pytest.approx(0.15 / (2 * J - 2))
    assert found["truncated/all"] == pytest.approx(0.45 / (2 * J))
    assert found["truncated/0-0"] == 0
    assert found["truncated/1-3"] == pytest.approx(0.45 / J)
    assert np.isnan(found["truncated/7-9"])


def test_baseline_finds_the_scale_of_average_people_only() -> None:
    config = replace(TINY, network="2.5d", side=160)
    K = np.array([[150.0, 0, 80], [0, 150, 80], [0, 0, 1]])
    truth = np.stack([pose(4.0), pose(4.0, 0.7)])
    flat = truth @ K.T
    joints2d = flat[..., :2] / flat[..., 2:]
    exact = np.concatenate([joints2d, truth[..., 2:]], -1)
    found = Found(truth, joints2d, np.stack([K, K]), exact, None, None)
    figures_found = baseline_figures(found, pose()[None], np.array([1.7, 1.2]), config)
    assert figures_found["adults/mpjpe"] == pytest.approx(0, abs=1e-6)
    assert figures_found["children/mpjpe"] > 0.05
    for prefix in ("true bones/", "true depth/"):
        assert figures_found[prefix + "mpjpe"] == pytest.approx(0, abs=1e-6)
