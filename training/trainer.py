"""One process of a training run: its state, one update, and going on from a checkpoint exactly."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from metrabs_ros.errors import InputError
from training import checkpoint, losses
from training.config import TrainConfig
from training.ema import Ema
from training.examples import Batch
from training.framing import facts_of
from training.model import metrabs
from training.patience import Patience
from training.recolour import recoloured
from training.tensor_sizes import size_of
from training.validation import errors, to_input


class Trainer:
    """Model, optimizer and averages of a run; ``step`` updates have been made, from ``batches`` batches.

    rank and world: this process and how many there are; each sees its own batches and all make the same update.
    """

    def __init__(self, config: TrainConfig, device: torch.device, rank: int = 0, world: int = 1) -> None:
        self.config, self.device, self.rank, self.world = config, device, rank, world
        torch.manual_seed(config.seed)
        self.model = metrabs.build(config.model, len(config.skeleton.joint_names)).to(device)
        # Depthwise convolutions are several times faster so, on CPUs as well.
        self.model = self.model.to(memory_format=torch.channels_last)
        metrabs.fix_first_blocks(self.model, config.fixed_blocks)
        if config.fixed_depthwise:
            metrabs.fix_depthwise(self.model)
        self.optimizer = torch.optim.AdamW(self._groups(), weight_decay=config.weight_decay)
        self.ema = Ema(self.model, config.ema_decay)
        self.step = 0
        self.batches = 0
        self.parts = -(-config.batch_size // config.ghost_batch) if config.ghost_batch else 1
        self.teacher = _teacher(config)
        moved = losses.hips_moved(config.skeleton.joint_names, config.loss.hips_up)
        self._as_labelled2d = None if moved is None else moved.to(device)
        self._patience = Patience(config.bad_steps)
        self._autocast = _autocast(config.precision, device)
        self._parallel: nn.Module = self.model
        self._enter_phase()
        checkpoint.seed_everything(config.seed, rank)

    def update(self, batch: Batch) -> dict[str, float]:
        """One update; returns its losses, learning rate and gradient norm. Without finite loss and gradient
        nothing is changed. Raises InputError when that happens too often, or when memory is too small for one example.
        """
        self._enter_phase()
        batch = batch.to(self.device)
        rate = self.config.schedule.rate(self.step, self.config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        parts = self._gradients(batch)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        finite = self._everywhere(math.isfinite(parts["loss"]) and bool(torch.isfinite(norm)))
        if finite:
            self.optimizer.step()
        self._patience.count(finite, self.step, parts)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.batches += 1
        if finite:
            self.ema.update(self.model, self.step)
        return {**parts, "rate": rate, "gradient": float(norm)}

    def validate(self) -> dict[str, float]:
        """Errors of the averaged network on the source's held-out people."""
        averaged = copy.deepcopy(self.model)
        averaged.load_state_dict(self.ema.state)
        batches = self.config.data.validation(self.config.batch_size)
        return errors(averaged, batches, self.config.model.grid, self.config.root_index, self.config.loss)

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write a checkpoint; every process must call it, the first one writes."""
        rng = {f"{rank}/{key}": value for rank, state in self._all_ranks() for key, value in state.items()}
        if self.rank:
            return
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        known = {
            "network": dataclasses.asdict(self.config.model),
            "joints": list(self.config.skeleton.joint_names),
            "edges": [list(edge) for edge in self.config.skeleton.edges],
            "confidence_weights": self.config.loss.confidence_weights,
            **facts_of(self.config.data.framing, self.config.loss),
        }
        checkpoint.save(
            folder,
            checkpoint.Checkpoint(
                self.step,
                self.batches,
                self.model.state_dict(),
                self.ema.state,
                checkpoint.optimizer_tensors(self.optimizer, names),
                rng,
                {**known, **facts},
            ),
        )

    def resume(self, place: Path) -> None:
        """Go on from a checkpoint. Raises InputError where it belongs to another network."""
        saved = checkpoint.load(place)
        try:
            self.model.load_state_dict(saved.model)
            self.ema.state = {name: saved.ema[name].to(self.device) for name in self.ema.state}
        except (RuntimeError, KeyError) as error:
            raise InputError(
                f"The checkpoint {place} belongs to another network than the config's: give another folder. ({error})"
            ) from error
        checkpoint.set_optimizer_tensors(self.optimizer, saved.optimizer, dict(self.model.named_parameters()))
        self.step, self.batches = saved.step, saved.batches
        own = {key.partition("/")[2]: value for key, value in saved.rng.items() if key.startswith(f"{self.rank}/")}
        if own:
            checkpoint.set_random_state(own)
        self._enter_phase()

    def begin_with(self, place: Path) -> None:
        """Take the averaged weights of another run's checkpoint, or of a file, where names and shapes agree."""
        checkpoint.begin_with(self.model, place)
        self.ema = Ema(self.model, self.config.ema_decay)

    def _groups(self) -> list[dict[str, Any]]:
        rate = self.config.encoder_rate
        encoder = list(self.model.encoder.parameters())
        heads = [{"params": list(self.model.head.parameters()), "factor": 1.0}]
        if not self.config.encoder_rate_by_size:
            return [{"params": encoder, "factor": rate}, *heads]
        return [{"params": [tensor], "factor": rate * size_of(tensor)} for tensor in encoder] + heads

    def _enter_phase(self) -> None:
        """What is frozen at this step; DistributedDataParallel must be told anew when that changes."""
        frozen = self.step < self.config.frozen_encoder_steps
        changed = frozen != self.model.encoder_frozen
        if changed:
            self.model.freeze_encoder(frozen)
        self.model.train()
        if self.step >= self.config.steps - self.config.frozen_norm_steps:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        if self.world > 1 and (changed or self._parallel is self.model):
            ids = [self.device.index] if self.device.type == "cuda" else None
            # The heads that a batch has no labels for get no gradient.
            self._parallel = DistributedDataParallel(self.model, device_ids=ids, find_unused_parameters=True)

    def _gradients(self, batch: Batch) -> dict[str, float]:
        """Backward in as many parts as ghost batches and memory ask for; returns the batch's losses."""
        while True:
            try:
                return self._gradients_in_parts(batch)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                self.optimizer.zero_grad(set_to_none=True)
                if self.world > 1 or self.parts >= len(batch):
                    raise InputError(
                        f"Memory does not suffice for {-(-len(batch) // self.parts)} examples at once: "
                        f"lower batch_size (now {self.config.batch_size}) and resume."
                    ) from error
            self.parts *= 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _gradients_in_parts(self, batch: Batch) -> dict[str, float]:
        count = min(self.parts, len(batch))
        totals: dict[str, float] = {}
        for number in range(count):
            # Every part has examples of each kind: losses are means over those labelled alike.
            part = batch[slice(number, None, count)]
            share = len(part) / len(batch)
            last = number == count - 1
            parallel = self._parallel
            waits = isinstance(parallel, DistributedDataParallel) and not last
            with parallel.no_sync() if waits else contextlib.nullcontext():
                found = self._losses(part)
                total = torch.stack(list(found.values())).sum()
                (total * share).backward()
            for name, value in {**found, "loss": total}.items():
                totals[name] = totals.get(name, 0.0) + float(value.detach()) * share
        return totals

    def _losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        teacher = None if self.teacher is None else self.teacher(batch)
        image = to_input(batch.image)
        with self._autocast:
            predicted = self._parallel(recoloured(image) if self.config.recolour else image)
        config = self.config
        return losses.losses(
            predicted,
            batch,
            config.model.grid,
            config.root_index,
            config.loss,
            self.step,
            teacher,
            self._as_labelled2d,
        )

    def _everywhere(self, here: bool) -> bool:
        """Whether something holds in every process."""
        if self.world == 1:
            return here
        flag = torch.tensor(float(here), device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MIN)
        return bool(flag)

    def _all_ranks(self) -> list[tuple[int, checkpoint.Tensors]]:
        own = checkpoint.random_state()
        if self.world == 1:
            return [(0, own)]
        states: list[Any] = [None] * self.world
        dist.all_gather_object(states, own)
        return list(enumerate(states))


def _teacher(config: TrainConfig) -> Any:
    if config.teacher is None or not config.loss.teacher:
        return None
    from training.distill import Teacher

    return Teacher(config.teacher, config.skeleton)


def _autocast(precision: str, device: torch.device) -> Any:
    wanted = precision == "bfloat16" or (
        precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    return torch.autocast(device.type, torch.bfloat16) if wanted else contextlib.nullcontext()


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
