"""Renders synthetic crops into a folder until it is ended: `python -m training.render_pool FOLDER --workers 15`.

The folder is best in memory (/dev/shm): training.sprint draws from it while it grows. A part is one block of the
synthetic stream and crops without people; parts for validation come first.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from training.examples import LABELS, Batch, collate, joined
from training.negatives import negatives
from training.synthetic import evaluation_set, stream
from training.synthetic.stream import StreamConfig

HELD_OUT = "held-out"
PART = "part"
_HELD_OUT_PARTS = 10
_EMPTY, _PHOTOS = 4, 3
# The runtime turns most crops by the body's own axis.
_TRAINING = StreamConfig(body_up=0.5)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def rendered(number: int, seed: int, held_out: bool) -> Batch:
    """A block of people, scenes that they have left, and pieces of photos."""
    config = StreamConfig(held_out=True) if held_out else _TRAINING
    people = collate(stream.block(config, seed, number))
    empty = collate(stream.empty_block(config, seed, number, _EMPTY))
    return joined([people, empty, negatives(_PHOTOS, config.side, (seed, number), held_out)])


def write(folder: Path, name: str, batch: Batch) -> None:
    """One part, uncompressed; whole as soon as it is there."""
    labels = {label: getattr(batch, label).numpy() for label in LABELS}
    draft = folder / f".{name}.{os.getpid()}.npz"
    np.savez(draft, image=batch.image.numpy(), sources=np.array(batch.sources), **labels)
    draft.rename(folder / f"{name}.npz")


def _render(folder: Path, seed: int, first: int, step: int, limit: int) -> None:
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    parent = os.getppid()
    for number in range(first, _HELD_OUT_PARTS, step):
        write(folder, f"{HELD_OUT}-{number:06d}", rendered(number, evaluation_set.SEED, True))
    for number in itertools.takewhile(lambda n: n < limit, itertools.count(first, step)):
        if os.getppid() != parent:
            return
        write(folder, f"{PART}-{number:06d}", rendered(number, seed, False))


@app.command()
def main(
    folder: Annotated[Path, typer.Argument(help="Where the parts go.")],
    workers: Annotated[int, typer.Option(help="Processes, one core each.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the stream.")] = 0,
    parts: Annotated[int, typer.Option(help="How many there are at most: 14 MB each.")] = 4000,
) -> None:
    """Render until ended, or until all parts are there."""
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_render, args=(folder, seed, worker, workers, parts), daemon=True)
        for worker in range(workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


if __name__ == "__main__":
    app()
