"""What a finished run is judged by: a flat record of figures, metres and shares, by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training import metrics, reconstruct
from training.claims.feed import fixed
from training.claims.learner import Learner
from training.claims.people import Pictures
from training.claims.runs import JOINT_NAMES, ROOT, SKELETON, RunConfig
from training.examples import Batch
from training.model.baseline25d import Baseline25D, back_projected, root_depth
from training.model.metrabs import Metrabs
from training.protocols import truncation
from training.validation import to_input

Floats = NDArray[np.floating]
Figures = dict[str, float]

# People of the training set that are looked at, to see what was learned by heart.
_TRAINING_COUNT = 200
# People that are looked at at several strides: 8 costs ten times what 32 does.
_DENSE_COUNT = 150
# Stature from which people count as adults, m.
_ADULT = 1.5
# Depth of the farthest joint over that of the nearest, from which perspective counts as strong: MuCo's median (P 7).
_STRONG = 1.22
TRUNCATED_BINS = ((0, 0), (1, 3), (4, 6), (7, 9), (10, 16))
_ROOT = np.eye(len(JOINT_NAMES))[ROOT]


@dataclass(frozen=True, eq=False)
class Found:
    """Of N crops: labels joints3d [N,J,3] m, joints2d [N,J,2] px, K [N,3,3]; the network's relative [N,J,3] m (of the
    2.5D baseline px, px, m) and, of MeTRAbs alone, full and weak: absolute poses [N,J,3] m by either perspective."""

    joints3d: Floats
    joints2d: Floats
    K: Floats
    relative: Floats
    full: Floats | None
    weak: Floats | None


def figures(learner: Learner, training: Pictures, evaluation: Pictures) -> Figures:
    """All figures of a run's averaged network."""
    config = learner.config
    network = learner.averaged()
    whole = predicted(network, fixed(evaluation, config.side, len(evaluation)), config)
    if isinstance(network, Baseline25D):
        return baseline_figures(whole, training.joints(JOINT_NAMES), evaluation.heights, config)
    out = pose_figures(whole.relative, whole.joints3d, evaluation.heights)
    if whole.full is not None and whole.weak is not None:
        out |= absolute_figures(whole.full, whole.joints3d, "full/")
        out |= absolute_figures(whole.weak, whole.joints3d, "weak/")
    known = predicted(network, fixed(training, config.side, _TRAINING_COUNT), config)
    out["training/mpjpe"] = metrics.mpjpe(known.relative, known.joints3d, _ROOT)
    cut = predicted(network, fixed(evaluation, config.side, len(evaluation), truncated=True), config)
    out |= truncation_figures(cut.relative, cut.joints3d, truncation.outside(cut.joints2d, config.side))
    few = fixed(evaluation, config.side, _DENSE_COUNT)
    for stride in config.strides:
        found = predicted(learner.averaged(stride), few, config, stride)
        out[f"stride {stride}/mpjpe"] = metrics.mpjpe(found.relative, found.joints3d, _ROOT)
    return out


@torch.no_grad()
def predicted(network: nn.Module, batches: list[Batch], config: RunConfig, stride: int = 32) -> Found:
    """What the network says of the crops."""
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in ("relative", "full", "weak")}
    for batch in batches:
        answer = network(to_input(batch.image).contiguous(memory_format=torch.channels_last))
        if not isinstance(network, Metrabs):
            rows["relative"].append(answer)
            continue
        rows["relative"].append(answer.coords3d_rel)
        inside = reconstruct.in_fov(answer.coords2d, config.side, stride)
        for name in ("full", "weak"):
            pose = reconstruct.absolute(answer.coords2d, answer.coords3d_rel, batch.K, inside, None, name)
            rows[name].append(pose)
    arrays = {name: torch.cat(found).double().numpy() if found else None for name, found in rows.items()}
    labels = {name: torch.cat([getattr(b, name) for b in batches]).double().numpy() for name in
              ("joints3d", "joints2d", "K")}  # fmt: skip
    assert arrays["relative"] is not None
    return Found(**labels, relative=arrays["relative"], full=arrays["full"], weak=arrays["weak"])


def pose_figures(poses: Floats, truth: Floats, heights: Floats) -> Figures:
    """Root-relative figures of poses and truth [N,J,3] m of people of heights [N] m; scale: mean error of the summed
    bone lengths, as a share of the truth."""
    distance = metrics.distances(metrics.root_relative(poses, _ROOT), metrics.root_relative(truth, _ROOT))
    adult = heights >= _ADULT
    return {
        "mpjpe": metrics.mean_error(distance),
        "pa_mpjpe": metrics.p_mpjpe(poses, truth),
        "pck": metrics.pck(distance),
        "auc": metrics.auc(distance),
        "adults/mpjpe": metrics.mean_error(distance[adult]),
        "children/mpjpe": metrics.mean_error(distance[~adult]),
        "scale": metrics.mean_error(np.abs(_sizes(poses) / _sizes(truth) - 1)),
    }


def absolute_figures(poses: Floats, truth: Floats, prefix: str) -> Figures:
    """Figures of absolute poses [N,J,3] m; near: people under strong perspective, far: the others."""
    absolute = metrics.distances(poses, truth)
    relative = metrics.distances(metrics.root_relative(poses, _ROOT), metrics.root_relative(truth, _ROOT))
    near = truth[..., 2].max(1) / truth[..., 2].min(1) > _STRONG
    found = {
        "a_mpjpe": metrics.mean_error(absolute),
        "a_pck": metrics.pck(absolute),
        "mpjpe": metrics.mean_error(relative),
        "pck": metrics.pck(relative),
        "near/a_mpjpe": metrics.mean_error(absolute[near]),
        "far/a_mpjpe": metrics.mean_error(absolute[~near]),
        "median": float(np.median(absolute.mean(1))),
    }
    return {prefix + name: value for name, value in found.items()}


def truncation_figures(poses: Floats, truth: Floats, cut: NDArray[np.bool_]) -> Figures:
    """Root-relative errors where joints cut [N,J] are outside the crop: of all, the present and the truncated joints,
    and of all joints by how many are cut."""
    distance = metrics.distances(metrics.root_relative(poses, _ROOT), metrics.root_relative(truth, _ROOT))
    counts = cut.sum(1)
    names = ("truncated/all", "truncated/present", "truncated/absent")
    out = dict(zip(names, truncation.errors(distance, cut), strict=True))
    for low, high in TRUNCATED_BINS:
        out[f"truncated/{low}-{high}"] = metrics.mean_error(distance[(counts >= low) & (counts <= high)])
    return out


def baseline_figures(found: Found, training_joints: Floats, heights: Floats, config: RunConfig) -> Figures:
    """The 2.5D baseline's pose figures with the scale from average training bones (no prefix), each person's true bones
    ("true bones/") and the root's true depth ("true depth/"); training_joints [M,J,3] m."""
    edges = SKELETON.edges
    average = _lengths(training_joints).mean(0)
    own = _lengths(found.joints3d)
    ways: dict[str, list[Floats]] = {"": [], "true bones/": [], "true depth/": []}
    for i, (pose, K) in enumerate(zip(found.relative, found.K, strict=True)):
        inside = reconstruct.in_fov(torch.from_numpy(pose[:, :2].copy()), config.side, config.grid().stride).numpy()
        depths = (
            root_depth(pose, K, edges, average, inside, ROOT),
            root_depth(pose, K, edges, own[i], inside, ROOT),
            float(found.joints3d[i, ROOT, 2]),
        )
        for poses, depth in zip(ways.values(), depths, strict=True):
            poses.append(back_projected(pose, K, depth, ROOT))
    out: Figures = {}
    for prefix, poses in ways.items():
        judged = pose_figures(np.stack(poses), found.joints3d, heights)
        out |= {prefix + name: value for name, value in judged.items()}
    return out


def _lengths(poses: Floats) -> Floats:
    """[N,J,3] m -> [N,bones] m."""
    a, b = np.array(SKELETON.edges).T
    return np.linalg.norm(poses[:, a] - poses[:, b], axis=-1)


def _sizes(poses: Floats) -> Floats:
    return _lengths(poses).sum(1)
