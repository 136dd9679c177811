"""Writes a data set's examples as WebDataset shards: python -m training.data.shard DATASET ROOT OUT.

OUT gets shard-NNNNN.tar and index.json, which has each shard's count and SHA-256. Run again after an interruption, it
goes on after the last shard that is whole.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import webdataset

from metrabs_ros.errors import InputError
from training.data.detections import load
from training.data.record import Record
from training.data.stored import stored

INDEX = "index.json"
# Name on the command line -> module of training.data, its function and that function's arguments.
DATASETS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "h36m": ("h36m", "training_records", {}),
    "h36m_test": ("h36m", "evaluation_records", {}),
    "h36m2": ("h36m", "training_records", {"protocol": 2}),
    "h36m2_test": ("h36m", "evaluation_records", {"protocol": 2}),
    "mpi_inf_3dhp": ("mpi_inf_3dhp", "training_records", {}),
    "mpi_inf_3dhp_test": ("mpi_inf_3dhp", "evaluation_records", {}),
    "muco": ("muco", "training_records", {}),
    # From the root of MPI-INF-3DHP.
    "muco_composed": ("muco", "composed_records", {}),
    "mupots": ("mupots", "evaluation_records", {}),
    "mpii": ("mpii", "training_records", {}),
    "mpii_all": ("mpii", "training_records", {"single_person": False}),
    "coco": ("coco", "training_records", {}),
    "coco_test": ("coco", "evaluation_records", {}),
    "3dpw": ("threedpw", "training_records", {}),
    "3dpw_test": ("threedpw", "evaluation_records", {"splits": ("test",)}),
    "3dpw_challenge": ("threedpw", "evaluation_records", {}),
    "panoptic": ("panoptic", "training_records", {}),
}


def records(dataset: str, root: Path, detections: Path | None = None) -> Iterator[Record]:
    """All records of a data set by its name on the command line; detections: file of a person detector's boxes, see
    training.data.detections. Raises InputError."""
    if dataset not in DATASETS:
        raise InputError(f"There is no data set named {dataset!r}: there are {', '.join(DATASETS)}.")
    module, function, arguments = DATASETS[dataset]
    read = getattr(importlib.import_module(f"training.data.{module}"), function)
    if detections is None:
        return read(root, **arguments)
    if "detections" not in inspect.signature(read).parameters:
        raise InputError(f"The reader of {dataset} takes no detections: leave out --detections.")
    return read(root, **arguments, detections=load(detections))


def write(people: Iterable[Record], out: Path, per_shard: int = 1000) -> dict[str, Any]:
    """Shards of ``per_shard`` records each, the last one smaller; returns the index. Whole shards that the index has
    are kept, and their records passed over without reading a picture. Raises InputError where there are no records, or
    the folder has shards of another size."""
    out.mkdir(parents=True, exist_ok=True)
    index = _index(out, per_shard)
    stream = iter(people)
    for number in itertools.count():
        first = next(stream, None)
        if first is None:
            break
        chunk = itertools.chain([first], itertools.islice(stream, per_shard - 1))
        name = f"shard-{number:05d}.tar"
        known = index["shards"].get(name)
        if known is not None and is_whole(out / name, known["sha256"]):
            if sum(1 for _ in chunk) != known["count"]:
                raise InputError(f"The data set has changed since {out / name} was written: give another folder.")
            continue
        draft = out / f".{name}.part"
        count = 0
        with webdataset.TarWriter(str(draft), encoder=False, mtime=0.0) as tar:
            for record in chunk:
                tar.write(stored(record, f"{number:05d}-{count:06d}"))
                count += 1
        draft.rename(out / name)
        index["shards"][name] = {"count": count, "sha256": digest(out / name)}
        _write_index(out, index)
    if not index["shards"]:
        raise InputError("The data set has no records: check what was chosen of it.")
    return index


def digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def is_whole(path: Path, sha256: str) -> bool:
    return path.is_file() and digest(path) == sha256


def _index(out: Path, per_shard: int) -> dict[str, Any]:
    path = out / INDEX
    if not path.exists():
        return {"per_shard": per_shard, "shards": {}}
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        old = index["per_shard"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: delete it to write all shards again.") from error
    if old != per_shard:
        raise InputError(f"{out} has shards of {old} examples, not {per_shard}: give another folder, or that number.")
    return index


def _write_index(out: Path, index: dict[str, Any]) -> None:
    draft = out / f".{INDEX}.part"
    draft.write_text(json.dumps(index, indent=1, sort_keys=True), encoding="utf-8")
    draft.rename(out / INDEX)


def main(
    dataset: Annotated[str, typer.Argument(help=f"One of {', '.join(DATASETS)}.")],
    root: Annotated[Path, typer.Argument(help="Folder of the data set in its official layout.")],
    out: Annotated[Path, typer.Argument(help="Folder for the shards.")],
    per_shard: Annotated[int, typer.Option(min=1, help="Examples in a shard.")] = 1000,
    detections: Annotated[Path | None, typer.Option(help="JSON of a person detector's boxes, MPI-INF-3DHP.")] = None,
) -> None:
    """Write a data set's examples as WebDataset shards; run again, it resumes."""
    try:
        index = write(records(dataset, root, detections), out, per_shard)
    except InputError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    count = sum(shard["count"] for shard in index["shards"].values())
    typer.echo(f"{count} examples in {len(index['shards'])} shards in {out}.")


if __name__ == "__main__":
    typer.run(main)
