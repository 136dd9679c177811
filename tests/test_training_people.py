"""The synthetic stream as training sees it: showings, mirrors, negatives, and resuming in the middle."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training/ needs torch: see requirements/training.txt")
pytest.importorskip("numba", reason="the synthetic people need numba: see requirements/training.txt")

from metrabs_ros.errors import InputError  # noqa: E402
from tests.training_fakes import SIDE, fake_person  # noqa: E402
from training import examples, people  # noqa: E402
from training.examples import Batch, collate  # noqa: E402
from training.negatives import negatives  # noqa: E402
from training.people import SyntheticPeople  # noqa: E402
from training.skeleton import SKELETON  # noqa: E402

COUNTERPARTS = torch.from_numpy(SKELETON.mirror)


def fake_loader(config: object, batch_size: int, workers: int, seed: int, skip: int = 0) -> Iterator[Batch]:
    number = skip * batch_size
    while True:
        yield collate([fake_person(np.random.default_rng([seed, number + i])) for i in range(batch_size)])
        number += batch_size


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> SyntheticPeople:
    monkeypatch.setattr(people.stream, "loader", fake_loader)
    return SyntheticPeople(showings=4, window=12)


def key(batch: Batch) -> list[float]:
    """A number for each example that mirroring does not change: how high the pelvis is."""
    return batch.joints3d[:, 0, 1].tolist()


def test_a_crop_is_shown_so_often(source: SyntheticPeople) -> None:
    stream = source.batches(8, seed=0, skip=0, rank=0)
    shown: dict[float, int] = {}
    for _ in range(400):
        for number in key(next(stream)):
            shown[number] = shown.get(number, 0) + 1
    assert len(shown) == 800
    assert np.mean(list(shown.values())) == 4
    assert sorted(shown.values())[400] in (3, 4)


@pytest.mark.parametrize("skip", [1, 3, 20])
def test_the_stream_can_begin_anywhere(source: SyntheticPeople, skip: int) -> None:
    from_start = source.batches(8, seed=0, skip=0, rank=0)
    for _ in range(skip):
        next(from_start)
    resumed = source.batches(8, seed=0, skip=skip, rank=0)
    for _ in range(3):
        expected, got = next(from_start), next(resumed)
        for name in ("image", "joints3d", "joints2d", "K", "visible", "labelled"):
            assert torch.equal(getattr(expected, name), getattr(got, name))


def test_processes_and_seeds_see_different_people(source: SyntheticPeople) -> None:
    firsts = [tuple(key(next(source.batches(8, seed, 0, rank)))) for seed, rank in ((0, 0), (0, 1), (1, 0))]
    assert len(set(firsts)) == 3
    with pytest.raises(InputError, match="multiple of showings"):
        next(source.batches(7, 0, 0, 0))


def test_a_mirrored_example_is_one_of_the_mirrored_camera() -> None:
    batch = next(fake_loader(None, 4, 0, 1))
    batch.K[:, 0, 2] += 3.5
    batch = replace(batch, joints2d=projected(batch))
    flipped = torch.tensor([True, False, True, True])
    got = examples.mirrored(batch, flipped, COUNTERPARTS)
    torch.testing.assert_close(projected(got), got.joints2d, atol=1e-3, rtol=1e-5)
    assert torch.equal(got.image[1], batch.image[1])
    assert torch.equal(got.image[0, :, 0], batch.image[0, :, SIDE - 1])
    left, right = (SKELETON.joint_names.index(f"{side}_wrist") for side in ("left", "right"))
    torch.testing.assert_close(got.joints2d[0, left, 0], SIDE - 1 - batch.joints2d[0, right, 0])
    again = examples.mirrored(got, flipped, COUNTERPARTS)
    torch.testing.assert_close(again.joints3d, batch.joints3d)
    torch.testing.assert_close(again.K, batch.K)


def projected(batch: Batch) -> torch.Tensor:
    flat = torch.einsum("nrc,njc->njr", batch.K, batch.joints3d)
    return flat[..., :2] / flat[..., 2:]


def test_negatives_hold_nobody_and_differ() -> None:
    try:
        batch = negatives(3, 64, (1, 2), held_out=False)
    except InputError as error:
        pytest.skip(str(error))
    assert batch.image.shape == (3, 64, 64, 3)
    assert batch.background.all()
    assert not batch.person.any()
    assert not torch.equal(batch.image[0], batch.image[1])
    assert torch.equal(batch.image, negatives(3, 64, (1, 2), held_out=False).image)
    assert not torch.equal(batch.image, negatives(3, 64, (1, 2), held_out=True).image)


def test_things_are_put_into_a_part_of_the_negatives(monkeypatch: pytest.MonkeyPatch) -> None:
    put = []

    def strewn(image: np.ndarray, rng: np.random.Generator, held_out: bool, central: bool) -> tuple[np.ndarray, None]:
        put.append((held_out, central))
        return image, None

    monkeypatch.setattr("training.negatives.cutouts.strewn", strewn)
    try:
        negatives(40, 64, (1, 2), held_out=True)
    except InputError as error:
        pytest.skip(str(error))
    assert not put
    negatives(40, 64, (1, 2), held_out=True, things=0.5)
    assert 10 < len(put) < 30
    assert set(put) == {(True, True)}
