"""A network as it is exported: pictures in, plain tensors of joints out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from training.model.heads import Prediction
from training.model.metrabs import Metrabs, MetrabsConfig


class Deployed(nn.Module):
    """image [N,S,S,3] or [N,3,S,S] float32 RGB in 0..1 -> plain tensors.

    coords2d [N,J,2] px, coords3d_rel [N,J,3] m, spread2d [N,J] px, spread3d [N,J] m, and where the network has them
    confidence [N,J] and person_score [N,1] in 0..1. counterparts [J], Skeleton.mirror: each picture is seen mirrored as
    well and both are averaged (twice the work).
    """

    def __init__(self, network: Metrabs, layout: str, counterparts: Sequence[int] | None = None) -> None:
        super().__init__()
        self.network, self.layout = network.eval(), layout
        self.counterparts = None if counterparts is None else list(counterparts)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        picture = image.permute(0, 3, 1, 2) if self.layout == "NHWC" else image
        if self.counterparts is None:
            return tuple(_outputs(self.network(picture)))
        side = self.network.grid.side
        seen = _outputs(self.network(torch.cat([picture, picture.flip(3)])))
        # [2N,...] -> the pictures as they are, and mirrored.
        plain, mirrored = zip(*(part.reshape(2, -1, *part.shape[1:]).unbind(0) for part in seen), strict=True)
        back = [part[:, self.counterparts] if part.ndim > 1 and part.shape[1] > 1 else part for part in mirrored]
        back[0] = torch.cat([side - 1 - back[0][..., :1], back[0][..., 1:]], -1)
        back[1] = torch.cat([-back[1][..., :1], back[1][..., 1:]], -1)
        return tuple((one + other) / 2 for one, other in zip(plain, back, strict=True))


def output_names(config: MetrabsConfig) -> list[str]:
    """The names of a deployed network's outputs, in order."""
    names = ["coords2d", "coords3d_rel", "spread2d", "spread3d"]
    return names + ["confidence"] * config.confidence + ["person_score"] * config.person


def _outputs(seen: Prediction) -> list[torch.Tensor]:
    outputs = [seen.coords2d, seen.coords3d_rel, seen.spread2d, seen.spread3d]
    if seen.confidence_logit is not None:
        outputs.append(seen.confidence_logit.sigmoid())
    if seen.person_logit is not None:
        outputs.append(seen.person_logit.sigmoid()[:, None])
    return outputs
