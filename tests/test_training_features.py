"""Stored maps: what is written is what the network sees, and training from them changes only what is not fixed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training/ needs torch: see requirements/training.txt")
pytest.importorskip("numba", reason="the synthetic people need numba: see requirements/training.txt")

from training.synthetic import synthetic_ready  # noqa: E402

if not synthetic_ready():
    pytest.skip("the body model's or the backgrounds' cache is not built", allow_module_level=True)

from metrabs_ros.errors import InputError  # noqa: E402
from tests.training_fakes import CONFIG as FAKE  # noqa: E402
from training import store_features  # noqa: E402
from training.config import TrainConfig  # noqa: E402
from training.features import StoredFeatures  # noqa: E402
from training.model.blazepose_encoder import FULL  # noqa: E402
from training.store_features import write  # noqa: E402
from training.synthetic.stream import StreamConfig, empty_block  # noqa: E402
from training.trainer import Trainer  # noqa: E402
from training.validation import to_input  # noqa: E402

SMALL = StreamConfig(side=64, block=4, shapes=2)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    folder = tmp_path_factory.mktemp("features")
    data = StoredFeatures(folder, SMALL, parts=2, empty=1, photos=1, held_out=1)
    config = replace(FAKE, data=data, fixed_blocks=10, frozen_encoder_steps=0)
    write(config, workers=1)
    return config


def test_parts_hold_people_mirrors_and_empty_crops(config: TrainConfig) -> None:
    batch = next(iter(config.data.validation(64)))
    assert len(batch) == 6
    assert batch.background.tolist() == [False] * 4 + [True] * 2
    assert batch.image.dtype == torch.float16
    assert batch.image.shape == (6, 88, 4, 4)
    rows = next(config.data.batches(40, seed=0, skip=0, rank=0))
    assert {source.partition(":")[0] for source in rows.sources} == {"synthetic", "background"}
    depths = {round(float(row[0, 2]), 4) for row in rows.joints3d if row.any()}
    assert 4 <= len(depths) <= 8


def test_batches_are_reproducible(config: TrainConfig) -> None:
    first = config.data.batches(8, seed=3, skip=0, rank=0)
    next(first)
    again = next(config.data.batches(8, seed=3, skip=1, rank=0))
    for name in ("image", "joints3d", "K", "labelled"):
        assert torch.equal(getattr(next(config.data.batches(8, seed=3, skip=1, rank=0)), name), getattr(again, name))
    assert torch.equal(next(first).image, again.image)
    assert not torch.equal(next(config.data.batches(8, seed=4, skip=1, rank=0)).image, again.image)


def test_stored_maps_are_those_of_the_pictures(config: TrainConfig) -> None:
    data = config.data
    assert isinstance(data, StoredFeatures)
    worker = store_features._Worker(config)
    seen = data.labelled(0, held_out=True)
    maps = worker.fixed(seen.image.numpy())[0]
    assert maps.std() > 0
    network = Trainer(config, CPU).model.eval()
    with torch.no_grad():
        from_pictures = network.encoder.fixed_part(to_input(seen.image)).numpy()
    np.testing.assert_allclose(from_pictures, maps, atol=1e-4 * maps.std())
    kept = next(iter(data.validation(64))).image.numpy()
    np.testing.assert_allclose(kept, maps, rtol=2e-3, atol=1e-3 * maps.std())


def test_training_from_maps(config: TrainConfig) -> None:
    trainer = Trainer(config, CPU)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    stream = config.data.batches(8, seed=0, skip=0, rank=0)
    for _ in range(3):
        trainer.update(next(stream))
    for name, value in trainer.model.state_dict().items():
        fixed = name.startswith(("encoder.stem", *(f"encoder.blocks.{i}." for i in range(10))))
        if fixed or name.endswith("weight"):
            assert torch.equal(value, before[name]) == fixed, name
    assert trainer.validate()["mpjpe"] > 0


def test_maps_are_made_from_earlier_ones(config: TrainConfig, tmp_path: Path) -> None:
    data = config.data
    assert isinstance(data, StoredFeatures)
    whole = len(FULL.blocks) + 1
    later = replace(data, folder=tmp_path, earlier=data.folder, earlier_blocks=10, in_memory=True)
    all_fixed = replace(config, data=later, fixed_blocks=whole, frozen_encoder_steps=20)
    write(all_fixed, workers=1)
    batch = next(iter(later.validation(64)))
    earlier = next(iter(data.validation(64)))
    assert batch.image.shape == (6, 288, 2, 2)
    assert batch.sources == earlier.sources
    assert torch.equal(batch.joints3d, earlier.joints3d)
    trainer = Trainer(all_fixed, CPU)
    with torch.no_grad():
        expected = Trainer(config, CPU).model.encoder(to_input(earlier.image))
        torch.testing.assert_close(trainer.model.encoder(to_input(batch.image)), to_input(batch.image))
    torch.testing.assert_close(to_input(batch.image), expected, rtol=5e-3, atol=5e-3 * float(expected.std()))
    assert trainer.update(next(later.batches(8, 0, 0, 0)))["loss"] > 0


def test_what_is_there_is_not_written_again(config: TrainConfig) -> None:
    data = config.data
    assert isinstance(data, StoredFeatures)
    assert data.wanted() == []
    path = data.path(1, held_out=False)
    path.unlink()
    assert data.wanted() == [(path, 1, False)]
    write(config, workers=1)
    assert path.is_file()


def test_nothing_stored_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There are no stored features in"):
        next(StoredFeatures(tmp_path).batches(4, 0, 0, 0))
    with pytest.raises(InputError, match="must be StoredFeatures"):
        write(FAKE, workers=1)


def test_scenes_without_people_are_labelled_so() -> None:
    for example in empty_block(SMALL, 0, 0, 2):
        assert example.source == "background:scene"
        assert not example.visible.any()
        assert np.isnan(example.joints3d).all()
