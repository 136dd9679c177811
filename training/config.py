"""What a training run is made of. The modules in training/configs each define one CONFIG."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import CropSpec
from metrabs_ros.skeleton import Skeleton
from training.examples import Batch
from training.losses import LossConfig
from training.model.metrabs import MetrabsConfig
from training.schedule import Schedule
from training.skeleton import SKELETON


class PeopleSource(Protocol):
    """Where batches come from; the same arguments give the same batches."""

    @property
    def framing(self) -> CropSpec:
        """How people lie on its crops."""

    def batches(self, batch_size: int, seed: int, skip: int, rank: int) -> Iterator[Batch]:
        """An endless stream for process ``rank``, after leaving out ``skip`` batches."""

    def validation(self, batch_size: int) -> Iterable[Batch]:
        """People whom training never sees; the same every time."""


@dataclass(frozen=True)
class TrainConfig:
    """One run.

    steps: updates in all; batch_size: of each process; encoder_rate: the encoder's learning rate as a factor of the
    heads' and, encoder_rate_by_size, of each tensor's root mean square, for weights of very different sizes, as where
    batch norms are folded into them; frozen_encoder_steps: the encoder stays as it is until then;
    fixed_blocks: so many of BlazePose's first blocks stay so all the time; fixed_depthwise: its convolutions of single
    channels, too, half of a CPU's time; recolour: each crop in other colours each time it is seen; frozen_norm_steps:
    batch norm keeps its statistics for the last so many steps; ghost_batch: it takes them from so many examples at a
    time, which then go through the network apart from the rest of the batch (0: from the whole batch; Hoffer et al.
    2017); clip: largest gradient norm; bad_steps: so many updates in a row without a finite gradient end the run;
    teacher: name of the engine to distil from, where loss.teacher > 0; precision: auto is bfloat16 on a GPU that has it
    ("bfloat16" is faster on CPUs with AMX); threads: of torch on the CPU (None: all cores), which the data's processes
    need, too.
    """

    model: MetrabsConfig
    data: PeopleSource
    steps: int
    loss: LossConfig = field(default_factory=LossConfig)
    schedule: Schedule = field(default_factory=Schedule)
    batch_size: int = 64
    weight_decay: float = 1e-2
    encoder_rate: float = 1.0
    encoder_rate_by_size: bool = False
    frozen_encoder_steps: int = 0
    fixed_blocks: int = 0
    fixed_depthwise: bool = False
    recolour: bool = False
    frozen_norm_steps: int = 0
    ghost_batch: int = 0
    clip: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    log_every: int = 50
    validate_every: int = 1000
    checkpoint_every: int = 500
    bad_steps: int = 10
    teacher: str | None = None
    precision: str = "auto"
    threads: int | None = None
    skeleton: Skeleton = SKELETON
    root: str = "pelvis"

    @property
    def root_index(self) -> int:
        return self.skeleton.joint_names.index(self.root)


def load_config(name: str) -> TrainConfig:
    """CONFIG of a module given by name (of training/configs, or dotted) or by file. Raises InputError."""
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise InputError(f"There is no config at {path}: give an existing .py file or a name of training/configs.")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Dataclasses look their own module up.
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    else:
        dotted = name if "." in name else f"training.configs.{name}"
        try:
            module = importlib.import_module(dotted)
        except ModuleNotFoundError as error:
            if error.name is None or not dotted.startswith(error.name):
                raise
            known = sorted(p.stem for p in (Path(__file__).parent / "configs").glob("[!_]*.py"))
            raise InputError(f"There is no config named {name!r}: there are {', '.join(known)}.") from None
    config = getattr(module, "CONFIG", None)
    if not isinstance(config, TrainConfig):
        raise InputError(f"The config {name} must define CONFIG, a TrainConfig; it defines {type(config).__name__}.")
    return config
