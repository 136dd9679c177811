"""Runs side by side, each in a process of its own with one thread.

Not in __main__: new processes do not import that, and would not find what they are to do.
"""

from __future__ import annotations

import ctypes
import shutil
import signal
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import cv2
import torch

from training.claims import people, results
from training.claims.feed import Feed, stored
from training.claims.figures import figures
from training.claims.learner import trained
from training.claims.results import Result
from training.claims.runs import RunConfig
from training.memory import keep_freed_memory

# Linux's name in prctl.h.
_PR_SET_PDEATHSIG = 1


def train(folder: Path, runs: list[tuple[str, RunConfig]], lanes: int) -> None:
    """Train the runs that have no result yet, ``lanes`` at a time, each in its own process."""
    done = results.known(folder / "results")
    missing = [(variant, config) for variant, config in runs if config.key not in done]
    for config in {config.people: config for _, config in missing}.values():
        for held_out in (True, False):
            people.load(folder, config.people, held_out, lanes)
    with ProcessPoolExecutor(lanes, get_context("spawn"), initializer=_alone) as pool:
        sharing = {config.crops_key: config for _, config in missing}
        for made in [pool.submit(crops_of, folder, config) for config in sharing.values()]:
            made.result()
        waiting = [pool.submit(finished, folder, variant, config) for variant, config in missing]
        for number, one in enumerate(as_completed(waiting), 1):
            result, seconds = one.result()
            mm = result.figures["mpjpe"] * 1000
            said = f"{number}/{len(missing)} {result.variant}, seed {result.seed}: {mm:.1f} mm, {seconds:.0f} s of CPU"
            print(said, flush=True)


def crops_of(folder: Path, config: RunConfig) -> Path:
    """The folder of a run's augmented crops, made where it is not there yet."""
    return stored(folder, config, people.load(folder, config.people, held_out=False, workers=1))


def finished(folder: Path, variant: str, config: RunConfig) -> tuple[Result, float]:
    """One run to its end: trained, judged, its result written, its checkpoint removed; and seconds of CPU time."""
    started = time.process_time()
    training, evaluation = (people.load(folder, config.people, held_out, workers=1) for held_out in (False, True))
    feed = Feed(crops_of(folder, config), config.batch_size, config.seed)
    own = folder / "checkpoints" / config.key
    learner = trained(config, feed, own)
    result = Result(config.key, variant, config.seed, figures(learner, training, evaluation))
    results.save(folder / "results", result)
    shutil.rmtree(own, ignore_errors=True)
    return result, time.process_time() - started


def _alone() -> None:
    """One thread a process, which ends with the command."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    keep_freed_memory()
