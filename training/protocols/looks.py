"""Engines, and checkpoints as if they were engines, looking at crops and at boxes in pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metrabs_ros.augmented_views import AugmentedViews
from metrabs_ros.camera import Camera
from metrabs_ros.detector import open_detector
from metrabs_ros.engine import Engine, open_engine
from metrabs_ros.estimator import PoseEstimator
from metrabs_ros.model_spec import (
    DEFAULT_DETECTOR,
    InputSpec,
    ModelSpec,
    OutputSpec,
    WeightsSpec,
    find_spec,
    load_spec,
)
from metrabs_ros.pipeline import LEVEL_UP, PosePipeline
from metrabs_ros.regions import Regions
from training import checkpoint
from training.deployed import Deployed, output_names
from training.examples import Example
from training.export import restored
from training.framing import crop_in, reconstruction_in
from training.protocols.poses import Floats, Poses, poses

# As in the runtime: a body that leans more than this is looked at again, upright.
_LEAN_COSINE = np.cos(np.radians(15))


def engine_of(name_or_path: str) -> Engine:
    """An engine of the runtime, by name or spec file. Raises InputError."""
    return open_engine(load_spec(find_spec(name_or_path)))


def pipeline_of(engine: Engine, detector: str | None = None) -> PosePipeline:
    """The whole runtime around an engine, with the detector given, or that its spec names, or else the default."""
    named = detector or engine.spec.detector or DEFAULT_DETECTOR
    return PosePipeline(engine, open_detector(load_spec(find_spec(named))))


def engine_of_checkpoint(place: Path, stride: int | None = None) -> Engine:
    """A checkpoint's averaged network (a run's latest, if the folder is a run's) as an engine, without an export.

    It sees people framed as in training, by dense prediction where ``stride`` is given, see training.export.restored.
    """
    found = checkpoint.found(place)
    network, config, facts = restored(found, stride=stride)
    outputs = {
        "coords2d": OutputSpec("coords2d", 2, (0, 1), "px"),
        "coords3d_rel": OutputSpec("coords3d_rel", 3, (0, 1, 2), "m"),
    }
    if config.confidence and facts.get("confidence_weights"):
        outputs["confidence"] = OutputSpec("confidence")
    if config.person:
        outputs["person_score"] = OutputSpec("person_score")
    spec = ModelSpec(
        name=f"{place.name or found.parent.name}",
        kind="pose",
        description="A checkpoint.",
        licence="",
        weights=WeightsSpec("model.safetensors", "0" * 64),
        input=InputSpec("image", config.grid.side, "NHWC"),
        crop=crop_in(facts),
        outputs=outputs,
        reconstruction=reconstruction_in(facts, config.grid.stride),
        joints=tuple(facts["joints"]),
        edges=tuple((facts["joints"][a], facts["joints"][b]) for a, b in facts["edges"]),
    )
    return Engine(spec, TorchNetwork(Deployed(network, "NHWC"), output_names(config), config.grid.side))


class TorchNetwork:
    """A network of training/ behind the runtime's interface of networks."""

    backend_name = "torch"
    device = "CPU"

    def __init__(self, network: torch.nn.Module, outputs: Sequence[str], side: int) -> None:
        self._network, self._outputs = network.eval(), list(outputs)
        self.input_names, self.input_shape = ["image"], [-1, side, side, 3]

    @torch.no_grad()
    def run(self, batch: Any) -> dict[str, Any]:
        found = self._network(torch.from_numpy(batch))
        return {name: tensor.numpy() for name, tensor in zip(self._outputs, found, strict=True)}

    def close(self) -> None:
        pass


def seen_on_crops(engine: Engine, examples: Sequence[Example], second_look: bool = True) -> Floats:
    """Absolute poses [N,J,3] m in each crop's camera, with the translation that fits the 2D joints best.

    second_look: where the engine wants the body upright and it leans, the crop is turned and looked at once more, as
    the runtime does where no detector tells the body's axis; the corners that turning bares are black.
    """
    spec = engine.spec
    estimator = PoseEstimator(Engine(replace(spec, crop=replace(spec.crop, box_scale=1.0)), engine.network))
    found = []
    for example in examples:
        side = example.image.shape[0]
        camera = Camera(np.asarray(example.K, np.float64), np.zeros(0), "plumb_bob", (side, side))
        box = np.array([[0.0, 0.0, side, side]])
        up = np.array([LEVEL_UP])
        found.append(_seen(estimator, example.image, camera, box, up, AugmentedViews.of(1), second_look))
    width = len(spec.joints)
    return np.concatenate(found) if found else np.zeros((0, width, 3))


def seen_in_records(engine: Engine, records: Iterable[Any], labels: Poses, num_aug: int = 1) -> Poses:
    """The poses of a data set's people, their boxes given, beside their labels; of ``num_aug`` views each, the mean."""
    estimator, views = PoseEstimator(engine), AugmentedViews.of(num_aug)
    joints3d, joints2d = [], []
    for record in _labelled(records):
        box, up = np.asarray(record.box, float)[None], np.asarray(record.up, float)[None]
        seen = _seen(estimator, record.image(), record.camera, box, up, views, look_twice=True)
        joints3d.append(seen[0])
        joints2d.append(record.camera.project(seen[0])[0])
    return poses(engine.spec.joints, np.array(joints3d), labels.images, labels.people, np.array(joints2d))


def found_in_pictures(engine: Engine, records: Iterable[Any], labels: Poses, num_aug: int = 1) -> Poses:
    """Everybody whom the whole runtime, detector and all, finds in the pictures of a data set, numbered by picture.

    records: those with 3D labels in the order of labels, whose images say which of them share a picture.
    """
    pipeline = pipeline_of(engine)
    pipeline.num_aug = num_aug
    joints3d, joints2d, images, people = [], [], [], []
    looked_at: set[str] = set()
    for image, record in zip(labels.images.tolist(), _labelled(records), strict=True):
        if image in looked_at:
            continue
        looked_at.add(image)
        pipeline.up = np.asarray(record.up, float) / np.linalg.norm(record.up)
        for number, pose in enumerate(pipeline.estimate(record.image(), record.camera)):
            joints3d.append(pose.joints3d)
            joints2d.append(pose.joints2d)
            images.append(image)
            people.append(str(number))
    width = len(engine.spec.joints)
    return poses(engine.spec.joints, np.reshape(joints3d, (-1, width, 3)), np.array(images, str),
                 np.array(people, str), np.reshape(joints2d, (-1, width, 2)))  # fmt: skip


def _labelled(records: Iterable[Any]) -> Iterable[Any]:
    return (record for record in records if record.joints3d is not None)


def _seen(
    estimator: PoseEstimator,
    image: Any,
    camera: Camera,
    box: Floats,
    up: Floats,
    views: AugmentedViews,
    look_twice: bool,
) -> Floats:
    """[1,J,3] m in the camera's frame of the person in box [1,4]."""
    joints3d = estimator(image, camera, box, up, views).joints3d
    spec = estimator.engine.spec
    if look_twice and spec.crop.body_upright:
        torso = Regions(spec.skeleton).torso_axes(joints3d)
        if (torso @ (up[0] / np.linalg.norm(up[0])))[0] < _LEAN_COSINE:
            return estimator(image, camera, box, torso, views).joints3d
    return joints3d
