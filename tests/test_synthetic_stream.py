"""The stream: reproducible by seed, the same for any count of workers, in the common format; its sources' licences."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("torch")

from training.examples import Example
from training.skeleton import JOINT_NAMES
from training.synthetic import synthetic_ready

if not synthetic_ready():
    pytest.skip("the body model's or the backgrounds' cache is not built", allow_module_level=True)

from training.synthetic import backgrounds, room
from training.synthetic.scene import middle_of
from training.synthetic.stream import StreamConfig, block, examples, loader

SMALL = StreamConfig(side=96, block=4, shapes=2)


def equal(a: Example, b: Example) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("image", "K", "joints3d", "joints2d", "visible")
    )


@pytest.fixture(scope="module")
def first_block() -> list[Example]:
    return block(SMALL, 1, 0)


def test_examples_have_the_common_format(first_block: list[Example]) -> None:
    for example in first_block:
        assert example.image.shape == (96, 96, 3)
        assert example.joints3d.shape == (len(JOINT_NAMES), 3)
        assert example.labels3d
        assert np.isfinite(example.joints3d).all()
        assert (example.joints3d[:, 2] > 0).all()
        assert example.visible.any()


def test_2d_is_the_projection_of_3d(first_block: list[Example]) -> None:
    for example in first_block:
        flat = example.joints3d @ example.K.T
        np.testing.assert_allclose(flat[:, :2] / flat[:, 2:], example.joints2d, atol=1e-2)
        inside = ((example.joints2d > -1) & (example.joints2d < 96)).all(1)
        assert inside[example.visible].all()


def test_pictures_show_something(first_block: list[Example]) -> None:
    assert all(example.image.std() > 3 for example in first_block)


def test_a_seed_gives_the_same_block_and_another_seed_another(first_block: list[Example]) -> None:
    assert all(map(equal, first_block, block(SMALL, 1, 0)))
    assert not any(map(equal, first_block, block(SMALL, 2, 0)))
    assert not any(map(equal, first_block, block(SMALL, 1, 1)))


def test_workers_share_one_stream() -> None:
    alone = list(itertools.islice(examples(SMALL, 3), 8))
    shared = [examples(SMALL, 3, worker, 2) for worker in range(2)]
    together = [next(shared[0]) for _ in range(4)] + [next(shared[1]) for _ in range(4)]
    assert all(map(equal, alone, together))


def test_the_loader_gives_the_same_batches_from_processes_and_from_any_start() -> None:
    here = list(itertools.islice(loader(SMALL, 3, 0, 3), 3))
    processes = loader(SMALL, 3, 2, 3)
    there = list(itertools.islice(processes, 3))
    processes.close()
    later = next(loader(SMALL, 3, 0, 3, skip=2))
    for a, b in zip(here, there, strict=True):
        assert (a.image == b.image).all()
        assert (a.joints3d == b.joints3d).all()
    assert (later.image == here[2].image).all()


def test_evaluation_is_kept_apart() -> None:
    for texture in (False, True):
        seen = {picture.file for picture in backgrounds.pictures(False, texture)}
        kept = {picture.file for picture in backgrounds.pictures(True, texture)}
        assert seen
        assert kept
        assert not seen & kept


def test_every_picture_has_a_licence_that_is_in_the_readme() -> None:
    entries = json.loads(backgrounds.index_file().read_text(encoding="utf-8"))
    readme = backgrounds.readme().read_text(encoding="utf-8")
    for entry in entries:
        assert entry["licence"]
        assert entry["licence"].rstrip("+") in readme, f"{entry['source']} is under {entry['licence']}"
        assert f"`{entry['package']}`" in readme


def test_a_room_holds_adults_in_front_of_tilted_portrait_cameras() -> None:
    rng = np.random.default_rng(5)
    stock = room.sampled_stock(rng, held_out=True, people=4, photos=1)
    rolls, counts = [], []
    for _ in range(24):
        scene = room.sampled_scene(rng, stock)
        assert scene is not None
        first, view = scene.people[0], scene.view
        assert first.shape.height > 1.3
        assert first.family in {"standing", "walking", "stumbling"}
        assert view.camera.size[1] > view.camera.size[0]
        assert 2.9 < np.linalg.norm(view.eye - middle_of(first)) < 4.1
        _, in_front = view.camera.project(view.to_camera(first.joints))
        assert in_front.all()
        rolls.append(np.degrees(np.arctan2(view.up[0], -view.up[1])))
        counts.append(len(scene.people))
        if counts[-1] == 2:
            nearer = scene.people[1].joints[0, :2]
            away = np.linalg.norm(first.joints[0, :2] - view.eye[:2])
            assert np.linalg.norm(nearer - view.eye[:2]) < away
    assert max(map(abs, rolls)) < 33
    assert np.std(rolls) > 8
    assert 0.4 < np.mean(np.array(counts) == 2) < 1
