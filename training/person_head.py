"""What an engine takes for a person, learned anew: the linear layer of its person score, all else stays as it is.

    python -m training.person_head ENGINE.onnx FEATURES NAME.onnx

Synthetic people against photos of nobody, scenes whose people have left, animals and things. FEATURES is a folder for
what the engine makes of the crops; with it the command goes on where it was stopped.

Duration: 10 minutes on two cores, nearly all of it for the crops.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import onnxruntime as ort
import torch
import typer
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from rich.progress import track
from scipy.optimize import minimize
from scipy.special import expit

from metrabs_ros.cache_files import write_atomically
from metrabs_ros.errors import InputError
from training import checkpoint
from training.examples import Batch, collate
from training.negatives import negatives
from training.synthetic import evaluation_set, stream
from training.synthetic.stream import StreamConfig

Floats = NDArray[np.floating]
_PEOPLE = StreamConfig(body_up=0.5, room=0.5, astray=0.3, things=0.7)
_WEIGHT, _BIAS = "person.weight", "person.bias"
_AT_ONCE = 16
# So many people are seen turned once more: where somebody turns over, the crop turns with them a frame too late.
_ONE_TURNED_OF = 3
# Of each part: scenes without their people, and photos.
_EMPTY, _PHOTOS = 8, 96
_HELD_OUT_PARTS = 12
# Weights stay near the old ones: this much is paid for each squared change, in deviations of the features.
_RIDGE = 3e-2
# So many people score at least 0.5: who is known is to be lost by their pose rather than by their looks.
_LEAST_PEOPLE = 0.995
_SHOWN_AT = (0.5, 0.97)


@dataclass(frozen=True, eq=False)
class Scored:
    """Features [N,F] of crops in front of the layer, and person [N], whether they show one."""

    features: Floats
    person: NDArray[np.bool_]

    @classmethod
    def joined(cls, parts: list[Scored]) -> Scored:
        return cls(np.concatenate([part.features for part in parts]), np.concatenate([part.person for part in parts]))


@dataclass(frozen=True, eq=False)
class Layer:
    """logit = features · weight + bias."""

    weight: Floats
    bias: float

    def scores(self, features: Floats) -> Floats:
        return np.asarray(expit(features @ self.weight + self.bias))


class Features:
    """What an engine with a person score makes of crops. Raises InputError where it has none."""

    def __init__(self, model: onnx.ModelProto) -> None:
        layers = [node for node in model.graph.node if any(name.endswith(_WEIGHT) for name in node.input)]
        if len(layers) != 1:
            raise InputError("This engine has no person score of one linear layer: nothing can be learned anew.")
        self._name = layers[0].input[0]
        shown = onnx.ModelProto()
        shown.CopyFrom(model)
        shown.graph.output.append(onnx.helper.make_tensor_value_info(self._name, onnx.TensorProto.FLOAT, None))
        self._session = ort.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])

    def of(self, batch: Batch) -> Scored:
        pixels = batch.image.numpy().astype(np.float32) / 255
        parts = [pixels[i : i + _AT_ONCE] for i in range(0, len(pixels), _AT_ONCE)]
        found = [self._session.run([self._name], {"image": part})[0] for part in parts]
        return Scored(np.concatenate(found), batch.person.numpy())


def opened(engine: Path) -> onnx.ModelProto:
    """Raises InputError where the file is none or damaged."""
    try:
        return onnx.load(str(engine))
    except (OSError, DecodeError) as error:
        raise InputError(f"The engine {engine} cannot be read ({error}): give the .onnx of training.export.") from error


def part_of(features: Features, path: Path, number: int, held_out: bool) -> Scored:
    """One block of people and what is none, from its file or made and stored."""
    if path.is_file():
        with np.load(path) as stored:
            return Scored(stored["features"], stored["person"])
    seed = evaluation_set.SEED if held_out else 0
    config = replace(_PEOPLE, held_out=held_out)
    people = collate(stream.block(config, seed, number))
    crops = [people, _turned(people[::_ONE_TURNED_OF]), collate(stream.empty_block(config, seed, number, _EMPTY))]
    crops.append(negatives(_PHOTOS, config.side, (seed, number), held_out, config.things))
    scored = Scored.joined([features.of(batch) for batch in crops])
    draft = path.with_suffix(".part.npz")
    np.savez(draft, features=scored.features, person=scored.person)
    draft.replace(path)
    return scored


def _turned(people: Batch) -> Batch:
    """Each by one, two or three quarters of a turn; the labels are those of before."""
    image = torch.stack([crop.rot90(1 + i % 3) for i, crop in enumerate(people.image)])
    return replace(people, image=image)


def layer_in(model: onnx.ModelProto) -> Layer:
    stored = checkpoint.of_engine(model)
    weight, bias = (next(value for name, value in stored.items() if name.endswith(end)) for end in (_WEIGHT, _BIAS))
    return Layer(weight[0].double().numpy(), float(bias[0]))


def fitted(old: Layer, seen: Scored, ridge: float = _RIDGE) -> Layer:
    """Logistic regression with people and the rest of equal weight, drawn towards the old layer; then the bias is moved
    so that 99.5 % of the people score at least 0.5."""
    spread = seen.features.std(0).astype(np.float64) + 1e-6
    middle = seen.features.mean(0).astype(np.float64)
    scaled = (seen.features - middle) / spread
    begin = np.append(old.weight * spread, old.bias + middle @ old.weight)
    weights = np.where(seen.person, 0.5 / seen.person.mean(), 0.5 / (~seen.person).mean()) / len(scaled)

    def cost(now: Floats) -> tuple[float, Floats]:
        logits = scaled @ now[:-1] + now[-1]
        off = weights * (expit(logits) - seen.person)
        loss = float((weights * np.logaddexp(0, np.where(seen.person, -logits, logits))).sum())
        moved = now - begin
        moved[-1] = 0
        return loss + ridge * float(moved @ moved), np.append(scaled.T @ off, off.sum()) + 2 * ridge * moved

    found = minimize(cost, begin, jac=True, method="L-BFGS-B", options={"maxiter": 2000}).x
    weight = found[:-1] / spread
    return Layer(weight, -float(np.quantile(seen.features[seen.person] @ weight, 1 - _LEAST_PEOPLE)))


def put_in(model: onnx.ModelProto, layer: Layer) -> None:
    """Replace the layer's numbers, each in the precision that it is stored in."""
    for tensor in model.graph.initializer:
        name = tensor.name.removesuffix(checkpoint.HALF)
        if name.endswith((_WEIGHT, _BIAS)):
            old = onnx.numpy_helper.to_array(tensor)
            new = np.reshape(layer.weight if name.endswith(_WEIGHT) else layer.bias, old.shape)
            # Small tensors are float32 in the file, but what float16 holds.
            tensor.CopyFrom(onnx.numpy_helper.from_array(new.astype(np.float16).astype(old.dtype), tensor.name))


def judged(layer: Layer, seen: Scored) -> str:
    scores = layer.scores(seen.features)
    shares = [
        f"{(scores[seen.person] >= least).mean():.1%} of people, {(scores[~seen.person] >= least).mean():.2%} of others"
        for least in _SHOWN_AT
    ]
    return "; ".join(f"from {least} on {share}" for least, share in zip(_SHOWN_AT, shares, strict=True))


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    engine: Annotated[Path, typer.Argument(help="NAME.onnx with a person score.")],
    folder: Annotated[Path, typer.Argument(help="For the features of the crops.")],
    target: Annotated[Path, typer.Argument(help="The engine with another layer; its spec stays yours to write.")],
    parts: Annotated[int, typer.Option(help="Blocks to learn from, of 64 people and 104 others each.")] = 80,
    ridge: Annotated[float, typer.Option(help="What a change of the old weights costs.")] = _RIDGE,
) -> None:
    """Learn anew what the engine takes for a person."""
    try:
        model = opened(engine)
        features = Features(model)
        folder.mkdir(parents=True, exist_ok=True)
        wanted = [(n, True) for n in range(_HELD_OUT_PARTS)] + [(n, False) for n in range(parts)]
        made = [
            part_of(features, folder / f"{'held-out' if held_out else 'part'}-{n:05d}.npz", n, held_out)
            for n, held_out in track(wanted, "crops")
        ]
        held_out, seen = Scored.joined(made[:_HELD_OUT_PARTS]), Scored.joined(made[_HELD_OUT_PARTS:])
        old = layer_in(model)
        put_in(model, fitted(old, seen, ridge))
        write_atomically(target, model.SerializeToString())
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print("held out, before:", judged(old, held_out))
    print("held out, after: ", judged(layer_in(model), held_out))


if __name__ == "__main__":
    app()
