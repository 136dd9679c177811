"""The runtime's absolute reconstruction (metrabs_ros.reconstruct) in torch, so that gradients flow through it (P 4)."""

from __future__ import annotations

import torch

_LEAST_WEIGHT = 1e-4
# Of the authors' code.
RIDGE = 1e-2


def in_fov(coords2d: torch.Tensor, side: float, border: float) -> torch.Tensor:
    """[...,2] px of a crop of ``side`` px -> whether the joint is ``border`` px or more inside its edges (P 4.2)."""
    return ((coords2d >= border) & (coords2d <= side - border)).all(-1)


def normalized(coords2d: torch.Tensor, K: torch.Tensor) -> torch.Tensor:
    """Pixels [N,J,2] of cameras K [N,3,3] -> points [N,J,2] on the image plane at distance 1."""
    homogeneous = torch.cat([coords2d, torch.ones_like(coords2d[..., :1])], -1)
    return torch.einsum("nrc,njc->njr", torch.linalg.inv(K), homogeneous)[..., :2]


def absolute(
    coords2d: torch.Tensor,
    coords3d_rel: torch.Tensor,
    K: torch.Tensor,
    inside: torch.Tensor,
    confidence: torch.Tensor | None = None,
    perspective: str = "full",
    mix_3d: float | torch.Tensor = 0.0,
) -> torch.Tensor:
    """Absolute poses [N,J,3] m; arguments as in metrabs_ros.reconstruct.absolute, every float one differentiable.

    perspective: full, weak, or released (the authors' ridge solution). mix_3d: a number or [N,1,1], the weight of the
    translated metric pose for joints inside the image.
    """
    weights = inside.to(coords2d.dtype) * (1.0 if confidence is None else confidence) + _LEAST_WEIGHT
    points = normalized(coords2d, K)
    solve = {"full": full_perspective, "weak": weak_perspective, "released": released_full_perspective}[perspective]
    translated = coords3d_rel + solve(points, coords3d_rel, weights)[:, None]
    depth = translated[..., 2:]
    back_projected = torch.cat([points * depth, depth], -1)
    mixed = mix_3d * translated + (1 - mix_3d) * back_projected
    return torch.where(inside[..., None], mixed, translated)


def full_perspective(points: torch.Tensor, coords3d_rel: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The translation [N,3] m that minimises the weighted squared error of P eq. 4; closed form."""
    share = _shares(weights**2)
    right = points * coords3d_rel[..., 2:] - coords3d_rel[..., :2]
    mean_n, mean_right = _mean(points, share), _mean(right, share)
    spread_n, spread_right = points - mean_n[:, None], right - mean_right[:, None]
    covariance = torch.einsum("nj,njc,njc->n", share, spread_n, spread_right)
    variance = torch.einsum("nj,njc,njc->n", share, spread_n, spread_n)
    depth = -covariance / variance.clamp_min(1e-12)
    return torch.cat([mean_right + mean_n * depth[:, None], depth[:, None]], -1)


def weak_perspective(points: torch.Tensor, coords3d_rel: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The translation [N,3] m by the ratio of spreads: in metres over that on the image plane (P 4.1)."""
    share = _shares(weights)
    mean_n, mean_metric = _mean(points, share), _mean(coords3d_rel, share)
    spread_n, spread_metric = points - mean_n[:, None], (coords3d_rel - mean_metric[:, None])[..., :2]
    variance_n = torch.einsum("nj,njc,njc->n", share, spread_n, spread_n)
    variance_metric = torch.einsum("nj,njc,njc->n", share, spread_metric, spread_metric)
    mean_depth = (variance_metric / variance_n.clamp_min(1e-12)).clamp_min(1e-12).sqrt()
    return torch.cat([mean_n, torch.ones_like(mean_n[:, :1])], -1) * mean_depth[:, None] - mean_metric


def released_full_perspective(
    points: torch.Tensor, coords3d_rel: torch.Tensor, weights: torch.Tensor, batch_rms: bool = False
) -> torch.Tensor:
    """The authors' ridge solution of the same system. batch_rms: image points and right sides are scaled by their RMS
    over the whole batch, as they do, which lets people influence each other."""
    right = points * coords3d_rel[..., 2:] - coords3d_rel[..., :2]
    scale_points, scale_right = _rms(points, batch_rms), _rms(right, batch_rms)
    points, right = points / scale_points, right / scale_right
    ones, zeros = torch.ones_like(points[..., 0]), torch.zeros_like(points[..., 0])
    rows_x = torch.stack([ones, zeros, -points[..., 0]], -1)
    rows_y = torch.stack([zeros, ones, -points[..., 1]], -1)
    matrix = torch.cat([rows_x, rows_y], 1)
    squared = torch.cat([weights, weights], 1)[..., None] ** 2
    normal = matrix.mT @ (squared * matrix) + RIDGE * torch.eye(3, dtype=points.dtype, device=points.device)
    goal = matrix.mT @ (squared * torch.cat([right[..., 0], right[..., 1]], 1)[..., None])
    solution = torch.linalg.solve(normal, goal)[..., 0] * scale_right[..., 0]
    return torch.cat([solution[:, :2], solution[:, 2:] / scale_points[..., 0]], -1)


def _rms(values: torch.Tensor, over_batch: bool) -> torch.Tensor:
    axes = (0, 1, 2) if over_batch else (1, 2)
    return values.square().mean(axes, keepdim=True).sqrt()


def _shares(weights: torch.Tensor) -> torch.Tensor:
    return weights / weights.sum(1, keepdim=True)


def _mean(points: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    return torch.einsum("nj,njc->nc", share, points)
