"""Measures against figures worked out by hand and against what they must not change under."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from training_fakes import CONFIG, fake_person

from training import metrics, procrustes, validation
from training.examples import collate
from training.trainer import Trainer

ROOT = np.array([1.0, 0, 0, 0, 0])


def some_poses(seed: int, count: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.5, (count, 5, 3)) + [0, 0, 4]


def test_a_perfect_prediction_has_no_error() -> None:
    poses = some_poses(0)
    distance = metrics.distances(poses, poses)
    assert metrics.mpjpe(poses, poses, ROOT) == 0
    assert metrics.a_mpjpe(poses, poses) == 0
    assert metrics.p_mpjpe(poses, poses) < 1e-12
    assert metrics.pck(distance) == 1
    # At the threshold of 0 nothing is nearer, so the official AUC of a perfect prediction is 30/31.
    assert metrics.auc(distance) == pytest.approx(30 / 31)
    assert (metrics.mrpe(poses[:, 0], poses[:, 0]) == 0).all()
    assert metrics.pck_root(poses[:, 0], poses[:, 0]) == 1


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_procrustes_does_not_see_similarity_transforms(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, noise = some_poses(seed), rng.normal(0, 0.1, (4, 5, 3))
    R = Rotation.random(random_state=seed).as_matrix()
    moved = rng.uniform(0.2, 3) * (truth + noise) @ R.T + rng.normal(0, 2, 3)
    assert metrics.p_mpjpe(moved, truth) == pytest.approx(metrics.p_mpjpe(truth + noise, truth), abs=1e-9)
    exact = rng.uniform(0.2, 3) * truth @ R.T + rng.normal(0, 2, 3)
    assert metrics.p_mpjpe(exact, truth) < 1e-9


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_procrustes_beats_other_transforms_and_has_no_reflection(seed: int) -> None:
    poses, truth = some_poses(seed), some_poses(seed + 1)
    best = np.square(procrustes.aligned(poses, truth) - truth).sum((1, 2))
    rng = np.random.default_rng(seed)
    for R in Rotation.random(5, random_state=seed).as_matrix():
        centred = (poses - poses.mean(1, keepdims=True)) @ R.T
        other = rng.uniform(0.1, 1.5) * centred + truth.mean(1, keepdims=True)
        assert (best <= np.square(other - truth).sum((1, 2)) + 1e-9).all()
    mirrored = truth * [-1, 1, 1]
    assert metrics.p_mpjpe(mirrored, truth) > 1e-3


def test_procrustes_agrees_with_scipy_where_no_reflection_is_needed() -> None:
    rng = np.random.default_rng(5)
    truth = some_poses(5, 1)[0]
    pose = 1.3 * (truth + rng.normal(0, 0.05, truth.shape)) @ Rotation.random(random_state=1).as_matrix()
    R, _ = Rotation.align_vectors(truth - truth.mean(0), pose - pose.mean(0))
    turned = R.apply(pose - pose.mean(0))
    scale = (turned * (truth - truth.mean(0))).sum() / np.square(turned).sum()
    expected = scale * turned + truth.mean(0)
    np.testing.assert_allclose(procrustes.aligned(pose[None], truth[None])[0], expected, atol=1e-9)


def test_procrustes_leaves_unlabelled_joints_out_and_refuses_two() -> None:
    poses, truth = some_poses(2), some_poses(3)
    holes = truth.copy()
    holes[:, 4] = np.nan
    np.testing.assert_allclose(
        procrustes.aligned(poses, holes)[:, :4], procrustes.aligned(poses[:, :4], truth[:, :4]), atol=1e-12
    )
    holes[0, 2:] = np.nan
    assert np.isnan(procrustes.aligned(poses, holes)[0]).all()


def test_root_relative_error_does_not_see_translation_but_the_absolute_one_does() -> None:
    truth = some_poses(1)
    moved = truth + [0.3, 0, -0.4]
    assert metrics.mpjpe(moved, truth, ROOT) == pytest.approx(0, abs=1e-12)
    assert metrics.a_mpjpe(moved, truth) == pytest.approx(0.5)
    np.testing.assert_allclose(metrics.mrpe(moved[:, 0], truth[:, 0]), [0.5, 0.3, 0, 0.4], atol=1e-12)
    assert metrics.depth_error(moved[:, 0], truth[:, 0]) == pytest.approx(0.4)
    middle = np.array([0.5, 0.5, 0, 0, 0])
    np.testing.assert_allclose(metrics.root_relative(truth, middle)[:, :2].sum(1), 0, atol=1e-12)


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_errors_are_symmetric(seed: int) -> None:
    a, b = some_poses(seed), some_poses(seed + 7)
    assert metrics.mpjpe(a, b, ROOT) == pytest.approx(metrics.mpjpe(b, a, ROOT))
    assert metrics.a_mpjpe(a, b) == pytest.approx(metrics.a_mpjpe(b, a))
    assert metrics.pck(metrics.distances(a, b)) == metrics.pck(metrics.distances(b, a))


def test_pck_and_auc_of_known_distances() -> None:
    distance = np.array([[0.0, 0.1, 0.149, 0.15, 0.4]])
    assert metrics.pck(distance) == pytest.approx(3 / 5)  # strictly nearer
    thresholds = np.linspace(0, 0.15, 31)
    assert metrics.auc(distance) == pytest.approx(np.mean([(distance < t).mean() for t in thresholds]))
    assert metrics.pck(distance, 0.05) == pytest.approx(1 / 5)
    assert metrics.auc(np.full((1, 3), 0.0724)) == pytest.approx(16 / 31)  # 75, 80, ..., 150 mm


def test_missing_people_are_wrong_in_shares_and_absent_from_means_unlabelled_joints_absent_from_both() -> None:
    truth = some_poses(3, 2)
    found = truth + [0.1, 0, 0]
    found[1] = np.nan
    truth[0, 4] = np.nan
    distance = metrics.distances(found, truth)
    assert metrics.mean_error(distance) == pytest.approx(0.1)
    assert metrics.pck(distance) == pytest.approx(4 / 9)
    assert metrics.pck_root(found[:, 0], truth[:, 0]) == 0.5
    assert np.isnan(metrics.mean_error(np.full((1, 2), np.nan)))
    assert np.isnan(metrics.pck(np.full((1, 2), np.nan)))
    assert np.isnan(metrics.auc(np.full((1, 2), np.nan)))


def test_ordinal_depth_counts_pairs_within_images() -> None:
    images = ["a", "a", "a", "b", "b", "c"]
    truth = [3.0, 4.0, 5.0, 2.0, 6.0, 1.0]
    assert metrics.pcod(truth, truth, images) == 1
    assert metrics.pcod([4.1, 4.0, 5.0, 9.0, 6.0, 7.0], truth, images) == pytest.approx(2 / 4)
    assert metrics.pcod([np.nan, 4.0, 5.0, 2.0, 6.0, 1.0], truth, images) == pytest.approx(2 / 4)
    assert metrics.pcod([3.1, 3.0], [3.0, 3.1], ["a", "a"], tolerance=0.2) == 1
    assert np.isnan(metrics.pcod([1.0], [1.0], ["a"]))


def test_detection_rate_and_depth_bias() -> None:
    assert metrics.detection_rate([0, 3, -1, 2]) == 0.75
    near = np.array([[0, 0, 2.0], [0, 0, 4.0], [0, 0, 3.0]])
    far = near * 1.2
    far[2] = np.nan
    assert metrics.relative_depth_bias(far, near) == pytest.approx(0.2)


def test_validation_aligns_each_person_by_their_labelled_joints() -> None:
    rng = np.random.default_rng(1)
    people = [fake_person(rng) for _ in range(4)]
    for i, person in enumerate(people):
        person.joints3d[8 * i :] = np.nan  # none, 8 and 16 joints
    people[3].joints3d[3:] = np.nan  # too few to align
    batch = collate([*people, fake_person(rng, labels3d=False)])
    trainer = Trainer(CONFIG, torch.device("cpu"))
    found = validation.errors(trainer.model, [batch], CONFIG.model.grid, CONFIG.root_index, CONFIG.loss)
    with torch.no_grad():
        poses = trainer.model.eval()(validation.to_input(batch.image)).coords3d_rel.numpy()
    distance = [metrics.procrustes_distances(poses[i : i + 1, : 8 * i], person.joints3d[None, : 8 * i])
                for i, person in enumerate(people[1:3], start=1)]  # fmt: skip
    assert found["pa_mpjpe"] == pytest.approx(1000 * np.concatenate(distance, 1).mean())
