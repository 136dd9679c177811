"""Train the person detector: `python -m training.detector.train RUN`, again to resume. See config for all of it."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from metrabs_ros.errors import InputError
from training import checkpoint
from training.detector.config import CONFIG, DetectorConfig
from training.detector.trainer import Trainer
from training.detector.views import Pictures
from training.train import Journal


def train(config: DetectorConfig, run: Path, until: int | None = None) -> Trainer:
    """Until the config's steps are done, or ``until``. Pictures that are rendered meanwhile are taken up; a run is
    repeated exactly where they were all there from the start."""
    torch.set_num_threads(config.threads)
    trainer = Trainer(config)
    saved = checkpoint.latest(run)
    if saved is not None:
        trainer.resume(saved)
    pictures, check = Pictures(config.pictures), Pictures(config.check)
    last = min(config.steps, until or config.steps)
    with Journal(run, trainer.step, last, quiet=False) as journal:
        while trainer.step < last:
            started = time.perf_counter()
            numbers = trainer.update(pictures)
            numbers["seconds"] = time.perf_counter() - started
            journal.note(trainer.step, numbers, shown=trainer.step % config.log_every == 0)
            done = trainer.step == last
            if trainer.step % config.validate_every == 0 or done:
                journal.validated(trainer.step, trainer.validate(check))
            if trainer.step % config.checkpoint_every == 0 or done:
                trainer.save(run, {"errors": journal.errors})
                pictures.look_again()
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--until", type=int, help="stop, with a checkpoint, after so many updates in all")
    options = parser.parse_args()
    try:
        train(CONFIG, options.run, options.until)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("Stopped; the same command resumes from the last checkpoint.", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
