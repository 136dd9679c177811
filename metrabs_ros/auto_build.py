"""Building a missing or stale engine while the node is being configured, with sentences on how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from metrabs_ros.build_engine import Reports, build_if_missing
from metrabs_ros.model_spec import find_spec, load_spec

PERIOD_S = 1.0


def build_first(engine: str, backend: str, say: Callable[[str], None]) -> None:
    """Builds what ``backend`` lacks to run the engine of a name or spec file; nothing where it lacks nothing.

    ``say`` is given a sentence at the start, at most one in PERIOD_S meanwhile, and one at the end. Raises InputError.
    """
    spec = load_spec(find_spec(engine))
    said_s = -PERIOD_S

    def progress(phase: str, part: float) -> bool:
        nonlocal said_s
        now_s = time.monotonic()
        if now_s - said_s >= PERIOD_S:
            said_s = now_s
            say(f"Building {spec.name} for {backend}, which takes minutes on some machines: {100 * part:.0f} %.")
        return True

    built = build_if_missing(spec, engine, backend, Reports(progress, say))
    if built is not None:
        precision, seconds = built.record.options.precision, built.record.build_seconds
        say(f"Built {spec.name} for {backend} in {precision}, {seconds:.0f} s: {built.path}.")
