"""Errors of a network on held-out people, the few numbers that training watches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from training import losses, metrics
from training.examples import Batch
from training.heatmap import Grid
from training.losses import LossConfig


@torch.no_grad()
def errors(network: nn.Module, batches: Iterable[Batch], grid: Grid, root: int, config: LossConfig) -> dict[str, float]:
    """Means over labelled joints of all people: mpjpe (root-aligned), pa_mpjpe (Procrustes), a_mpjpe (absolute, with
    depth: that of the root), all mm; px: 2D error of joints on the crop; person: share of crops judged rightly."""
    config = replace(config, mix=config.test_mix)
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    sums: dict[str, list[float]] = {}
    for cpu_batch in batches:
        batch = cpu_batch.to(device)
        predicted = network(to_input(batch.image))
        pose = losses.absolute_pose(predicted, batch, grid, config, step=10**9)
        known = batch.labelled3d
        on_crop = batch.labelled & losses.inside_crop(batch.joints2d, grid)
        _add(sums, "px", (predicted.coords2d - batch.joints2d).norm(dim=-1)[on_crop])
        _add(sums, "a_mpjpe", (pose - batch.joints3d).norm(dim=-1)[known] * 1000)
        with_root = known & known[:, root : root + 1]
        relative = predicted.coords3d_rel - predicted.coords3d_rel[:, root : root + 1]
        true_relative = batch.joints3d - batch.joints3d[:, root : root + 1]
        _add(sums, "mpjpe", (relative - true_relative).norm(dim=-1)[with_root] * 1000)
        _add(sums, "depth", (pose - batch.joints3d)[:, root, 2][known[:, root]].abs() * 1000)
        enough = known.sum(1) >= 4
        # NaN where unlabelled. On the CPU: the device would be waited for at each of the tiny decompositions.
        truth = batch.joints3d.masked_fill(~known[..., None], torch.nan)
        aligned = metrics.procrustes_distances(_array(predicted.coords3d_rel[enough]), _array(truth[enough]))
        _add(sums, "pa_mpjpe", aligned[~np.isnan(aligned)] * 1000)
        if predicted.person_logit is not None:
            judged = batch.person | batch.background
            right = (predicted.person_logit > 0) == batch.person
            _add(sums, "person", right[judged].float())
    network.train(was_training)
    return {name: float(np.mean(values)) for name, values in sums.items() if values}


def to_input(image: torch.Tensor) -> torch.Tensor:
    """[N,S,S,3] uint8 -> [N,3,S,S] float32 in 0..1; stored maps [N,C,h,w] float16 -> float32."""
    if image.is_floating_point():
        return image.float()
    return image.permute(0, 3, 1, 2).float() / 255


def _array(poses: torch.Tensor) -> np.ndarray:
    return poses.cpu().double().numpy()


def _add(sums: dict[str, list[float]], name: str, values: torch.Tensor | np.ndarray) -> None:
    sums.setdefault(name, []).extend(values.tolist())
