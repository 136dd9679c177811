"""The detector's loss: who is there (focal), and where their circle is."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from metrabs_ros.detector import anchor_centers
from training.detector.targets import ANCHORS, People, assigned

_FOCUS = 2.0
# Part of the weight that anchors of people have against those of nobody.
_SHARE = 0.5
_PLACES = 2.0
# Errors of places below this part of the radius count squared.
_BETA = 0.1
# Columns of hips and rim.
HIPS = slice(4, 6)
RIM = slice(6, 8)


def losses(boxes: torch.Tensor, logits: torch.Tensor, people: list[People], size: int) -> dict[str, torch.Tensor]:
    """boxes [N,A,12] px and logits [N,A] of N views of ``size`` px; ``people`` in each. Terms to be added up."""
    targets = [assigned(those, size) for those in people]
    person = torch.from_numpy(np.stack([target.person for target in targets]))
    weight = torch.from_numpy(np.stack([target.weight for target in targets]))
    told, nobody = person >= 0, person == -1
    answers = (weight * told).sum().clamp(min=1)
    likely = logits.sigmoid()
    there = _SHARE * (1 - likely) ** _FOCUS * functional.softplus(-logits)
    absent = (1 - _SHARE) * likely**_FOCUS * functional.softplus(logits)
    found = (there * weight * told).sum() / answers
    imagined = (absent * nobody).sum() / answers
    centers = torch.from_numpy(anchor_centers(ANCHORS, size) * np.float32(size))
    errors = []
    for n, those in enumerate(people):
        at = told[n].nonzero()[:, 0]
        if len(at):
            who = person[n, at].numpy()
            radius = torch.from_numpy(those.radius[who].astype(np.float32))[:, None]
            for columns, places in ((HIPS, those.hips), (RIM, those.rim)):
                wanted = torch.from_numpy(places[who].astype(np.float32)) - centers[at]
                gap = (boxes[n, at, columns] - wanted) / radius
                gap = functional.smooth_l1_loss(gap, torch.zeros_like(gap), beta=_BETA, reduction="none")
                errors.append((gap.sum(1) * weight[n, at]).sum())
    places_loss = torch.stack(errors).sum() if errors else boxes.sum() * 0
    return {"found": found, "imagined": imagined, "places": _PLACES * places_loss / answers}
