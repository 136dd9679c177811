"""How the verbs show engines."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from metrabs_ros import weights
from metrabs_ros.built_engines import built_engines
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import ModelSpec

console = Console(highlight=False, soft_wrap=True)


def weights_state(spec: ModelSpec) -> str:
    """Whether the weights are there, and what to do where they are not."""
    try:
        place = weights.find_weights(spec.weights, spec.path)
    except InputError:
        return f"missing: metrabs-engine fetch {spec.path.stem}" if spec.weights.source else "missing"
    return "there" if weights.has_hash(place, spec.weights.sha256) else f"wrong sha256: {place}"


def built_state(spec: ModelSpec) -> str:
    """The engines that were built of a spec's weights, and those built of others."""
    shown = []
    for engine in built_engines():
        record = engine.record
        if record.name == Path(spec.weights.file).stem:
            stale = "" if record.source_sha256 == spec.weights.sha256 else " (of other weights)"
            shown.append(f"{record.backend} {record.options.precision}{stale}")
    return ", ".join(shown)


def size_shown(nbytes: int) -> str:
    return f"{nbytes / 1e6:.1f} MB"
