"""How a network sees crops of real people that nobody has labelled, while it trains on synthetic ones.

Its poses are compared with another network's, whose own mirror images tell which of them to believe, and its bones with
themselves from frame to frame. Neither is the truth; a network that forgets real people shows in both.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from training import bones, metrics
from training.skeleton import JOINT_NAMES
from training.validation import to_input

_BATCH = 64


class Watched:
    """Crops stored with: images [N,S,S,3] uint8; joints2d [N,T,2] px, joints3d [N,T,3] m and confidence [N,T] of
    another network; own [T], the numbers of these joints here; steady [N]: where that network agrees with itself on
    the mirrored crop; person [N]."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as stored:
            self.images = torch.from_numpy(stored["images"])
            self.joints2d, self.joints3d = stored["joints2d"], stored["joints3d"]
            self.sure, self.own = stored["confidence"] > 0.5, stored["own"]
            self.steady, self.person = stored["steady"], stored["person"]

    @torch.no_grad()
    def seen_by(self, network: nn.Module) -> dict[str, float]:
        """px: 2D distance to joints that the other is sure of; p_mpjpe mm; longer: this one's bones over the other's,
        median; spread: of this one's bones (bones.spread), percent."""
        was_training = network.training
        network.eval()
        device = next(network.parameters()).device
        flat, metric = [], []
        for start in range(0, len(self.images), _BATCH):
            seen = network(to_input(self.images[start : start + _BATCH].to(device)))
            flat.append(seen.coords2d.float().cpu().numpy())
            metric.append(seen.coords3d_rel.float().cpu().numpy())
        network.train(was_training)
        joints2d, joints3d = np.concatenate(flat)[:, self.own], np.concatenate(metric)
        apart = np.linalg.norm(joints2d - self.joints2d, axis=-1)
        steady = self.steady
        theirs = bones.lengths(self.joints3d, [JOINT_NAMES[number] for number in self.own])
        return {
            "px": float(apart[steady][self.sure[steady]].mean()),
            "p_mpjpe": 1000 * float(metrics.p_mpjpe(joints3d[steady][:, self.own], self.joints3d[steady])),
            "longer": float(np.median(bones.lengths(joints3d, JOINT_NAMES)[steady].sum(1) / theirs[steady].sum(1))),
            "spread": 100 * bones.spread(joints3d, self.person, JOINT_NAMES),
        }
