"""The runs that the claims need: each a few minutes of one core; a run that several claims need is trained once.

All begin with BlazePose's encoder, whose stem and first ten blocks stay as they are: real people's features stand for
the paper's ImageNet weights, and most of the forward pass can be stored. One core trains 230 such crops of 160 px a
second; of networks that would have to begin from nothing, MobileNetV3-small sees 100 (128 px, stride 16), ResNet-18 35
(96 px, stride 16), EfficientNet-Lite0 54 (128 px, stride 32). At 160 px a map at stride 32 has 5×5 cells; the volume of
2.6 m lets these span 2.1 m. Every run has 500 updates of 16 crops: two in three of the 12,000 stored crops
are seen, and each picture twice.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace

from metrabs_ros.skeleton import Skeleton
from training import skeleton
from training.augment import AugmentConfig
from training.claims.people import VERSION, PeopleConfig
from training.heatmap import Grid
from training.losses import LossConfig
from training.schedule import Schedule

# Seventeen joints, as on Human3.6M.
JOINT_NAMES = tuple(
    name for name in skeleton.JOINT_NAMES if not name.endswith(("heel", "foot", "eye", "ear", "hand"))
)  # fmt: skip
SKELETON = Skeleton.from_names(
    JOINT_NAMES, [edge for edge in skeleton.EDGES if set(edge) <= set(JOINT_NAMES)]
)  # fmt: skip
ROOT = JOINT_NAMES.index("pelvis")


@dataclass(frozen=True)
class RunConfig:
    """network: metrabs, metro or 2.5d; centred: striding; absolute: perspective of the absolute loss (full, weak) or
    none; geometry, colour, occlusion: augmentation on or off; truncation: probability of a truncated crop; strides that
    the finished network is tested at. The rest is the same in all runs; showings: augmented crops of each picture,
    which are all that training sees; absolute_from: part of the steps before the absolute loss."""

    network: str = "metrabs"
    centred: bool = True
    absolute: str = "full"
    geometry: bool = True
    colour: bool = True
    occlusion: bool = True
    truncation: float = 0.0
    strides: tuple[int, ...] = (32,)
    seed: int = 0
    backbone: str = "blazepose"
    fixed_blocks: int = 10
    side: int = 160
    depth: int = 8
    box: float = 2.6
    showings: int = 3
    steps: int = 500
    batch_size: int = 16
    rate: float = 1.5e-3
    encoder_rate: float = 0.1
    absolute_from: float = 0.4
    ema_decay: float = 0.98
    people: PeopleConfig = field(default_factory=PeopleConfig)
    people_version: int = VERSION

    @property
    def key(self) -> str:
        """A hash of everything above: what a finished run is known by."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def crops_key(self) -> str:
        """A hash of what the run's stored crops depend on."""
        parts = [asdict(self.augmentation), asdict(self.people), self.people_version]
        parts += [self.side, self.backbone, self.fixed_blocks, self.showings]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def grid(self, stride: int = 32) -> Grid:
        return Grid(self.side, stride, self.centred, self.depth, self.box)

    @property
    def augmentation(self) -> AugmentConfig:
        """The paper's; occlusions are noise alone, for want of Pascal VOC's objects."""
        return AugmentConfig(
            geometry=self.geometry,
            colour=self.colour,
            occlusion=0.7 if self.occlusion else 0.0,
            objects=0.0,
            occlusion_composited=0.0,
            background=0.0,
            truncation=self.truncation,
        )

    @property
    def loss(self) -> LossConfig:
        wanted = self.absolute != "none"
        return LossConfig(
            absolute=float(wanted),
            absolute_from=round(self.absolute_from * self.steps),
            least_inside=0.3,
            perspective=self.absolute if wanted else "full",
        )

    @property
    def schedule(self) -> Schedule:
        return Schedule(base=self.rate, warm_up=20)


_BASE = RunConfig(strides=(32, 16, 8, 4))
VARIANTS: dict[str, RunConfig] = {
    "base": _BASE,
    "normal striding": replace(_BASE, centred=False),
    "without absolute loss": replace(_BASE, absolute="none", strides=(32,)),
    "weak perspective": replace(_BASE, absolute="weak", strides=(32,)),
    "metro": replace(_BASE, network="metro", absolute="none", strides=(32,)),
    "2.5d": replace(_BASE, network="2.5d", absolute="none", strides=(32,)),
    "truncated crops": replace(_BASE, truncation=0.5, strides=(32,)),
    "geometry and colour": replace(_BASE, occlusion=False, strides=(32,)),
    "geometry": replace(_BASE, occlusion=False, colour=False, strides=(32,)),
}
CLAIMS: dict[int, tuple[str, ...]] = {
    1: ("base", "normal striding"),
    2: ("base", "without absolute loss"),
    3: ("base", "weak perspective", "without absolute loss"),
    4: ("metro", "2.5d"),
    5: ("base", "truncated crops"),
    6: ("base", "geometry and colour", "geometry"),
}


# Updates of a longer run: to see what is left of a difference, or comes of it, once more has been learned.
LONG = 1500


def wanted(claims: tuple[int, ...], seeds: int, long: bool = False) -> list[tuple[str, RunConfig]]:
    """(variant, config) of all runs that those claims need, the first seed of all first; ``long``: of LONG updates."""
    names = list(dict.fromkeys(name for claim in claims for name in CLAIMS[claim]))
    return [(name, _run(name, seed, long)) for seed in range(seeds) for name in names]


def is_current(variant: str, seed: int, key: str) -> bool:
    """Whether a run of that key is still one of those above, short or long."""
    return variant in VARIANTS and key in {_run(variant, seed, long).key for long in (False, True)}


def _run(variant: str, seed: int, long: bool) -> RunConfig:
    config = replace(VARIANTS[variant], seed=seed)
    return replace(config, steps=LONG) if long else config
