"""One run of the detector's training: its state, one update, and going on from a checkpoint exactly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from metrabs_ros.errors import InputError
from training import checkpoint
from training.detector import network
from training.detector.config import DetectorConfig
from training.detector.loss import losses
from training.detector.views import Pictures, View, sampled
from training.ema import Ema
from training.patience import Patience
from training.tensor_sizes import size_of


class Trainer:
    """Network, optimizer and averages; ``step`` updates have been made, the next one's views follow from it alone."""

    def __init__(self, config: DetectorConfig, detector: network.PersonDetector | None = None) -> None:
        self.config = config
        self.network = (detector or network.load()).to(memory_format=torch.channels_last)
        self.network.stem.requires_grad_(False)
        self.network.to_8.requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self._groups(), weight_decay=config.weight_decay)
        self.ema = Ema(self.network, config.ema_decay)
        self.step = 0
        self._patience = Patience(config.bad_steps)

    def update(self, pictures: Pictures) -> dict[str, float]:
        """One update; without finite loss and gradient nothing is changed. Raises InputError where that goes on."""
        config = self.config
        rate = config.schedule.rate(self.step, config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        views = [
            sampled(pictures, np.random.default_rng([config.seed, self.step, i]), config.size)
            for i in range(config.batch_size)
        ]
        parts = self._losses(self.network, views)
        total = torch.stack(list(parts.values())).sum()
        total.backward()
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), config.clip))
        found = {"loss": float(total.detach()), **{name: float(value.detach()) for name, value in parts.items()}}
        finite = math.isfinite(found["loss"]) and math.isfinite(norm)
        self.step += 1
        if finite:
            self.optimizer.step()
            self.ema.update(self.network, self.step)
        self._patience.count(finite, self.step, found)
        self.optimizer.zero_grad(set_to_none=True)
        return {**found, "rate": rate, "gradient": norm}

    @torch.no_grad()
    def validate(self, pictures: Pictures) -> dict[str, float]:
        """The averaged network's losses on the same views every time."""
        averaged = network.PersonDetector()
        averaged.load_state_dict(self.ema.state)
        averaged.eval()
        totals: dict[str, float] = {}
        count = self.config.views // self.config.batch_size
        for part in range(count):
            rngs = [np.random.default_rng([self.config.seed, 1, part, i]) for i in range(self.config.batch_size)]
            views = [sampled(pictures, rng, self.config.size) for rng in rngs]
            for name, value in self._losses(averaged, views).items():
                totals[name] = totals.get(name, 0.0) + float(value) / count
        return {"loss": sum(totals.values()), **totals}

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        names = {id(parameter): name for name, parameter in self.network.named_parameters()}
        optimizer = checkpoint.optimizer_tensors(self.optimizer, names)
        state = self.network.state_dict()
        # Views are drawn from generators of their own: torch's has nothing to remember.
        saved = checkpoint.Checkpoint(self.step, self.step, state, self.ema.state, optimizer, {}, facts)
        checkpoint.save(folder, saved)

    def resume(self, place: Path) -> None:
        """Raises InputError where the checkpoint belongs to another network."""
        saved = checkpoint.load(place)
        try:
            self.network.load_state_dict(saved.model)
            self.ema.state = {name: saved.ema[name] for name in self.ema.state}
        except (RuntimeError, KeyError) as error:
            raise InputError(f"The checkpoint {place} is not the person detector's: give another folder.") from error
        checkpoint.set_optimizer_tensors(self.optimizer, saved.optimizer, dict(self.network.named_parameters()))
        self.step = saved.step

    def _losses(self, detector: network.PersonDetector, views: list[View]) -> dict[str, torch.Tensor]:
        image = torch.from_numpy(np.stack([view.image for view in views])).permute(0, 3, 1, 2)
        image = (image.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        boxes, logits = detector(image)
        return losses(boxes, logits, [view.people for view in views], self.config.size)

    def _groups(self) -> list[dict[str, Any]]:
        """Each tensor has a rate of its size."""
        groups = []
        for name, tensor in self.network.named_parameters():
            if tensor.requires_grad:
                head = name.startswith(("scores", "boxes"))
                groups.append(
                    {"params": [tensor], "factor": size_of(tensor) * (self.config.head_rate if head else 1.0)}
                )
        return groups
