"""Animals and things that are put into pictures: where they come from, where they land, what they hide."""

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training/ needs torch: see requirements/training.txt")

from metrabs_ros.errors import InputError
from training.detector import views
from training.detector.targets import People
from training.skeleton import JOINT_NAMES
from training.synthetic import cutouts

RED = (0, 0, 255, 255)


def stamp(path: Path, shape: tuple[int, int] = (300, 400)) -> None:
    """A red rectangle, a third of the picture wide, on nothing."""
    image = np.zeros((*shape, 4), np.uint8)
    image[shape[0] // 3 : -shape[0] // 3, shape[1] // 3 : -shape[1] // 3] = RED
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[cutouts.Cutout]:
    """The cache of a package with forty wanted stamps, one of a people's folder, one unwanted and one without holes."""
    monkeypatch.setenv("TRAINING_CACHE", str(tmp_path / "cache"))
    stamps = tmp_path / "root" / cutouts._STAMPS
    for i in range(40):
        stamp(stamps / "animals" / "mammals" / f"{i}.png")
    for name in ("people/man.png", "animals/mammals/apes/gorilla.png"):
        stamp(stamps / name)
    cv2.imwrite(str(stamps / "animals" / "whole.png"), np.full((300, 300, 4), 255, np.uint8))
    copyright_file = tmp_path / "root/usr/share/doc" / cutouts.PACKAGE / "copyright"
    copyright_file.parent.mkdir(parents=True)
    copyright_file.write_text("Files: *\nLicense: GPL-2\n\nFiles: debian/*\nLicense: GPL-3\n")
    monkeypatch.setattr(cutouts, "unpacked", lambda package, scratch: tmp_path / "root")
    cutouts.cutouts.cache_clear()
    cutouts.image_of.cache_clear()
    yield cutouts.build()
    cutouts.cutouts.cache_clear()
    cutouts.image_of.cache_clear()


def test_animals_and_things_are_taken_with_their_licence(built: list[cutouts.Cutout]) -> None:
    assert {Path(cutout.source).parent.name for cutout in built} == {"mammals"}
    assert {cutout.licence for cutout in built} == {"GPL-2"}
    training, evaluation = cutouts.cutouts(False), cutouts.cutouts(True)
    assert len(training) + len(evaluation) == len(built) == 40
    assert 0 < len(evaluation) < len(training)
    image = cutouts.image_of(training[0])
    assert max(image.shape[:2]) <= 256
    assert image[image.shape[0] // 2, image.shape[1] // 2].tolist() == [255, 0, 0, 255]


def test_without_the_cache_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINING_CACHE", str(tmp_path))
    cutouts.cutouts.cache_clear()
    with pytest.raises(InputError, match=r"python -m training\.synthetic\.cutouts"):
        cutouts.cutouts(False)


def test_the_picture_changes_where_something_is(built: list[cutouts.Cutout]) -> None:
    grey = np.full((200, 200, 3), 90, np.uint8)
    seen, opacity = cutouts.strewn(grey, np.random.default_rng(4), held_out=False)
    again, _ = cutouts.strewn(grey, np.random.default_rng(4), held_out=False)
    np.testing.assert_array_equal(seen, again)
    assert (seen[opacity == 0] == 90).all()
    solid = seen[opacity > 0.99].astype(int)
    assert len(solid)
    assert (solid[:, 0] > solid[:, 1] + 50).all()


def test_something_stands_where_somebody_could(built: list[cutouts.Cutout]) -> None:
    grey = np.full((200, 200, 3), 90, np.uint8)
    middles = [
        cutouts.strewn(grey, np.random.default_rng(i), held_out=True, central=True)[1][80:120, 80:120].max()
        for i in range(20)
    ]
    assert min(middles) > 0.9


def test_what_is_covered_is_not_seen(built: list[cutouts.Cutout]) -> None:
    grid = np.stack(np.meshgrid(np.linspace(5, 195, 9), np.linspace(5, 195, 9)), -1).reshape(-1, 2)
    joints = grid[: len(JOINT_NAMES)][None]
    middle = np.array([[100.0, 100]])
    people = People(middle, middle - [0, 50], middle - [0, 30], joints, np.ones(joints.shape[:2], bool))
    hidden = 0
    for seed in range(12):
        view = views.strewn(views.View(np.full((200, 200, 3), 90, np.uint8), people), np.random.default_rng(seed))
        for (x, y), is_seen in zip(joints[0].astype(int), view.people.seen[0], strict=True):
            shows_through = view.image[y, x, 1] / 90
            assert is_seen == (shows_through > 0.5)
            hidden += not is_seen
    assert hidden
    np.testing.assert_array_equal(people.seen, True)
