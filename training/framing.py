"""What of training holds for whoever uses the network afterwards: how crops frame people, how poses are placed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from metrabs_ros.model_spec import CropSpec, ReconstructionSpec
from training.losses import LossConfig
from training.reconstruct import RIDGE

# Synthetic crops are framed as the runtime frames what its detectors find; data sets as in the paper.
RUNTIME = CropSpec(box_scale=1.25, upright="body")
PAPER = CropSpec(box_scale=1.0, upright="world")


def facts_of(framing: CropSpec, loss: LossConfig) -> dict[str, Any]:
    """What a checkpoint keeps of how its network is to be used: as it was trained."""
    reconstruction = {
        "perspective": "weak" if loss.perspective == "weak" else "full",
        "border_strides": loss.border,
        "ridge": RIDGE if loss.perspective == "released" else 0.0,
        "mix_3d": loss.test_mix,
    }
    return {"framing": asdict(framing), "reconstruction": reconstruction}


def crop_in(facts: dict[str, Any]) -> CropSpec:
    """How a checkpoint's crops frame people; those written before this was kept are of synthetic people."""
    return CropSpec(**facts["framing"]) if "framing" in facts else RUNTIME


def reconstruction_in(facts: dict[str, Any], stride: int) -> ReconstructionSpec:
    """How a checkpoint's poses are placed, at a stride of its heatmaps in px."""
    kept = dict(facts.get("reconstruction", {}))
    return ReconstructionSpec(border=kept.pop("border_strides", 1.0) * stride, **kept)
