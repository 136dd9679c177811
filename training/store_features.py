"""Writes what training.features trains from: `python -m training.store_features CONFIG`; goes on where it stopped."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.progress import track

from metrabs_ros.errors import InputError
from training.config import TrainConfig, load_config
from training.features import LABELS, StoredFeatures, labels_of
from training.model import metrabs

_AT_ONCE = 16


def write(config: TrainConfig, workers: int) -> None:
    """The parts that the config's data still lacks. Raises InputError where the data is not stored features."""
    data = _stored(config)
    data.folder.mkdir(parents=True, exist_ok=True)
    wanted = data.wanted()
    context = multiprocessing.get_context("spawn")
    with context.Pool(max(1, workers), _start_worker, (config,)) as pool:
        for _ in track(pool.imap_unordered(_write_part, wanted), "parts", len(wanted)):
            pass


def _stored(config: TrainConfig) -> StoredFeatures:
    if not isinstance(config.data, StoredFeatures):
        raise InputError(f"The config's data must be StoredFeatures to be stored, got {type(config.data).__name__}.")
    return config.data


class _Worker:
    """One process: the fixed blocks on one core, by OpenVINO."""

    def __init__(self, config: TrainConfig) -> None:
        import cv2
        import openvino as ov

        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        self.data = _stored(config)
        # As Trainer does: where nothing is loaded, the same random weights.
        torch.manual_seed(config.seed)
        network = metrabs.build(config.model, len(config.skeleton.joint_names))
        metrabs.fix_first_blocks(network, config.fixed_blocks)
        side = config.model.grid.side
        traced = ov.convert_model(
            _Fixed(network.encoder).eval(), example_input=torch.zeros(1, side, side, 3, dtype=torch.uint8)
        )
        traced.reshape([-1, side, side, 3])
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        self._fixed = ov.Core().compile_model(traced, "CPU", options)

    def write(self, path: Path, number: int, held_out: bool) -> None:
        seen = self.data.labelled(number, held_out)
        images = seen.image.numpy()
        maps = [self._fixed(images[i : i + _AT_ONCE])[0].astype(np.float16) for i in range(0, len(images), _AT_ONCE)]
        labels: dict[str, Any] = {name: getattr(seen, name).numpy() for name in LABELS}
        draft = path.with_suffix(".draft.npz")
        np.savez(draft, **labels, sources=np.array(seen.sources))
        draft.replace(labels_of(path))
        # The maps come last: a part is there when they are.
        draft = path.with_suffix(".draft")
        with draft.open("wb") as file:
            np.save(file, np.concatenate(maps))
        draft.replace(path)


class _Fixed(torch.nn.Module):
    """[N,S,S,3] uint8 -> the fixed blocks' map."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.encoder.fixed_part(image.permute(0, 3, 1, 2).float() / 255)
        return features


_WORKER: list[_Worker] = []


def _start_worker(config: TrainConfig) -> None:
    _WORKER.append(_Worker(config))


def _write_part(part: tuple[Path, int, bool]) -> None:
    _WORKER[0].write(*part)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    config: Annotated[str, typer.Argument(help="A name in training/configs, or a .py file that defines CONFIG.")],
    workers: Annotated[int, typer.Option(help="Processes, one core each.")] = 1,
) -> None:
    """Write the maps that a config trains from."""
    try:
        write(load_config(config), workers)
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    app()
