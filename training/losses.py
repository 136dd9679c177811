"""The paper's losses (eq. 2 and 5) and the released code's variants: L1 in metres, means over labelled joints."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from training import reconstruct
from training.examples import Batch
from training.heatmap import Grid
from training.model.heads import Prediction


@dataclass(frozen=True)
class LossConfig:
    """The defaults are the paper's; ``RELEASED`` below is the authors' later code.

    absolute: weight of the absolute pose, from step absolute_from on; weak_until: until then by weak perspective;
    least_inside: of people with a smaller share of joints inside, whose distance hangs by a thread, it asks nothing.
    labelled2d: λ, weight of examples with 2D labels only; projection: their 3D head is projected instead of aligned.
    far: depth errors of people beyond this many metres count as if they stood there (None: in full). centre: "root" or
    "mean" is subtracted before the relative loss. mix: weight of the 3D head for joints inside the image, "uniform"
    draws it per person. confidence_weights: the fit weights joints by the network's confidence, as the runtime does.
    confidence, person, teacher: weights of those heads' losses and of distillation.
    """

    absolute: float = 1.0
    absolute_from: int = 5000
    weak_until: int = 0
    least_inside: float = 0.0
    perspective: str = "full"
    head3d: float = 1.0
    head2d: float = 1.0
    labelled2d: float = 0.1
    projection: bool = False
    far: float | None = None
    centre: str = "root"
    mix: float | str = 0.0
    confidence_weights: bool = False
    confidence: float = 0.05
    person: float = 0.05
    teacher: float = 0.0


RELEASED = LossConfig(
    absolute=0.1, weak_until=500, labelled2d=0.2, projection=True, far=10.0, centre="mean", mix="uniform"
)


@dataclass(frozen=True)
class TeacherPose:
    """What a teacher says: joints2d [N,T,2] px, joints3d [N,T,3] m up to translation, weight [N,T] in 0..1, and which
    joints of the student these T are."""

    joints2d: torch.Tensor
    joints3d: torch.Tensor
    weight: torch.Tensor
    student_joints: tuple[int, ...]


def losses(
    predicted: Prediction,
    batch: Batch,
    grid: Grid,
    root: int,
    config: LossConfig,
    step: int,
    teacher: TeacherPose | None = None,
) -> dict[str, torch.Tensor]:
    """The weighted parts, each a scalar, by name; their sum is the loss."""
    with3d, only2d = batch.labels3d[:, None], ~batch.labels3d[:, None]
    metres_a_pixel = grid.box / grid.side
    in_crop = inside_crop(batch.joints2d, grid)
    parts = {}
    parts["head3d"] = config.head3d * relative_loss(
        predicted.coords3d_rel, batch.joints3d, batch.labelled3d, root, config.centre
    )
    error2d = (predicted.coords2d - batch.joints2d).abs().mean(-1) * metres_a_pixel
    parts["head2d"] = config.head2d * _mean(error2d, batch.labelled & in_crop & with3d)
    if config.absolute and step >= config.absolute_from:
        pose = absolute_pose(predicted, batch, grid, config, step)
        inside = reconstruct.in_fov(predicted.coords2d, grid.side, grid.stride)
        determined = inside.float().mean(1, keepdim=True) >= config.least_inside
        parts["absolute"] = config.absolute * absolute_loss(pose, batch, determined, config.far)
    if bool(only2d.any()):
        weak = batch.labelled & only2d
        parts["weak2d"] = config.labelled2d * _mean(error2d, weak & in_crop)
        parts["weak3d"] = config.labelled2d * _weak_3d(predicted, batch, weak, grid, config, step)
    if predicted.confidence_logit is not None and config.confidence:
        wrong = functional.binary_cross_entropy_with_logits(
            predicted.confidence_logit, batch.visible.float(), reduction="none"
        )
        parts["confidence"] = config.confidence * _mean(wrong, batch.labelled)
    if predicted.person_logit is not None and config.person:
        wrong = functional.binary_cross_entropy_with_logits(
            predicted.person_logit, batch.person.float(), reduction="none"
        )
        parts["person"] = config.person * _mean(wrong, batch.person | batch.background)
    if teacher is not None and config.teacher:
        parts["teacher"] = config.teacher * teacher_loss(predicted, teacher, metres_a_pixel)
    return parts


def inside_crop(joints2d: torch.Tensor, grid: Grid) -> torch.Tensor:
    """[N,J] whether the joint lies on the crop, where a 2D heatmap can find it."""
    return ((joints2d >= -0.5) & (joints2d < grid.side - 0.5)).all(-1)


def absolute_pose(predicted: Prediction, batch: Batch, grid: Grid, config: LossConfig, step: int) -> torch.Tensor:
    """[N,J,3] m as the runtime would place the people, differentiable."""
    inside = reconstruct.in_fov(predicted.coords2d, grid.side, grid.stride)
    confidence = None
    if config.confidence_weights and predicted.confidence_logit is not None:
        confidence = predicted.confidence_logit.detach().sigmoid()
    mix: float | torch.Tensor = 0.0
    if config.mix == "uniform":
        mix = torch.rand(len(batch), 1, 1, device=inside.device)
    elif not isinstance(config.mix, str):
        mix = config.mix
    perspective = "weak" if step < config.weak_until else config.perspective
    return reconstruct.absolute(
        predicted.coords2d, predicted.coords3d_rel, batch.K, inside, confidence, perspective, mix
    )


def relative_loss(
    pose: torch.Tensor, truth: torch.Tensor, labelled: torch.Tensor, root: int, centre: str
) -> torch.Tensor:
    """L1 of poses [N,J,3] after subtracting the root, or the mean of labelled joints where the root has no label."""
    at_mean = _centre(pose, labelled), _centre(truth, labelled)
    if centre == "root":
        has_root = labelled[:, root, None, None]
        pose_centre = torch.where(has_root, pose[:, root : root + 1], at_mean[0])
        truth_centre = torch.where(has_root, truth[:, root : root + 1], at_mean[1])
    else:
        pose_centre, truth_centre = at_mean
    return _mean(((pose - pose_centre) - (truth - truth_centre)).abs().mean(-1), labelled)


def absolute_loss(pose: torch.Tensor, batch: Batch, determined: torch.Tensor, far: float | None) -> torch.Tensor:
    """L1 of absolute poses [N,J,3] of the people ``determined`` [N,1] bool; ``far``: as in LossConfig."""
    error = (pose - batch.joints3d).abs()
    if far is not None:
        scale = (far / batch.joints3d[..., 2].abs().clamp_min(1e-3)).clamp_max(1)
        error = torch.cat([error[..., :2], error[..., 2:] * scale[..., None]], -1)
    # Whoever is left out must not leave 0 · infinity behind.
    return _mean(torch.where(determined, error.mean(-1), 0.0), batch.labelled3d & determined)


def aligned(points: torch.Tensor, target: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
    """points [N,J,2] moved and uniformly scaled to lie nearest to target [N,J,2] in the least-squares sense (P 3.4).

    Gradients flow through the alignment. Where fewer than two joints are labelled the scale is 0.
    """
    point_centre, target_centre = _centre(points, labelled), _centre(target, labelled)
    share = labelled[..., None].to(points.dtype)
    flat, goal = (points - point_centre) * share, (target - target_centre) * share
    scale = (flat * goal).sum((1, 2), keepdim=True) / flat.square().sum((1, 2), keepdim=True).clamp_min(1e-12)
    return (points - point_centre) * scale + target_centre


def teacher_loss(predicted: Prediction, teacher: TeacherPose, metres_a_pixel: float) -> torch.Tensor:
    """L1 to a teacher's 2D pose, and to its metric pose after subtracting weighted means."""
    joints = list(teacher.student_joints)
    weight = teacher.weight[..., None]
    total = weight.sum(1, keepdim=True).clamp_min(1e-6)
    difference = predicted.coords3d_rel[:, joints] - teacher.joints3d
    difference = difference - (difference * weight).sum(1, keepdim=True) / total
    difference2d = (predicted.coords2d[:, joints] - teacher.joints2d) * metres_a_pixel
    error = difference.abs().mean(-1) + difference2d.abs().mean(-1)
    return (error * teacher.weight).sum() / teacher.weight.sum().clamp_min(1)


def _weak_3d(
    predicted: Prediction, batch: Batch, weak: torch.Tensor, grid: Grid, config: LossConfig, step: int
) -> torch.Tensor:
    if config.projection:
        pose = absolute_pose(predicted, batch, grid, config, step)
        projected = torch.einsum("nrc,njc->njr", batch.K, pose)
        flat = projected[..., :2] / projected[..., 2:].clamp_min(0.1)
    else:
        flat = aligned(predicted.coords3d_rel[..., :2], batch.joints2d, weak)
    return _mean((flat - batch.joints2d).abs().mean(-1) * (grid.box / grid.side), weak)


def _centre(points: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
    share = labelled[..., None].to(points.dtype)
    return (points * share).sum(1, keepdim=True) / share.sum(1, keepdim=True).clamp_min(1)


def _mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean where the mask is set, 0 where nothing is; unset places may hold anything finite."""
    return (values * mask).sum() / mask.sum().clamp_min(1)
