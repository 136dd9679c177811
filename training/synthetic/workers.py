"""Processes that render blocks, and their blocks in order."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from metrabs_ros.errors import InputError
from training.examples import Example

if TYPE_CHECKING:
    from training.synthetic.stream import StreamConfig

_AHEAD = 2


def ordered_blocks(config: StreamConfig, workers: int, seed: int, first: int) -> Iterator[list[Example]]:
    """Blocks first, first + 1, ... of the stream; worker w renders every workers-th. Ends its processes when closed."""
    context = multiprocessing.get_context("spawn")
    queues: list[Any] = [context.Queue(_AHEAD) for _ in range(workers)]
    processes = [
        context.Process(target=_render, args=(config, seed, first + w, workers, queues[w]), daemon=True)
        for w in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        turn = 0
        while True:
            yield _next(queues[turn], processes[turn])
            turn = (turn + 1) % workers
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _next(blocks: Any, process: Any) -> list[Example]:
    while True:
        try:
            found = blocks.get(timeout=5)
        except queue.Empty:
            if not process.is_alive():
                raise InputError(
                    f"A rendering process ended (exit code {process.exitcode}): see its message above; start again."
                ) from None
            continue
        if isinstance(found, str):
            raise InputError(f"A rendering process failed: {found}")
        return found


def _render(config: StreamConfig, seed: int, first: int, step: int, blocks: Any) -> None:
    import cv2
    import torch

    from training.synthetic.stream import block

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    parent = os.getppid()
    number = first
    try:
        while os.getppid() == parent:
            blocks.put(block(config, seed, number))
            number += step
    except Exception as error:
        blocks.put(f"{type(error).__name__}: {error}")
        raise
