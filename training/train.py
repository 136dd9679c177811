"""Train a network: `python -m training.train CONFIG RUN`, again to resume; with torchrun on several GPUs."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import torch
import torch.distributed as dist
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from metrabs_ros.errors import InputError
from training import checkpoint
from training.config import TrainConfig, load_config
from training.examples import Batch
from training.memory import keep_freed_memory
from training.trainer import Trainer

# A data set that fails this often without one good batch in between is gone.
_MAX_REOPENINGS = 3

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    config: Annotated[str, typer.Argument(help="A name in training/configs, or a .py file that defines CONFIG.")],
    run: Annotated[Path, typer.Argument(help="Folder of checkpoints and TensorBoard events; resumed where it exists.")],
    until: Annotated[
        int | None, typer.Option(min=0, help="Stop, with a checkpoint, after this many updates in all; 0: none.")
    ] = None,
    start_from: Annotated[
        list[Path] | None, typer.Option(help="A checkpoint, or files (a sprint's parts), of weights to begin with.")
    ] = None,
) -> None:
    """Train until the config's steps are done, or --until; resume by giving the same command again."""
    try:
        _train(load_config(config), run, until, start_from)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("Stopped; the same command resumes from the last checkpoint.", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        had_group = dist.is_initialized()
        if had_group:
            dist.destroy_process_group()
    if had_group:
        _leave()


def _leave() -> NoReturn:
    """End this process without the destructors of libraries: DistributedDataParallel holds on to the process group,
    whose threads still run then, after its end (torch 2.13, gloo)."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _train(config: TrainConfig, run: Path, until: int | None, start_from: list[Path] | None) -> None:
    keep_freed_memory()
    device, rank, world = _processes()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    trainer = Trainer(config, device, rank, world)
    saved = checkpoint.latest(run)
    if saved is not None:
        trainer.resume(saved)
    else:
        for place in start_from or []:
            trainer.begin_with(place)
    last = config.steps if until is None else min(config.steps, until)
    stop = _asked_to_stop()
    if last == 0 and saved is None:
        trainer.save(run, {"errors": {}})
    with Journal(run, trainer.step, last, quiet=rank > 0) as journal:
        stream = _survivable(config, trainer, journal)
        while trainer.step < last and not stop.is_set():
            waited = time.perf_counter()
            batch = next(stream)
            started = time.perf_counter()
            numbers = trainer.update(batch)
            numbers |= {"seconds": time.perf_counter() - started, "waited": started - waited}
            journal.note(trainer.step, numbers, shown=trainer.step % config.log_every == 0)
            done = trainer.step == last
            if (trainer.step % config.validate_every == 0 or done) and rank == 0:
                journal.validated(trainer.step, trainer.validate())
            if trainer.step % config.checkpoint_every == 0 or done or (stop.is_set() and world == 1):
                trainer.save(run, {"errors": journal.errors})
        if stop.is_set():
            journal.say(f"Stopped at step {trainer.step}; the same command resumes.")


def _asked_to_stop() -> threading.Event:
    """Set by SIGTERM, which ends a run after the current update, with a checkpoint.

    Several processes would have to agree on the step: theirs is the last one written.
    """
    stop = threading.Event()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return stop


def _survivable(config: TrainConfig, trainer: Trainer, journal: Journal) -> Iterator[Batch]:
    """The config's batches. A shard that vanishes or a worker that dies costs its batch; a data set that stays away
    ends the run with InputError, which can be resumed."""
    failures = 0
    while True:
        stream = config.data.batches(config.batch_size, config.seed, trainer.batches, trainer.rank)
        try:
            for batch in stream:
                failures = 0
                yield batch
            raise InputError("The data ended, but training needs an endless stream: check the config's data.")
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            failures += 1
            if failures > _MAX_REOPENINGS:
                raise InputError(
                    f"The data cannot be read any more ({error}), tried {failures} times: bring it back and resume "
                    f"from step {trainer.step}'s last checkpoint."
                ) from error
            journal.say(f"A batch was lost ({error}); going on with the next one.")
            trainer.batches += 1


class Journal:
    """What a run says: TensorBoard events and either a progress bar (terminal) or lines (log file)."""

    def __init__(self, run: Path, first: int, last: int, quiet: bool) -> None:
        self.errors: dict[str, float] = {}
        self._quiet = quiet
        self._writer: Any = None
        if not quiet:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(run), purge_step=first)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            disable=quiet or not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("training", total=last, completed=first)

    def __enter__(self) -> Journal:
        self._bar.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._bar.stop()
        if self._writer is not None:
            self._writer.close()

    def note(self, step: int, numbers: dict[str, float], shown: bool) -> None:
        self._bar.update(self._task, completed=step, description=f"loss {numbers['loss']:.3f}")
        if shown and self._writer is not None:
            for name, value in numbers.items():
                self._writer.add_scalar(f"train/{name}", value, step)
            self.say(f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in numbers.items()))

    def validated(self, step: int, found: dict[str, float]) -> None:
        self.errors = found
        for name, value in found.items():
            self._writer.add_scalar(f"validation/{name}", value, step)
        self.say(f"step {step}, held-out people: " + ", ".join(f"{name} {value:.1f}" for name, value in found.items()))

    def say(self, text: str) -> None:
        if not self._quiet:
            self._bar.console.print(text, highlight=False, soft_wrap=True)


def _processes() -> tuple[torch.device, int, int]:
    """This process's device, rank and how many processes torchrun started; alone: (best device, 0, 1)."""
    gpu = torch.cuda.is_available()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return torch.device("cuda" if gpu else "cpu"), 0, 1
    dist.init_process_group("nccl" if gpu else "gloo")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    return device, dist.get_rank(), world


if __name__ == "__main__":
    app()
