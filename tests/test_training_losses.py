"""Losses: what they are zero for, what they ignore, and their gradients."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training/ needs torch: see requirements/training.txt")

from metrabs_ros.errors import InputError  # noqa: E402
from tests.training_fakes import fake_background, fake_person  # noqa: E402
from training import losses  # noqa: E402
from training.examples import Batch, Example, collate  # noqa: E402
from training.heatmap import Grid  # noqa: E402
from training.losses import RELEASED, LossConfig, TeacherPose  # noqa: E402
from training.model.heads import Prediction  # noqa: E402
from training.skeleton import SKELETON  # noqa: E402

GRID = Grid(side=64, stride=8)
LATE = 10**6


def people(count: int = 3, labels3d: bool = True) -> Batch:
    rng = np.random.default_rng(0)
    return collate([fake_person(rng, labels3d=labels3d) for _ in range(count)])


def perfect(batch: Batch) -> Prediction:
    shifted = batch.joints3d + torch.tensor([0.3, -0.2, -3.0])
    nothing = torch.zeros(batch.labelled.shape)
    return Prediction(batch.joints2d, shifted, nothing, nothing)


def noisy(batch: Batch) -> Prediction:
    torch.manual_seed(0)
    right = perfect(batch)
    return replace(
        right,
        coords2d=(right.coords2d + torch.randn_like(right.coords2d)).requires_grad_(),
        coords3d_rel=(right.coords3d_rel + 0.05 * torch.randn_like(right.coords3d_rel)).requires_grad_(),
    )


@pytest.mark.parametrize("config", [LossConfig(), RELEASED, replace(LossConfig(), perspective="released")])
def test_a_perfect_prediction_costs_nothing(config: LossConfig) -> None:
    batch = people()
    found = losses.losses(perfect(batch), batch, GRID, 0, config, LATE)
    assert set(found) == {"head3d", "head2d", "absolute"}
    # The ridge of the released solution pulls everybody a little nearer.
    for value in found.values():
        assert value.item() == pytest.approx(0, abs=2e-4 if config.perspective == "full" else 0.1)


def test_the_absolute_loss_waits() -> None:
    batch = people()
    assert "absolute" not in losses.losses(noisy(batch), batch, GRID, 0, LossConfig(), 4999)
    assert losses.losses(noisy(batch), batch, GRID, 0, LossConfig(), 5000)["absolute"] > 0.01


def test_head2d_is_in_metres_and_only_about_joints_on_the_crop() -> None:
    batch = people()
    off = replace(perfect(batch), coords2d=batch.joints2d + 6.4)
    found = losses.losses(off, batch, GRID, 0, LossConfig(), 0)
    assert found["head2d"].item() == pytest.approx(0.1 * GRID.box, rel=1e-4)
    outside = ~losses.inside_crop(batch.joints2d, GRID)
    assert outside.any()
    wild = replace(perfect(batch), coords2d=batch.joints2d + 1000 * outside[..., None])
    assert losses.losses(wild, batch, GRID, 0, LossConfig(), 0)["head2d"].item() == 0


def test_the_relative_loss_ignores_where_the_person_stands() -> None:
    batch = people()
    moved = perfect(batch).coords3d_rel
    truth, known = batch.joints3d, batch.labelled3d
    for centre in ("root", "mean"):
        assert losses.relative_loss(moved, truth, known, 0, centre).item() == pytest.approx(0, abs=1e-6)
    rootless = known.clone()
    rootless[:, 0] = False
    wrong_root = moved.clone()
    wrong_root[:, 0] += 5
    assert losses.relative_loss(wrong_root, truth, rootless, 0, "root").item() == pytest.approx(0, abs=1e-6)
    assert losses.relative_loss(wrong_root, truth, known, 0, "root").item() > 1


def test_alignment_ignores_scale_and_place_but_not_shape() -> None:
    points = torch.randn(2, 9, 2, dtype=torch.float64)
    everything = torch.ones(2, 9, dtype=torch.bool)
    target = 31 * points + torch.tensor([100.0, -4.0])
    torch.testing.assert_close(losses.aligned(points, target, everything), target)
    turned = torch.stack([-target[..., 1], target[..., 0]], -1)
    assert (losses.aligned(points, turned, everything) - turned).abs().max() > 1
    # A joint without label has no say.
    partly = everything.clone()
    partly[:, 4] = False
    target[:, 4] += 1000
    torch.testing.assert_close(losses.aligned(points, target, partly)[:, :4], target[:, :4])


def test_alignment_gradients_equal_finite_differences() -> None:
    torch.manual_seed(0)
    points = torch.randn(2, 6, 2, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 6, 2, dtype=torch.float64) * 40
    labelled = torch.rand(2, 6) < 0.8
    assert torch.autograd.gradcheck(lambda points: losses.aligned(points, target, labelled), (points,))


@pytest.mark.parametrize("config", [LossConfig(), RELEASED])
def test_2d_labels_supervise_both_heads(config: LossConfig) -> None:
    batch = people(labels3d=False)
    assert not batch.labelled3d.any()
    predicted = noisy(batch)
    found = losses.losses(predicted, batch, GRID, 0, config, LATE)
    assert found["head3d"].item() == found["head2d"].item() == found["absolute"].item() == 0
    found["weak3d"].backward()
    assert predicted.coords3d_rel.grad.abs().sum() > 0
    only_xy = predicted.coords3d_rel.grad[..., 2].abs().sum() == 0
    assert bool(only_xy) == (not config.projection)
    doubled = losses.losses(predicted, batch, GRID, 0, replace(config, labelled2d=2 * config.labelled2d), LATE)
    assert doubled["weak2d"].item() == pytest.approx(2 * found["weak2d"].item())


def test_a_head_without_weight_learns_from_no_labels() -> None:
    batch = people(labels3d=False)
    predicted = noisy(batch)
    found = losses.losses(predicted, batch, GRID, 0, replace(LossConfig(), head2d=0.0), LATE)
    torch.stack(list(found.values())).sum().backward()
    assert predicted.coords2d.grad.abs().sum() == 0
    assert predicted.coords3d_rel.grad.abs().sum() > 0


def test_predicted_hips_meet_2d_labels_a_fifth_up_the_spine() -> None:
    names = SKELETON.joint_names
    truth = people()
    batch = replace(people(labels3d=False), joints2d=truth.joints2d.clone())
    moved = losses.hips_moved(names, 0.2)
    pelvis, neck = names.index("pelvis"), names.index("neck")
    expected = truth.joints2d.clone()
    for name in ("left_hip", "right_hip"):
        expected[:, names.index(name)] += 0.2 * (truth.joints2d[:, neck] - truth.joints2d[:, pelvis])
    torch.testing.assert_close(moved @ truth.joints2d, expected)
    labelled_higher = replace(batch, joints2d=expected)
    config = replace(LossConfig(), hips_up=0.2)
    predicted = perfect(truth)

    def weak(these: Batch, matrix: torch.Tensor | None) -> float:
        return losses.losses(predicted, these, GRID, 0, config, 0, as_labelled2d=matrix)["weak2d"].item()

    assert weak(labelled_higher, moved) == pytest.approx(0, abs=1e-6)
    assert weak(labelled_higher, None) > 1e-4
    assert losses.hips_moved(names, 0) is None
    with pytest.raises(InputError, match="lacks neck"):
        losses.hips_moved([name for name in names if name != "neck"], 0.2)


def test_far_people_count_as_if_nearer() -> None:
    batch = people()
    far = replace(batch, joints3d=batch.joints3d + torch.tensor([0, 0, 16.0]))
    off = far.joints3d + torch.tensor([0, 0, 3.0])
    everybody = torch.ones(len(batch), 1, dtype=torch.bool)
    assert losses.absolute_loss(off, far, everybody, None).item() == pytest.approx(1.0)
    assert losses.absolute_loss(off, far, everybody, 10.0).item() == pytest.approx(0.5, rel=0.1)


def test_people_of_whom_too_little_is_inside_have_no_absolute_loss() -> None:
    batch = people()
    predicted = noisy(batch)
    outside = torch.where(torch.arange(3)[:, None, None] == 1, -500.0, predicted.coords2d.detach()).requires_grad_()
    config = replace(LossConfig(), least_inside=0.25)
    found = losses.losses(replace(predicted, coords2d=outside), batch, GRID, 0, config, LATE)
    found["absolute"].backward()
    assert outside.grad[1].abs().sum() == 0
    assert outside.grad[[0, 2]].abs().sum() > 0
    unlimited = losses.losses(replace(predicted, coords2d=outside), batch, GRID, 0, LossConfig(), LATE)
    assert unlimited["absolute"] > found["absolute"]


def test_person_and_confidence() -> None:
    rng = np.random.default_rng(0)
    batch = collate([fake_person(rng), fake_background(rng)])
    nothing = torch.zeros(batch.labelled.shape)
    right = Prediction(
        batch.joints2d,
        batch.joints3d,
        nothing,
        nothing,
        confidence_logit=torch.where(batch.visible, 50.0, -50.0),
        person_logit=torch.tensor([50.0, -50.0]),
    )
    found = losses.losses(right, batch, GRID, 0, LossConfig(), 0)
    assert found["person"].item() + found["confidence"].item() < 1e-6
    flipped = replace(right, person_logit=-right.person_logit, confidence_logit=-right.confidence_logit)
    found = losses.losses(flipped, batch, GRID, 0, LossConfig(), 0)
    assert found["person"].item() == pytest.approx(0.05 * 50)
    # Only the person's joints are asked about: the background has none.
    assert found["confidence"].item() == pytest.approx(0.05 * 50)


def test_a_teacher_is_followed_up_to_translation() -> None:
    batch = people()
    joints = (3, 5, 8, 20)
    weight = torch.tensor([[1.0, 1, 1, 1], [1, 0.5, 0.5, 1], [0, 0, 0, 0]])
    teacher = TeacherPose(batch.joints2d[:, joints], batch.joints3d[:, joints] - 7, weight, joints)
    config = replace(LossConfig(), teacher=0.5)
    assert losses.losses(perfect(batch), batch, GRID, 0, config, 0, teacher)["teacher"].item() < 1e-5
    untrusted = replace(teacher, joints2d=teacher.joints2d + 1e3 * (weight == 0)[..., None])
    assert losses.losses(perfect(batch), batch, GRID, 0, config, 0, untrusted)["teacher"].item() < 1e-5
    assert losses.losses(noisy(batch), batch, GRID, 0, config, 0, teacher)["teacher"].item() > 0.01


def test_collating_needs_examples_that_fit() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="at least one"):
        collate([])
    one = fake_person(rng)
    small = replace(one, image=one.image[:32, :32].copy())
    with pytest.raises(InputError, match="share crop side"):
        collate([one, small])
    with pytest.raises(InputError, match="image must be uint8"):
        Example(one.image.astype(np.float32), one.K, one.joints3d, one.joints2d, one.visible, True, "fake")
