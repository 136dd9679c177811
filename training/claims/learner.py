"""One run on one thread: network, loss and update of each kind; resumes from its checkpoint exactly."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from metrabs_ros.errors import InputError
from training import checkpoint, losses
from training.claims.feed import Feed
from training.claims.runs import ROOT, SKELETON, RunConfig
from training.ema import Ema
from training.examples import Batch
from training.model import metrabs
from training.model.baseline25d import Baseline25D, loss_25d
from training.model.blazepose_encoder import BlazePoseEncoder
from training.model.metrabs import Metrabs, MetrabsConfig
from training.model.metro import Metro
from training.validation import to_input

_CHECKPOINT_EVERY = 100
_CLIP = 1.0
_WEIGHT_DECAY = 1e-2


def network_of(config: RunConfig, stride: int = 32) -> nn.Module:
    """The run's kind of network, its heatmaps ``stride`` px apart. Raises InputError for an unknown kind."""
    grid, joints = config.grid(stride), len(SKELETON.joint_names)
    network: nn.Module
    if config.network == "metrabs":
        network = metrabs.build(MetrabsConfig(config.backbone, grid), joints)
    elif config.network == "metro":
        network = Metro(config.backbone, joints, grid)
    elif config.network == "2.5d":
        network = Baseline25D(config.backbone, joints, grid)
    else:
        raise InputError(f"There is no network {config.network!r}: give metrabs, metro or 2.5d.")
    for module in network.modules():
        if isinstance(module, BlazePoseEncoder):
            module.fix_first_blocks(config.fixed_blocks)
    return network.to(memory_format=torch.channels_last)


def loss_of(network: nn.Module, batch: Batch, config: RunConfig, step: int) -> torch.Tensor:
    """The paper's loss of that kind of network, m; the batch is one of stored maps."""
    predicted = network(to_input(batch.image).contiguous(memory_format=torch.channels_last))
    if isinstance(network, Metrabs):
        parts = losses.losses(predicted, batch, network.grid, ROOT, config.loss, step)
        return torch.stack(list(parts.values())).sum()
    if isinstance(network, Metro):
        return losses.relative_loss(predicted, batch.joints3d, batch.labelled3d, ROOT, "root")
    inside = batch.labelled & losses.inside_crop(batch.joints2d, config.grid())
    return loss_25d(predicted, batch.joints2d, batch.joints3d[..., 2], inside, ROOT, config.grid())


class Learner:
    """Network, optimizer and averages after ``step`` updates."""

    def __init__(self, config: RunConfig) -> None:
        self.config, self.step = config, 0
        torch.manual_seed(config.seed)
        self.network = network_of(config)
        heads = [p for name, p in self.network.named_parameters() if not name.startswith("encoder.")]
        encoder = [p for name, p in self.network.named_parameters() if name.startswith("encoder.") and p.requires_grad]
        groups = [{"params": encoder, "factor": config.encoder_rate}, {"params": heads, "factor": 1.0}]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=_WEIGHT_DECAY)
        self._ema = Ema(self.network, config.ema_decay)

    def update(self, batch: Batch) -> float:
        """One update; returns the loss. Raises InputError where it is not finite: the run is then worth nothing."""
        self.network.train()
        rate = self.config.schedule.rate(self.step, self.config.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        loss = loss_of(self.network, batch, self.config, self.step)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP))
        value = float(loss.detach())
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise InputError(f"Loss {value:.3g}, gradient {norm:.3g} at step {self.step}: lower the rate.")
        self._optimizer.step()
        self.step += 1
        self._ema.update(self.network, self.step)
        return value

    def averaged(self, stride: int = 32) -> nn.Module:
        """The averaged network, for evaluation, at a stride."""
        network = network_of(self.config, stride)
        network.load_state_dict(self._ema.state)
        return network.eval()

    def save(self, folder: Path) -> None:
        names = {id(parameter): name for name, parameter in self.network.named_parameters()}
        optimizer = checkpoint.optimizer_tensors(self._optimizer, names)
        checkpoint.save(
            folder,
            checkpoint.Checkpoint(
                self.step,
                self.step,
                self.network.state_dict(),
                self._ema.state,
                optimizer,
                checkpoint.random_state(),
                {"run": self.config.key},
            ),
            keep=1,
        )

    def resume(self, place: Path) -> None:
        """Raises InputError where the checkpoint is damaged or another run's."""
        saved = checkpoint.load(place)
        if saved.facts.get("run") != self.config.key:
            raise InputError(f"The checkpoint {place} is of another run: delete its folder.")
        self.network.load_state_dict(saved.model)
        self._ema.state = saved.ema
        checkpoint.set_optimizer_tensors(self._optimizer, saved.optimizer, dict(self.network.named_parameters()))
        checkpoint.set_random_state(saved.rng)
        self.step = saved.step


def trained(config: RunConfig, feed: Feed, folder: Path, until: int | None = None) -> Learner:
    """The run after all its updates (or ``until``), from its last checkpoint in ``folder`` where there is one."""
    learner = Learner(config)
    place = checkpoint.latest(folder)
    if place is not None:
        learner.resume(place)
    last = min(config.steps, until or config.steps)
    while learner.step < last:
        learner.update(feed.batch(learner.step))
        if learner.step % _CHECKPOINT_EVERY == 0 or learner.step == last:
            learner.save(folder)
    return learner
