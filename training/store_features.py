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
from torch import nn

from metrabs_ros.errors import InputError
from training.config import TrainConfig, load_config
from training.examples import LABELS
from training.features import StoredFeatures, labels_of, read_labels
from training.model import metrabs
from training.model.blazepose_encoder import BlazePoseEncoder
from training.model.blazepose_tower import BlazePoseTower

_AT_ONCE = 16


def write(config: TrainConfig, workers: int) -> None:
    """The parts that the config's data still lacks. Raises InputError where the data is not stored features."""
    data = _stored(config)
    data.folder.mkdir(parents=True, exist_ok=True)
    wanted = data.wanted()
    if not wanted:
        return
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
        encoder = network.encoder
        if not isinstance(encoder, BlazePoseEncoder | BlazePoseTower):
            raise InputError(f"Only the maps of BlazePose's networks are stored, got {config.model.backbone}.")
        side = config.model.grid.side
        shape = [1, side, side, 3]
        steps: nn.Module = _FromPixels(encoder)
        example = torch.zeros(shape, dtype=torch.uint8)
        if self.data.earlier is not None:
            if not isinstance(encoder, BlazePoseEncoder):
                raise InputError("The maps of BlazePose's tower are made from pictures: leave `earlier` out.")
            first = self.data.path(0, held_out=False).name
            shape = [1, *np.load(self.data.earlier / first, mmap_mode="r", allow_pickle=False).shape[1:]]
            steps, example = _FromMaps(encoder, self.data.earlier_blocks), torch.zeros(shape)
        traced = ov.convert_model(steps.eval(), example_input=example)
        traced.reshape([-1, *shape[1:]])
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        self.fixed = ov.Core().compile_model(traced, "CPU", options)

    def write(self, path: Path, number: int, held_out: bool) -> None:
        if self.data.earlier is None:
            seen = self.data.labelled(number, held_out)
            given = seen.image.numpy()
            labels: dict[str, Any] = {name: getattr(seen, name).numpy() for name in LABELS}
            labels["sources"] = np.array(seen.sources)
        else:
            given = np.load(self.data.earlier / path.name, allow_pickle=False).astype(np.float32)
            labels = read_labels(self.data.earlier / path.name)
        maps = [self.fixed(given[i : i + _AT_ONCE])[0].astype(np.float16) for i in range(0, len(given), _AT_ONCE)]
        draft = path.with_suffix(".draft.npz")
        np.savez(draft, **labels)
        draft.replace(labels_of(path))
        # The maps come last: a part is there when they are.
        draft = path.with_suffix(".draft")
        with draft.open("wb") as file:
            np.save(file, np.concatenate(maps))
        draft.replace(path)


class _FromPixels(nn.Module):
    """[N,S,S,3] uint8 -> the fixed blocks' map, or the tower's maps."""

    def __init__(self, encoder: BlazePoseEncoder | BlazePoseTower) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        picture = image.permute(0, 3, 1, 2).float() / 255
        if isinstance(self.encoder, BlazePoseTower):
            return self.encoder.stored(picture)
        return self.encoder.fixed_part(picture)


class _FromMaps(nn.Module):
    """The map behind the first ``blocks`` -> the fixed blocks' map."""

    def __init__(self, encoder: BlazePoseEncoder, blocks: int) -> None:
        super().__init__()
        self.encoder, self.blocks = encoder, blocks

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.encoder.between(features, self.blocks, self.encoder.fixed_blocks)


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
