"""The person detector's training run.

    python -m training.synthetic.cutouts
    python -m training.detector.scenes .cache/detector/train --blocks 100
    python -m training.detector.scenes .cache/detector/check --blocks 3 --seed 77
    python -m training.detector.train runs/detector
    python -m training.detector.export runs/detector engines/person_detector.onnx

Duration: 0.6 to 3 s an update on two shared cores, 25 minutes in all; a block of 40 pictures takes 5 to 10 s of a core.
Expected: before a fifth of the views were portraits, training.detector.evaluate on the 120 pictures of the check folder
found 77.9 % with 0.01 false alarms a picture, where BlazePose's own finds 64.3 % with 0.03; see training/RESULTS.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from training.schedule import Schedule


@dataclass(frozen=True)
class DetectorConfig:
    """steps updates from batch_size views of ``size`` px each; rates are factors of each tensor's root mean square,
    the heads' by ``head_rate`` larger; the network up to stride 8 stays BlazePose's. ``views`` for validation."""

    pictures: Path = Path(".cache/detector/train")
    check: Path = Path(".cache/detector/check")
    size: int = 224
    steps: int = 1200
    batch_size: int = 24
    schedule: Schedule = field(
        default_factory=lambda: Schedule(3e-3, 0.3, main_share=0.8, cooldown_start=0.15, cooldown_end=0.01, warm_up=30)
    )
    head_rate: float = 2.0
    weight_decay: float = 0.0
    clip: float = 10.0
    ema_decay: float = 0.99
    seed: int = 0
    threads: int = 2
    views: int = 96
    log_every: int = 10
    checkpoint_every: int = 50
    validate_every: int = 100
    bad_steps: int = 10


CONFIG = DetectorConfig()
