"""What a network's file does not say about itself: engines/NAME.yaml read into a frozen ModelSpec.

A spec names everything that feeding the network and decoding its outputs depend on, and the sha256 of its weights.
"""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from metrabs_ros.detection_spec import DetectorSpec
from metrabs_ros.errors import InputError
from metrabs_ros.joint_transform import JointTransform
from metrabs_ros.skeleton import Skeleton
from metrabs_ros.strict import nearest, parsed
from metrabs_ros.uncertainty import Calibration
from metrabs_ros.weights_spec import WeightsSpec

# Finds people where a spec is written by this package, or names no detector.
DEFAULT_DETECTOR = "person_detector"
KINDS = ("pose", "detector")
LAYOUTS = ("NHWC", "NCHW")
UPRIGHT = ("world", "body")
FOCAL = ("square", "camera")
LENS = ("inverted", "iterated")
RESAMPLING = ("area", "pyramid")
MIRROR_ABOUT = ("middle", "principal_point")
INSIDE = ("image", "crop")
WEIGHTS = ("confidence", "spread")
ACTIVATIONS = ("none", "sigmoid")
UNITS = {"m": 1.0, "mm": 1e-3, "px": 1.0, "1": 1.0}
POSE_OUTPUTS = ("coords2d", "coords3d_rel", "confidence", "person_score", "spread2d", "spread3d")


@dataclass(frozen=True)
class InputSpec:
    """A square RGB input of ``size`` px; the network sees (x - mean) / std of RGB in 0..1, float32.

    max_batch: more crops than that go through in several calls, so that memory has a bound.
    """

    tensor: str
    size: int
    layout: str
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    dynamic_batch: bool = True
    max_batch: int = 64

    def __post_init__(self) -> None:
        _one_of("input: layout", self.layout, LAYOUTS)
        if self.max_batch < 1:
            raise InputError(f"input: max_batch must be at least 1, got {self.max_batch}.")
        if self.size < 8:
            raise InputError(f"input: size must be at least 8 px, got {self.size}.")
        if min(self.std) <= 0:
            raise InputError(f"input: std must be positive, got {list(self.std)}.")


@dataclass(frozen=True)
class CropSpec:
    """How a person's box becomes the network's view.

    box_scale: side of the view over the box's longer side. pose_scale: the same for the square around joints of
    somebody who was seen before (None: box_scale, and single images are looked at once). upright: what points up on the
    crop, the world's up or the body's own axis (hips to head) where it is known. focal: whether the view's pixels are
    square or as the camera's. lens: whether its distortion is inverted, within its range, or undone by five steps and
    followed everywhere. resampling: what is read where the view is smaller than the image, exact areas or the nearest
    level of a pyramid. mirror_about: what stays in place in mirrored views. gamma: exponent of the values of a person's
    only view.
    """

    box_scale: float = 1.0
    pose_scale: float | None = None
    upright: str = "world"
    focal: str = "square"
    lens: str = "inverted"
    resampling: str = "area"
    mirror_about: str = "middle"
    gamma: float = 1.0

    @property
    def body_upright(self) -> bool:
        return self.upright == "body"

    def __post_init__(self) -> None:
        _one_of("crop: upright", self.upright, UPRIGHT)
        _one_of("crop: focal", self.focal, FOCAL)
        _one_of("crop: lens", self.lens, LENS)
        _one_of("crop: resampling", self.resampling, RESAMPLING)
        _one_of("crop: mirror_about", self.mirror_about, MIRROR_ABOUT)
        for name, scale in (("box_scale", self.box_scale), ("pose_scale", self.pose_scale)):
            if scale is not None and scale <= 0:
                raise InputError(f"crop: {name} must be positive, got {scale}.")
        if self.gamma <= 0:
            raise InputError(f"crop: gamma must be positive, got {self.gamma}.")


@dataclass(frozen=True)
class OutputSpec:
    """Which numbers of which output tensor hold a quantity.

    The tensor's numbers of one person are read as rows of ``columns``; ``take`` names the columns, and the first rows
    (one a joint) are used. Then the activation, then (value + offset) * scale, then the unit.
    """

    tensor: str
    columns: int = 1
    take: tuple[int, ...] = (0,)
    unit: str = "1"
    activation: str = "none"
    offset: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        _one_of("outputs: unit", self.unit, tuple(UNITS))
        _one_of("outputs: activation", self.activation, ACTIVATIONS)
        if not self.take or not all(0 <= column < self.columns for column in self.take):
            raise InputError(f"outputs: take must name columns below {self.columns}, got {list(self.take)}.")


@dataclass(frozen=True)
class ReconstructionSpec:
    """How 2D and metric pose become an absolute one: perspective full or weak, and the border of the crop, in px, in
    which a 2D joint no longer counts as inside the image (a stride of the network, P 4); border_far is that of the
    right and bottom edge where it is another. inside: whether a joint must also lie in the image itself to count.
    weights: what joints count for in the fit, by their confidence, or by that over the spread of their 3D heatmap.
    ridge: what pulls the solution of full perspective to the camera (the released code: 0.01). coupled_crops: how many
    crops of an image, whole people, share its measure (the released code: 64)."""

    perspective: str = "full"
    border: float = 0.0
    border_far: float | None = None
    inside: str = "image"
    mix_3d: float = 0.0
    weights: str = "confidence"
    ridge: float = 0.0
    coupled_crops: int = 1

    def __post_init__(self) -> None:
        _one_of("reconstruction: perspective", self.perspective, ("full", "weak"))
        _one_of("reconstruction: inside", self.inside, INSIDE)
        _one_of("reconstruction: weights", self.weights, WEIGHTS)
        if self.coupled_crops < 1:
            raise InputError(f"reconstruction: coupled_crops must be at least 1, got {self.coupled_crops}.")
        if self.ridge < 0:
            raise InputError(f"reconstruction: ridge must not be negative, got {self.ridge}.")
        if not 0 <= self.mix_3d <= 1:
            raise InputError(f"reconstruction: mix_3d must lie in 0..1, got {self.mix_3d}.")


@dataclass(frozen=True)
class SecondLookSpec:
    """A newly detected person must also be seen on a mirrored crop whose box is scaled by ``zoom``: false alarms of the
    detector do not survive that. Costs one more run of the network, once a person."""

    zoom: float
    min_score: float


@dataclass(frozen=True)
class ModelSpec:
    """One engine; see engines/README.md for the keys. ``detector`` names the engine that finds its people; ``path`` is
    the spec's file, beside which its weights and detector are looked for."""

    name: str
    kind: str
    description: str
    licence: str
    weights: WeightsSpec
    input: InputSpec
    crop: CropSpec = field(default_factory=CropSpec)
    outputs: dict[str, OutputSpec] = field(default_factory=dict)
    reconstruction: ReconstructionSpec = field(default_factory=ReconstructionSpec)
    calibration: Calibration = field(default_factory=Calibration)
    joints: tuple[str, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()
    joint_transform: JointTransform | None = None
    trust_given_boxes: bool = False
    min_person_score: float = 0.5
    max_vagueness: float = 1.0
    max_carried_vagueness: float = 1.0
    max_new_vagueness: float = 1.0
    max_doubtful_vagueness: float = 0.0
    second_look: SecondLookSpec | None = None
    detector: str | None = None
    detection: DetectorSpec | None = None
    path: Path = Path()

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, KINDS)
        if self.kind == "detector" and self.detection is None:
            raise InputError("a spec of kind detector needs the key 'detection'.")
        if self.second_look is not None and "person_score" not in self.outputs:
            raise InputError("second_look needs the output person_score.")
        if self.kind == "pose":
            for key in self.outputs:
                if key not in POSE_OUTPUTS:
                    raise InputError(f"outputs has the unknown key {key!r}{nearest(key, POSE_OUTPUTS)}.")
            lacking = [key for key in ("coords2d", "coords3d_rel") if key not in self.outputs]
            if lacking or not self.joints:
                raise InputError(f"a spec of kind pose needs {', '.join([*lacking, 'joints'])}.")
            if len(self.outputs["coords2d"].take) != 2 or len(self.outputs["coords3d_rel"].take) != 3:
                raise InputError("outputs: coords2d takes 2 columns and coords3d_rel 3.")
            if ("spread2d" in self.outputs) != ("spread3d" in self.outputs):
                raise InputError("outputs: spread2d and spread3d go together: name both or neither.")
            if self.reconstruction.weights == "spread" and "spread3d" not in self.outputs:
                raise InputError("reconstruction: weights by spread need the outputs spread2d and spread3d.")
            Skeleton.from_names(self.joints, self.edges)
            if self.joint_transform is not None and self.joint_transform.weights.shape[1] != len(self.joints):
                raise InputError(
                    f"joint_transform gives {self.joint_transform.weights.shape[1]} joints, but joints names "
                    f"{len(self.joints)}: export or import the engine again."
                )

    @property
    def network_joints(self) -> int:
        """How many joints the network itself predicts."""
        return len(self.joints if self.joint_transform is None else self.joint_transform.mirror)

    @property
    def network_mirror(self) -> NDArray[np.intp]:
        """[network_joints] which of them each is in a mirror."""
        if self.joint_transform is None:
            return self.skeleton.mirror
        return np.array(self.joint_transform.mirror, np.intp)

    @functools.cached_property
    def skeleton(self) -> Skeleton:
        return Skeleton.from_names(self.joints, self.edges)


def load_spec(path: str | Path) -> ModelSpec:
    """The spec in a YAML file. Raises InputError, with the file's name, for anything that does not fit."""
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the engine spec {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"The engine spec {path} is not valid YAML: {' '.join(str(error).split())}.") from error
    try:
        if isinstance(data, dict) and isinstance(data.get("outputs"), dict):
            data["outputs"] = {
                key: parsed(OutputSpec, value, f"Engine spec {path}: outputs: {key}")
                for key, value in data["outputs"].items()
            }
        return parsed(ModelSpec, data, f"Engine spec {path}", path=path)
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith("Engine spec") else f"Engine spec {path}: {text}") from None


def engine_folders() -> list[Path]:
    """Where specs are looked for by name: the checkout's engines/, then share/metrabs_ros/engines of the install."""
    package = Path(__file__).resolve().parent
    roots = [package.parent / "engines"]
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    roots += [Path(prefix) / "share" / "metrabs_ros" / "engines" for prefix in prefixes if prefix]
    return [root for root in dict.fromkeys(roots) if root.is_dir()]


def known_specs() -> dict[str, Path]:
    """Name -> spec file of every engine in engine_folders(); the first folder that has a name wins."""
    found: dict[str, Path] = {}
    for folder in engine_folders():
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def find_spec(name_or_path: str | Path) -> Path:
    """The spec file of an engine given by name or by path. Raises InputError where there is none."""
    given = Path(name_or_path)
    if given.suffix in (".yaml", ".yml"):
        if not given.is_file():
            raise InputError(
                f"There is no engine spec at {given}: give the path of an existing NAME.yaml or a known name."
            )
        return given
    known = known_specs()
    if str(name_or_path) not in known:
        raise InputError(f"There is no engine named {str(name_or_path)!r}{nearest(str(name_or_path), known)}.")
    return known[str(name_or_path)]


def _one_of(where: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{where} must be one of {', '.join(allowed)}, got {value!r}.")
