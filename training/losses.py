"""The paper's losses (eq. 2 and 5) and the released code's variants: L1 in metres, means over labelled joints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from metrabs_ros.errors import InputError
from training import reconstruct
from training.examples import Batch
from training.heatmap import Grid
from training.model.heads import Prediction

_HIPS = ("left_hip", "right_hip")


@dataclass(frozen=True)
class LossConfig:
    """The defaults are the paper's, but for perspective, which is "weak" in all its tables but 9; ``RELEASED`` below is
    the authors' later code.

    absolute: weight of the absolute pose, from step absolute_from on; weak_until: until then by weak perspective;
    border: strides from the edge of the crop to where joints count as inside; least_inside: of people with a smaller
    share of joints inside, whose distance hangs by a thread, it asks nothing. perspective: full, weak, or released
    (R's ridge).
    labelled2d: λ, weight of examples with 2D labels only, each head's beside its own; projection: their 3D head is
    projected instead of aligned; hips_up: predicted hips go so far from pelvis to neck before they are compared with
    2D labels (P 6: a fifth where skeletons are 3DHP's and 2D labels MPII's).
    far: depth errors of people beyond this many metres count as if they stood there (None: in full). centre: "root" or
    "mean" is subtracted before the relative loss. mix: weight of the 3D head for joints inside the image, "uniform"
    draws it per person. confidence_weights: the fit weights joints by the network's confidence, as the runtime does.
    confidence, person, teacher: weights of those heads' losses and of distillation.
    """

    absolute: float = 1.0
    absolute_from: int = 5000
    weak_until: int = 0
    border: float = 1.0
    least_inside: float = 0.0
    perspective: str = "full"
    head3d: float = 1.0
    head2d: float = 1.0
    labelled2d: float = 0.1
    projection: bool = False
    hips_up: float = 0.0
    far: float | None = None
    centre: str = "root"
    mix: float | str = 0.0
    confidence_weights: bool = False
    confidence: float = 0.05
    person: float = 0.05
    teacher: float = 0.0

    @property
    def test_mix(self) -> float:
        """The weight of the 3D head once training is over: the middle of what was drawn (R)."""
        return 0.5 if isinstance(self.mix, str) else self.mix


RELEASED = LossConfig(
    absolute=0.1,
    weak_until=500,
    border=0.75,
    perspective="released",
    labelled2d=0.2,
    projection=True,
    far=10.0,
    centre="mean",
    mix="uniform",
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
    as_labelled2d: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """The weighted parts, each a scalar, by name; their sum is the loss.

    as_labelled2d [J,J]: 2D labels are of these weighted means of the predicted joints, see ``hips_moved``.
    """
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
        inside = reconstruct.in_fov(predicted.coords2d, grid.side, config.border * grid.stride)
        determined = inside.float().mean(1, keepdim=True) >= config.least_inside
        parts["absolute"] = config.absolute * absolute_loss(pose, batch, determined, config.far)
    if bool(only2d.any()):
        weak = batch.labelled & only2d
        flat, pose = predicted.coords2d, _on_image(predicted, batch, grid, config, step)
        if as_labelled2d is not None:
            flat, pose = as_labelled2d @ flat, as_labelled2d @ pose
        if not config.projection:
            pose = aligned(pose, batch.joints2d, weak)
        for part, weight, points, counted in (
            ("weak2d", config.head2d, flat, weak & in_crop),
            ("weak3d", config.head3d, pose, weak),
        ):
            error = (points - batch.joints2d).abs().mean(-1) * metres_a_pixel
            parts[part] = config.labelled2d * weight * _mean(error, counted)
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
    inside = reconstruct.in_fov(predicted.coords2d, grid.side, config.border * grid.stride)
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


def hips_moved(joint_names: Sequence[str], share: float) -> torch.Tensor | None:
    """[J,J] that moves hips by ``share`` of the way from pelvis to neck, as MPII labels them higher than 3DHP (P 6).

    None where nothing moves. Raises InputError where the skeleton lacks one of these joints.
    """
    if not share:
        return None
    lacking = [name for name in ("pelvis", "neck", *_HIPS) if name not in joint_names]
    if lacking:
        raise InputError(
            f"hips_up moves hips along the spine, and the skeleton lacks {', '.join(lacking)}: set it to 0."
        )
    row = {name: i for i, name in enumerate(joint_names)}
    moved = torch.eye(len(joint_names))
    for hip in _HIPS:
        moved[row[hip], row["neck"]] += share
        moved[row[hip], row["pelvis"]] -= share
    return moved


def _on_image(predicted: Prediction, batch: Batch, grid: Grid, config: LossConfig, step: int) -> torch.Tensor:
    """[N,J,2] of the 3D head: projected, px, or metric x and y, to be aligned with labels."""
    if not config.projection:
        return predicted.coords3d_rel[..., :2]
    projected = torch.einsum("nrc,njc->njr", batch.K, absolute_pose(predicted, batch, grid, config, step))
    return projected[..., :2] / projected[..., 2:].clamp_min(0.1)


def _centre(points: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
    share = labelled[..., None].to(points.dtype)
    return (points * share).sum(1, keepdim=True) / share.sum(1, keepdim=True).clamp_min(1)


def _mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean where the mask is set, 0 where nothing is; unset places may hold anything finite."""
    return (values * mask).sum() / mask.sum().clamp_min(1)
