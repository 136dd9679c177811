"""As good a network as a fixed time on one GPU gives, from crops that are rendered meanwhile.

    python -m training.render_pool POOL --workers 15 &
    python -m training.sprint heavy_tower POOL OUT --seconds 150 --batch-size 256
    python -m training.sprint heavy_tower POOL OUT --seconds 300 --start-from OUT/heads-0.safetensors \\
        --stages whole=3e-4:1.2e-4:0
    python -m training.train heavy_tower RUN --until 0 --start-from OUT/whole-0.safetensors \\
        --start-from OUT/whole-1.safetensors

The last line makes a checkpoint of the parts, for training.export. The heads come first, on the encoder as it is, then
everything at once: heads that know nothing yet would spoil what the encoder knows (Kumar et al. 2022, "Fine-tuning can
distort pretrained features"). Rates go down with time, not steps, as nobody knows beforehand how many steps there will
be; so a sprint cannot be resumed exactly, training.train can.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from safetensors.torch import save_file
from torch import nn

from metrabs_ros.errors import InputError
from training import checkpoint, losses
from training.config import TrainConfig, load_config
from training.ema import FastEma
from training.examples import Batch
from training.model import metrabs
from training.pool import Pool, held_out
from training.recolour import recoloured
from training.tensor_sizes import by_size
from training.validation import errors, to_input
from training.watched import Watched

_LEAST_CROPS = 1500
# A file may be no larger than this, bytes: weights are split so that they travel.
_LARGEST_FILE = 15_000_000

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Sprint:
    """A network, its optimizer and its average, for a given time.

    rate, encoder_rate: learning rates at the start, the encoder's in proportion to the size of each tensor; 0: the
    encoder stays as it is. fixed_blocks: so many of its first blocks stay so in any case.
    """

    def __init__(
        self, config: TrainConfig, device: torch.device, rate: float, encoder_rate: float, fixed_blocks: int = 0
    ) -> None:
        self.config, self.device = config, device
        torch.manual_seed(config.seed)
        self.model = metrabs.build(config.model, len(config.skeleton.joint_names))
        self.model = self.model.to(device).to(memory_format=torch.channels_last)
        self.rate, self.encoder_rate, self.fixed_blocks = rate, encoder_rate, fixed_blocks

    def begin(self) -> None:
        """After the weights are there: who is trained, how fast."""
        metrabs.fix_first_blocks(self.model, self.fixed_blocks)
        if self.config.fixed_depthwise:
            metrabs.fix_depthwise(self.model)
        self.model.freeze_encoder(self.encoder_rate == 0)
        groups = [{"params": list(self.model.head.parameters()), "base": self.rate, "weight_decay": 1e-2}]
        trained = [p for p in self.model.encoder.parameters() if p.requires_grad]
        for size, tensors in by_size(trained):
            groups.append({"params": tensors, "base": self.encoder_rate * size, "weight_decay": 0.0})
        # Fused, it can leave a step out without waiting for the device to say that it is not finite.
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)
        self.bad_steps = torch.zeros((), device=self.device)
        self.ema = FastEma(self.model, self.config.ema_decay)
        self.step = 0

    def update(self, batch: Batch, progress: float) -> torch.Tensor:
        """One step; ``progress`` 0..1 of the time. Returns the loss, still on the device."""
        factor = 0.5 * (1 + math.cos(math.pi * min(1.0, progress))) * min(1.0, (self.step + 1) / 100)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor
        config = self.config
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            predicted = self.model(recoloured(to_input(batch.image)))
        parts = losses.losses(predicted, batch, config.model.grid, config.root_index, config.loss, self.step)
        total = torch.stack(list(parts.values())).sum()
        total.backward()
        norm = nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.grad is not None], config.clip)
        bad = ~torch.isfinite(norm + total.detach())
        self.bad_steps = (self.bad_steps + 1) * bad
        self.optimizer.grad_scale, self.optimizer.found_inf = None, bad.float()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.ema.update(self.step)
        return torch.stack([total.detach(), norm.detach()])

    def check(self) -> None:
        """Raises InputError where the last steps were all left out, as their losses or gradients were not finite."""
        if self.bad_steps >= self.config.bad_steps:
            raise InputError(f"The last {int(self.bad_steps)} updates had no finite loss or gradient: lower the rates.")

    def judged(self, batches: list[Batch], watched: Watched | None) -> str:
        """What the averaged network scores on held-out people and on watched ones."""
        config = self.config
        with self.ema.instead():
            found = errors(self.model, batches, config.model.grid, config.root_index, config.loss)
            seen = watched.seen_by(self.model) if watched else {}
        self.model.train()
        told = [f"{name} {value:.3f}" if value < 10 else f"{name} {value:.1f}" for name, value in found.items()]
        return ", ".join(told + [f"watched {name} {value:.3g}" for name, value in seen.items()])


def run(
    sprints: dict[str, Sprint], pool: Pool, out: Path, seconds: float, batch_size: int, watched: Watched | None
) -> None:
    """All sprints see the same batches, in turn; what they score is told as they go."""
    for sprint in sprints.values():
        sprint.begin()
    pool.wait_for(_LEAST_CROPS, 120)
    batches = [batch.to(pool.device) for batch in held_out(pool.folder)]
    for name, sprint in sprints.items():
        print(f"{name}, before: {sprint.judged(batches, watched)}", flush=True)
    dice = np.random.default_rng(0)
    start, last_told, numbers = time.monotonic(), time.monotonic(), {}
    while (progress := (time.monotonic() - start) / seconds) < 1:
        batch = pool.drawn(batch_size, dice)
        for name, sprint in sprints.items():
            numbers[name] = sprint.update(batch, progress)
        pool.read(1)
        if time.monotonic() - last_told > 20:
            last_told = time.monotonic()
            for sprint in sprints.values():
                sprint.check()
            told = {name: [round(float(v), 4) for v in values] for name, values in numbers.items()}
            steps = {name: sprint.step for name, sprint in sprints.items()}
            print(f"{last_told - start:.0f} s: pool {pool.count}, steps {steps}, loss and gradient {told}", flush=True)
    for name, sprint in sprints.items():
        save(sprint, out, name)
        print(f"{name}, step {sprint.step}: {sprint.judged(batches, watched)}", flush=True)


def save(sprint: Sprint, out: Path, name: str) -> None:
    """The averaged weights in float16, split where they are many; those of the heads alone where no others changed."""
    state = {key: value.half().cpu().contiguous() for key, value in sprint.ema.state.items()}
    if not sprint.encoder_rate:
        state = {key: value for key, value in state.items() if key.startswith("head.")}
    part: dict[str, torch.Tensor] = {}
    number = 0
    out.mkdir(parents=True, exist_ok=True)
    for key, value in state.items():
        if sum(v.numel() * 2 for v in part.values()) + value.numel() * 2 > _LARGEST_FILE:
            save_file(part, out / f"{name}-{number}.safetensors")
            part, number = {}, number + 1
        part[key] = value
    save_file(part, out / f"{name}-{number}.safetensors")


@app.command()
def main(
    config: Annotated[str, typer.Argument(help="A name in training/configs, or a .py file that defines CONFIG.")],
    pool: Annotated[Path, typer.Argument(help="Folder that training.render_pool fills.")],
    out: Annotated[Path, typer.Argument(help="Where the weights go.")],
    seconds: Annotated[float, typer.Option(help="How long.")] = 300,
    start_from: Annotated[
        list[Path] | None, typer.Option(help="Weights to begin with: parts of a sprint's, or an engine.")
    ] = None,
    stages: Annotated[
        str, typer.Option(help="NAME=RATE:ENCODER_RATE:FIXED_BLOCKS, several by commas; each a network of its own.")
    ] = "heads=1e-3:0:0",
    batch_size: Annotated[int, typer.Option(help="Crops a step.")] = 128,
    capacity: Annotated[int, typer.Option(help="Crops that the device's memory holds: 0.2 MB each.")] = 250_000,
    watch: Annotated[Path | None, typer.Option(help="Crops of real people, see training.watched.")] = None,
) -> None:
    """Train for a given time and write the averaged weights."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        sprints = {}
        for stage in stages.split(","):
            name, _, rates = stage.partition("=")
            rate, encoder_rate, fixed = rates.split(":")
            sprints[name] = Sprint(load_config(config), device, float(rate), float(encoder_rate), int(fixed))
            for weights in start_from or []:
                checkpoint.begin_with(sprints[name].model, weights)
        crops = Pool(pool, device, capacity)
        run(sprints, crops, out, seconds, batch_size, Watched(watch) if watch else None)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    app()
