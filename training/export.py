"""A checkpoint as an engine of the runtime: NAME.onnx and NAME.yaml. `python -m training.export CHECKPOINT NAME`."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import torch
import typer
import yaml

from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import DEFAULT_DETECTOR, CropSpec, ReconstructionSpec
from metrabs_ros.skeleton import Skeleton
from metrabs_ros.weights import file_hash
from training import checkpoint
from training.deployed import Deployed, output_names
from training.framing import crop_in, reconstruction_in
from training.heatmap import Grid
from training.model import backbones, metrabs
from training.model.blazepose_encoder import VARIANTS
from training.model.metrabs import Metrabs, MetrabsConfig

# TensorRT 8.6 takes it.
OPSET = 17
# Smaller tensors are stored as they were: nothing is gained.
_MIN_HALVED = 256


@dataclass(frozen=True)
class Recipe:
    """What the spec says beyond the network: see engines/README.md for the keys.

    second_look: its zoom and least score, where the network scores people; mirror: see Deployed. box_scale and upright
    are None where crops shall be framed as in training, mix_3d and weights where poses shall be placed so; pose_scale
    is None where box_scale will do for people's own joints, too. scale: how much larger people are than the network
    takes them to be.
    """

    description: str = "MeTRAbs, trained by training/ of this package."
    licence: str = "Apache-2.0"
    detector: str | None = DEFAULT_DETECTOR
    box_scale: float | None = None
    pose_scale: float | None = None
    upright: str | None = None
    mix_3d: float | None = None
    weights: str | None = None
    scale: float = 1.0
    layout: str = "NHWC"
    half: bool = True
    min_person_score: float = 0.5
    max_vagueness: float = 0.15
    max_new_vagueness: float = 0.105
    max_doubtful_vagueness: float = 0.09
    max_carried_vagueness: float = 0.125
    second_look: tuple[float, float] | None = (0.84, 0.97)
    mirror: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.scale < np.inf:
            raise InputError(f"scale must be a positive number, got {self.scale:g}: 1 leaves people as they are.")


def restored(
    place: Path,
    averaged: bool = True,
    back_to: Path | None = None,
    part: float = 0.0,
    stride: int | None = None,
) -> tuple[Metrabs, MetrabsConfig, dict[str, Any]]:
    """The network of a checkpoint with its averaged weights (or the bare ones), its config and the facts saved with it.

    ``part``: so far the weights go back to those of ``back_to``, what checkpoint.averaged reads. ``stride``: of dense
    prediction (P 3.3), 32, 16, 8 or 4 px, instead of the stride that was trained. Raises InputError where something
    cannot be read, or the network has one stride only.
    """
    saved = checkpoint.load(place)
    facts = saved.facts
    described = dict(facts["network"])
    config = MetrabsConfig(
        **{**described, "grid": Grid(**described["grid"]), "neck": tuple(described["neck"]), "backbone_weights": None}
    )
    if stride is not None:
        config = dataclasses.replace(config, grid=dataclasses.replace(config.grid, stride=stride))
    unloaded = dataclasses.replace(config, backbone=_without_weights(config.backbone))
    network = metrabs.build(unloaded, len(facts["joints"]))
    weights = saved.ema if averaged else saved.model
    if back_to is not None:
        weights = checkpoint.between(weights, checkpoint.averaged(back_to), part)
    network.load_state_dict(weights)
    return network.eval(), config, facts


def export(network: Metrabs, config: MetrabsConfig, facts: dict[str, Any], target: Path, recipe: Recipe) -> Path:
    """Write target (NAME.onnx) and the spec beside it, once both are whole; returns the spec's path."""
    framed, placed = _framed(crop_in(facts), recipe), _placed(reconstruction_in(facts, config.grid.stride), recipe)
    side = config.grid.side
    shape = (1, side, side, 3) if recipe.layout == "NHWC" else (1, 3, side, side)
    names = output_names(config)
    target.parent.mkdir(parents=True, exist_ok=True)
    spec = target.with_suffix(".yaml")
    drafts = [path.with_name(f"{path.name}.part") for path in (target, spec)]
    with warnings.catch_warnings():
        # Tracing warns about every shape it takes as constant: all but the batch are.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Deployed(network, recipe.layout, _counterparts(facts) if recipe.mirror else None),
            (torch.zeros(shape),),
            str(drafts[0]),
            opset_version=OPSET,
            dynamo=False,
            input_names=["image"],
            output_names=names,
            dynamic_axes={name: {0: "batch"} for name in ["image", *names]},
        )
    model = onnx.load(str(drafts[0]), format="protobuf")
    if recipe.half:
        store_in_half(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(drafts[0]), format="protobuf")
    described = _spec(target.name, file_hash(drafts[0]), config, facts, framed, placed, recipe)
    text = yaml.safe_dump(described, sort_keys=False, default_flow_style=None, width=118)
    drafts[1].write_text(text, encoding="utf-8")
    for draft, path in zip(drafts, (target, spec), strict=True):
        draft.replace(path)
    return spec


def store_in_half(model: onnx.ModelProto) -> None:
    """Round all weights to float16, so that an engine of that precision has the very same ones.

    Large ones are stored so, with a Cast behind each: half the file, computed in float32 as before.
    """
    casts, kept = [], []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            kept.append(tensor)
            continue
        rounded = values.astype(np.float16)
        if values.size < _MIN_HALVED:
            kept.append(onnx.numpy_helper.from_array(rounded.astype(np.float32), tensor.name))
            continue
        kept.append(onnx.numpy_helper.from_array(rounded, f"{tensor.name}{checkpoint.HALF}"))
        casts.append(onnx.helper.make_node("Cast", [kept[-1].name], [tensor.name], to=onnx.TensorProto.FLOAT))
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _spec(
    file: str,
    sha256: str,
    config: MetrabsConfig,
    facts: dict[str, Any],
    framed: CropSpec,
    placed: ReconstructionSpec,
    recipe: Recipe,
) -> dict[str, Any]:
    outputs: dict[str, Any] = {
        "coords2d": {"tensor": "coords2d", "columns": 2, "take": [0, 1], "unit": "px"},
        "coords3d_rel": {"tensor": "coords3d_rel", "columns": 3, "take": [0, 1, 2], "unit": "m", "scale": recipe.scale},
        "spread2d": {"tensor": "spread2d", "unit": "px"},
        "spread3d": {"tensor": "spread3d", "unit": "m", "scale": recipe.scale},
    }
    # The runtime weights its fit by the confidence: only where training did so, too.
    if config.confidence and facts.get("confidence_weights"):
        outputs["confidence"] = {"tensor": "confidence"}
    if config.person:
        outputs["person_score"] = {"tensor": "person_score"}
    joints = facts["joints"]
    looks: dict[str, Any] = {
        "min_person_score": recipe.min_person_score,
        "max_vagueness": recipe.max_vagueness,
        "max_new_vagueness": recipe.max_new_vagueness,
        "max_doubtful_vagueness": recipe.max_doubtful_vagueness,
        "max_carried_vagueness": recipe.max_carried_vagueness,
    }
    if config.person and recipe.second_look is not None:
        zoom, min_score = recipe.second_look
        looks["second_look"] = {"zoom": zoom, "min_score": min_score}
    spec: dict[str, Any] = {
        "name": Path(file).stem,
        "kind": "pose",
        "description": recipe.description,
        "licence": recipe.licence,
    }
    if recipe.detector is not None:
        spec["detector"] = recipe.detector
    return spec | {
        "weights": {"file": file, "sha256": sha256},
        "input": {"tensor": "image", "size": config.grid.side, "layout": recipe.layout},
        "crop": {
            "box_scale": framed.box_scale,
            **({} if framed.pose_scale is None else {"pose_scale": framed.pose_scale}),
            "upright": framed.upright,
        },
        "outputs": outputs,
        "reconstruction": {
            "perspective": placed.perspective,
            "border": placed.border,
            "mix_3d": placed.mix_3d,
            "weights": placed.weights,
            "ridge": placed.ridge,
        },
        **looks,
        "joints": list(joints),
        "edges": [[joints[a], joints[b]] for a, b in facts["edges"]],
    }


def _framed(trained: CropSpec, recipe: Recipe) -> CropSpec:
    return dataclasses.replace(
        trained,
        box_scale=trained.box_scale if recipe.box_scale is None else recipe.box_scale,
        pose_scale=trained.pose_scale if recipe.pose_scale is None else recipe.pose_scale,
        upright=recipe.upright or trained.upright,
    )


def _placed(trained: ReconstructionSpec, recipe: Recipe) -> ReconstructionSpec:
    return dataclasses.replace(
        trained,
        mix_3d=trained.mix_3d if recipe.mix_3d is None else recipe.mix_3d,
        weights=recipe.weights or trained.weights,
    )


def _counterparts(facts: dict[str, Any]) -> list[int]:
    return [int(j) for j in Skeleton(tuple(facts["joints"]), ()).mirror]


def _without_weights(backbone: str) -> str:
    """The checkpoint brings the weights: BlazePose's own file is not needed."""
    return backbone + backbones.UNTRAINED if backbone in (*VARIANTS, backbones.TOWER) else backbone


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    run: Annotated[Path, typer.Argument(help="A checkpoint's folder, or a run's: its latest then.")],
    target: Annotated[Path, typer.Argument(help="NAME.onnx, or NAME.safetensors: weights to start from.")],
    heads_only: Annotated[bool, typer.Option(help="Of weights to start from: without the encoder's.")] = False,
    full: Annotated[bool, typer.Option(help="Store weights in float32.")] = False,
    layout: Annotated[str, typer.Option(help="NHWC or NCHW.")] = "NHWC",
    box_scale: Annotated[
        float | None, typer.Option(help="Side of the crop over that of the detector's box, if not as in training.")
    ] = None,
    pose_scale: Annotated[
        float | None, typer.Option(help="The same over the square around somebody's own joints, if not --box-scale.")
    ] = None,
    upright: Annotated[
        str | None, typer.Option(help="What points up on the crop, if not as in training: body or world.")
    ] = None,
    mix_3d: Annotated[
        float | None, typer.Option(help="Part of the 3D head in the joints on the image, if not as in training.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="What joints count for in the fit, if not confidence: spread.")
    ] = None,
    scale: Annotated[float, typer.Option(help="How much larger people are than the network takes them to be.")] = 1.0,
    stride: Annotated[int | None, typer.Option(help="Of dense prediction, px: 32, 16, 8 or 4.")] = None,
    back_to: Annotated[
        Path | None, typer.Option(help="Weights that the run began with, to go back to by --part.")
    ] = None,
    part: Annotated[float, typer.Option(help="0: the run's own weights, 1: those of --back-to.")] = 0.5,
    mirror: Annotated[
        bool, typer.Option(help="Average each crop with its mirror image: better, twice the work.")
    ] = False,
) -> None:
    """Write an engine that metrabs_ros runs, from a checkpoint's averaged weights."""
    try:
        place = checkpoint.found(run)
        if target.suffix == ".safetensors":
            if back_to is not None:
                raise InputError("--back-to mixes the weights of an engine: give NAME.onnx as the target.")
            checkpoint.save_averaged(place, target, "head." if heads_only else "")
            print(f"{target}: {target.stat().st_size / 1e6:.1f} MB from {place}")
            return
        network, config, facts = restored(place, back_to=back_to, part=part, stride=stride)
        recipe = Recipe(
            half=not full,
            layout=layout,
            box_scale=box_scale,
            pose_scale=pose_scale,
            upright=upright,
            mix_3d=mix_3d,
            weights=weights,
            scale=scale,
            mirror=mirror,
        )
        spec = export(network, config, facts, target.with_suffix(".onnx"), recipe)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(f"{spec}: {target.with_suffix('.onnx').stat().st_size / 1e6:.1f} MB from {place}")


if __name__ == "__main__":
    app()
