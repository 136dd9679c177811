"""How a source of training frames people: whoever shows crops to the network afterwards must frame them so, too."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Framing:
    """box_scale: side of a crop over the longer side of a person's box; upright: what points up on it, the "body" or
    the "world" (metrabs_ros.model_spec.CropSpec)."""

    box_scale: float
    upright: str


# Synthetic crops are framed as the runtime frames what BlazePose's detector finds; data sets as in the paper.
RUNTIME = Framing(1.25, "body")
PAPER = Framing(1.0, "world")


def facts_of(framing: Framing, perspective: str) -> dict[str, Any]:
    """What a checkpoint keeps of how its network is to be used: framing, and by which perspective poses were placed."""
    return {"framing": asdict(framing), "perspective": perspective}


def framing_in(facts: dict[str, Any]) -> Framing:
    """The framing of a checkpoint; those written before it was kept are of synthetic people."""
    return Framing(**facts["framing"]) if "framing" in facts else RUNTIME


def perspective_in(facts: dict[str, Any]) -> str:
    """The perspective of a checkpoint, full or weak."""
    return str(facts.get("perspective", "full"))
