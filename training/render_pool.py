"""Renders synthetic crops into a folder until it is ended: `python -m training.render_pool FOLDER --workers 15`.

``--config NAME``: the kind of crops that this training config asks for. The folder is best in memory (/dev/shm):
training.sprint draws from it while it grows. A part is one block of the synthetic stream and crops without people;
parts for validation come first.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from metrabs_ros.errors import InputError
from training.config import load_config
from training.examples import LABELS, Batch, collate, joined
from training.negatives import negatives
from training.people import SyntheticPeople
from training.synthetic import evaluation_set, stream
from training.synthetic.stream import StreamConfig

HELD_OUT = "held-out"
PART = "part"
_HELD_OUT_PARTS = 10
_EMPTY, _PHOTOS = 4, 3
# The runtime turns most crops by the body's own axis.
_TRAINING = StreamConfig(body_up=0.5)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def streams(config: str | None) -> tuple[StreamConfig, StreamConfig]:
    """What is rendered for training, and what is held out: as a training config asks for, or as usual.

    Raises InputError where the config trains on something else than synthetic people.
    """
    if config is None:
        return _TRAINING, StreamConfig(held_out=True)
    data = load_config(config).data
    if not isinstance(data, SyntheticPeople):
        raise InputError(f"The config {config} trains on {type(data).__name__}: only SyntheticPeople are rendered.")
    return data.config, replace(data.config, held_out=True)


def rendered(config: StreamConfig, number: int, seed: int) -> Batch:
    """A block of people, scenes that they have left, and pieces of photos."""
    people = collate(stream.block(config, seed, number))
    empty = collate(stream.empty_block(config, seed, number, _EMPTY))
    return joined([people, empty, negatives(_PHOTOS, config.side, (seed, number), config.held_out, config.things)])


def write(folder: Path, name: str, batch: Batch) -> None:
    """One part, uncompressed; whole as soon as it is there."""
    labels = {label: getattr(batch, label).numpy() for label in LABELS}
    draft = folder / f".{name}.{os.getpid()}.npz"
    np.savez(draft, image=batch.image.numpy(), sources=np.array(batch.sources), **labels)
    draft.rename(folder / f"{name}.npz")


def _render(
    folder: Path, training: StreamConfig, held_out: StreamConfig, seed: int, first: int, step: int, limit: int
) -> None:
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    parent = os.getppid()
    for number in range(first, _HELD_OUT_PARTS, step):
        write(folder, f"{HELD_OUT}-{number:06d}", rendered(held_out, number, evaluation_set.SEED))
    for number in itertools.takewhile(lambda n: n < limit, itertools.count(first, step)):
        if os.getppid() != parent:
            return
        write(folder, f"{PART}-{number:06d}", rendered(training, number, seed))


@app.command()
def main(
    folder: Annotated[Path, typer.Argument(help="Where the parts go.")],
    config: Annotated[str | None, typer.Option(help="A name in training/configs whose crops are rendered.")] = None,
    workers: Annotated[int, typer.Option(help="Processes, one core each.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the stream.")] = 0,
    parts: Annotated[int, typer.Option(help="How many there are at most: 14 MB each.")] = 4000,
) -> None:
    """Render until ended, or until all parts are there."""
    try:
        training, held_out = streams(config)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_render, args=(folder, training, held_out, seed, worker, workers, parts), daemon=True)
        for worker in range(workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


if __name__ == "__main__":
    app()
