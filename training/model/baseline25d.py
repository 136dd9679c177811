"""The 2.5D baseline (P 5): x and y in the image, z in metres around the root, scale from bone lengths at test time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from training.heatmap import Grid
from training.model.heads import VolumetricNetwork

Floats = NDArray[np.float64]

# The distance from which the search starts, m (P 5).
_START_DEPTH = 2.0


class Baseline25D(VolumetricNetwork):
    """[N,3,S,S] float32 RGB in 0..1 -> [N,J,3]: x, y px of the crop, z m (up to a constant)."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mean = self.expectation(image)
        return torch.cat([self.grid.pixels(mean[..., :2]), mean[..., 2:] * self.grid.box], -1)


def loss_25d(
    predicted: torch.Tensor, joints2d: torch.Tensor, depths: torch.Tensor, labelled: torch.Tensor, root: int, grid: Grid
) -> torch.Tensor:
    """L1 on 2.5D coordinates: predicted [N,J,3]; joints2d [N,J,2] px; depths [N,J] m; labelled [N,J]."""
    metres_a_pixel = grid.box / grid.side
    error2d = (predicted[..., :2] - joints2d).abs() * metres_a_pixel
    depth = predicted[..., 2] - predicted[:, root : root + 1, 2]
    error_z = (depth - (depths - depths[:, root : root + 1])).abs()
    error = torch.cat([error2d, error_z[..., None]], -1).mean(-1)
    return (error * labelled).sum() / labelled.sum().clamp_min(1)


def root_depth(
    pose25d: ArrayLike,
    K: ArrayLike,
    bones: tuple[tuple[int, int], ...],
    lengths: ArrayLike,
    inside: ArrayLike,
    root: int,
) -> float:
    """The root's depth, m, at which back-projected bones come nearest to ``lengths`` (P eq. 6).

    pose25d [J,3] (px, px, m); K [3,3]; bones: joint pairs, lengths [bones] m, the training set's; inside [J] bool.
    Levenberg–Marquardt from 2 m. NaN where no bone has both ends inside.
    """
    pose, inside = np.asarray(pose25d, np.float64), np.asarray(inside, bool)
    usable = [i for i, (a, b) in enumerate(bones) if inside[a] and inside[b]]
    if not usable:
        return float("nan")
    ends = np.array(bones)[usable]
    targets = np.asarray(lengths, np.float64)[usable]
    rays, depths = _rays(pose, K), pose[:, 2] - pose[root, 2]

    def discrepancy(depth: Floats) -> Floats:
        points = rays * (depths + depth)[:, None]
        return np.linalg.norm(points[ends[:, 0]] - points[ends[:, 1]], axis=-1) - targets

    return float(least_squares(discrepancy, [_START_DEPTH], method="lm").x[0])


def back_projected(pose25d: ArrayLike, K: ArrayLike, depth: float, root: int) -> Floats:
    """The absolute pose [J,3] m of a 2.5D pose whose root lies at ``depth`` m."""
    pose = np.asarray(pose25d, np.float64)
    return _rays(pose, K) * (pose[:, 2] - pose[root, 2] + depth)[:, None]


def _rays(pose: Floats, K: ArrayLike) -> Floats:
    homogeneous = np.concatenate([pose[:, :2], np.ones((len(pose), 1))], -1)
    return homogeneous @ np.linalg.inv(np.asarray(K, np.float64)).T
