"""Augmentation: labels and pixels move together, switches, probabilities, truncation, occlusion and backgrounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from training.augment import NONE, Augmentation, AugmentConfig, sampled_view
from training.augmentation.colour import recoloured
from training.augmentation.geometry import View, in_disc, person_square, sampled_part, turned, viewed_box
from training.augmentation.occlusion import voc_objects, with_noise, with_objects
from training.data.missing import DataError
from training.data.pictures import PictureArray
from training.data.record import Mask, Record
from training.examples import Example
from training.skeleton import JOINT_NAMES, SKELETON

BLOBS = {
    "left_wrist": (255, 0, 0),
    "right_wrist": (0, 255, 0),
    "left_ankle": (0, 0, 255),
    "right_ankle": (255, 255, 0),
    "nose": (255, 0, 255),
}
PLACES = np.array([[0.5, -0.1, 3.8], [-0.45, 0, 4.1], [0.2, 0.7, 4.2], [-0.25, 0.75, 3.9], [0.05, -0.7, 4.0]])
K = np.array([[420.0, 0, 330], [0, 425, 232], [0, 0, 1]])
LENS = Camera(K, np.array([-0.12, 0.02, 0.001, -0.001, 0]), "plumb_bob", (640, 480))


def blob_record(labelled3d: bool = True) -> Record:
    """Coloured discs where joints are, left of the middle and in a distorted picture."""
    joints3d = PLACES + [-0.6, 0.1, 0]
    pixels, _ = LENS.project(joints3d)
    image = np.full((480, 640, 3), 90, np.uint8)
    mask = np.zeros_like(image)
    for pixel, colour in zip(pixels, BLOBS.values(), strict=True):
        center = tuple(round(float(value) * 16) for value in pixel)
        cv2.circle(image, center, 9 * 16, colour, -1, cv2.LINE_AA, 4)
        cv2.circle(mask, center, 12 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
    low, high = pixels.min(0) - 20, pixels.max(0) + 20
    return Record(
        dataset="blobs",
        picture=PictureArray(image),
        camera=LENS,
        box=np.concatenate([low, high - low]),
        joint_names=tuple(BLOBS),
        joints2d=pixels,
        joints3d=joints3d if labelled3d else None,
        joints3d_universal=joints3d * 0.8 if labelled3d else None,
        mask=Mask(PictureArray(mask)),
    )


def blob_centre(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray | None:
    near = np.abs(image.astype(int) - colour).max(-1) < 70
    return np.argwhere(near)[:, ::-1].mean(0) if near.sum() > 15 else None


def check_blobs(example: Example) -> int:
    """Blobs well inside the crop are where joints2d says; returns how many. left_… and right_… as the mirror shows."""
    seen = 0
    for name, colour in BLOBS.items():
        place = example.joints2d[JOINT_NAMES.index(name)]
        if ((place > 14) & (place < len(example.image) - 14)).all():
            found = blob_centre(example.image, colour)
            assert found is not None, name
            np.testing.assert_allclose(found, place, atol=0.8, err_msg=name)
            seen += 1
    return seen


GEOMETRY = AugmentConfig(mirror=0, colour=False, occlusion=0, occlusion_composited=0, background=0, truncation=0.3)


@pytest.mark.parametrize("labelled3d", [True, False])
def test_labels_and_pixels_move_together(labelled3d: bool) -> None:
    augmentation = Augmentation(GEOMETRY)
    record = blob_record(labelled3d)
    seen = 0
    for seed in range(12):
        example = augmentation.example(record, np.random.default_rng(seed))
        seen += check_blobs(example)
        if labelled3d:
            known = np.isfinite(example.joints3d).all(1)
            projected = example.joints3d[known] @ example.K.T
            np.testing.assert_allclose(projected[:, :2] / projected[:, 2:], example.joints2d[known], atol=0.01)
    assert seen > 30


def test_mirrored_people_have_their_sides_swapped() -> None:
    plain = Augmentation(replace(GEOMETRY, truncation=0)).example(blob_record(), np.random.default_rng(5))
    mirrored = Augmentation(replace(GEOMETRY, truncation=0, mirror=1)).example(blob_record(), np.random.default_rng(5))
    side = len(plain.image)
    for name, other in (("left_wrist", "right_wrist"), ("right_ankle", "left_ankle"), ("nose", "nose")):
        there, here = JOINT_NAMES.index(name), JOINT_NAMES.index(other)
        np.testing.assert_allclose(mirrored.joints3d[there], plain.joints3d[here] * [-1, 1, 1], atol=1e-5)
        np.testing.assert_allclose(mirrored.joints2d[there], [side, 0] + plain.joints2d[here] * [-1, 1], atol=1e-3)
        assert mirrored.visible[there] == plain.visible[here]
    # The principal point stays at S/2, so that the mirror of column 1 is column S − 1.
    np.testing.assert_allclose(mirrored.K, plain.K)
    assert np.abs(mirrored.image[:, 1:].astype(int) - plain.image[:, :0:-1]).max() <= 2


def test_mirroring_twice_is_nothing() -> None:
    augmentation = Augmentation(NONE)
    cameras = augmentation.cameras(blob_record(), View(roll=0.2))
    twice = turned(turned(cameras, View(mirrored=True)), View(mirrored=True))
    np.testing.assert_allclose(twice.R_crop_cam, cameras.R_crop_cam)
    np.testing.assert_allclose(twice.K, cameras.K)
    assert np.linalg.det(turned(cameras, View(mirrored=True)).R_crop_cam[0]) == pytest.approx(-1)
    np.testing.assert_array_equal(SKELETON.mirror[SKELETON.mirror], np.arange(len(JOINT_NAMES)))


def test_roll_zoom_and_shift_do_what_they_say() -> None:
    augmentation, record = Augmentation(NONE), blob_record()
    plain = augmentation.cameras(record, View())
    zoomed = augmentation.cameras(record, View(zoom=1.2))
    np.testing.assert_allclose(zoomed.K[0, 0, 0], plain.K[0, 0, 0] * 1.2)
    rolled = augmentation.cameras(record, View(roll=np.pi / 6))
    turn = rolled.R_crop_cam[0] @ plain.R_crop_cam[0].T
    np.testing.assert_allclose(turn[:2, :2], [[np.sqrt(0.75), -0.5], [0.5, np.sqrt(0.75)]], atol=1e-9)
    box = np.array([10.0, 20, 40, 100])
    np.testing.assert_allclose(viewed_box(box, View(shift=(0.1, 0))), [20, 20, 40, 100])
    np.testing.assert_allclose(viewed_box(box, View(part=(0, 0.4, 0.6, 0.6))), [-20, 60, 60, 60])


@given(st.integers(0, 10**6))
def test_truncation_keeps_at_least_a_quarter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    box = np.array([10.0, 20, 40, 100])
    square = person_square(box)
    kept = viewed_box(box, View(part=sampled_part(rng)))
    assert kept[2] * kept[3] >= square[2] * square[3] / 4
    assert (kept[:2] >= square[:2] - 1e-9).all()
    assert (kept[:2] + kept[2:] <= square[:2] + square[2:] + 1e-9).all()


def test_probabilities_and_ranges() -> None:
    config = AugmentConfig(truncation=0.25)
    rng = np.random.default_rng(0)
    views = [sampled_view(config, rng, rng) for _ in range(4000)]
    assert np.mean([view.mirrored for view in views]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([view.part is not None for view in views]) == pytest.approx(0.25, abs=0.03)
    rolls, zooms = np.degrees([view.roll for view in views]), np.array([view.zoom for view in views])
    assert -20 <= rolls.min() < -19.5 < 19.5 < rolls.max() <= 20
    assert 0.75 <= zooms.min() < 0.76 < 1.24 < zooms.max() <= 1.25
    radii = np.linalg.norm([view.shift for view in views], axis=1)
    assert 0.099 < radii.max() <= 0.1
    # Evenly over the disc: half of its area lies within 1/√2 of the radius.
    assert np.mean(radii < 0.1 / np.sqrt(2)) == pytest.approx(0.5, abs=0.03)
    assert np.linalg.norm(np.mean([in_disc(rng) for _ in range(2000)], 0)) < 0.06


def test_occlusion_is_rarer_on_composites_and_hides_joints() -> None:
    objects = [np.full((120, 120, 4), 255, np.uint8)]
    config = AugmentConfig(geometry=False, colour=False, background=0)
    augmentation = Augmentation(config, objects, side=64)
    record = blob_record()
    plain = Augmentation(NONE, side=64).example(record, np.random.default_rng(0))
    rates, hidden = {}, 0
    for dataset in ("blobs", "muco"):
        changed = 0
        for seed in range(150):
            example = augmentation.example(replace(record, dataset=dataset), np.random.default_rng(seed))
            changed += bool((example.image != plain.image).any())
            hidden += int(plain.visible.sum() - example.visible.sum())
        rates[dataset] = changed / 150
    assert rates["blobs"] == pytest.approx(0.7, abs=0.12)
    assert rates["muco"] == pytest.approx(0.3, abs=0.12)
    assert hidden > 50


def test_noise_and_objects_cover_what_they_say() -> None:
    rng = np.random.default_rng(2)
    crop = np.full((64, 64, 3), 0.5, np.float32)
    for _ in range(50):
        noisy, covered = with_noise(crop, rng)
        assert covered.mean() <= 1 / 3
        assert (noisy[~covered] == 0.5).all()
    cutout = np.zeros((100, 80, 4), np.uint8)
    cutout[20:80, 20:60] = [200, 10, 10, 255]
    pasted, covered = with_objects(crop, [cutout], rng)
    assert covered.any()
    np.testing.assert_allclose(np.median(pasted[covered], 0), np.array([200, 10, 10]) / 255, atol=0.02)
    assert (crop == 0.5).all()


def test_colours_change_within_bounds_and_keep_grey_grey_but_for_brightness() -> None:
    grey = np.full((8, 8, 3), 0.5, np.float32)
    for seed in range(20):
        out = recoloured(grey, np.random.default_rng(seed))
        assert out.dtype == np.float32
        assert np.ptp(out) < 1e-3
        assert 0.5 - 0.125 * 1.5 - 1e-3 <= out.mean() <= 0.5 + 0.125 * 1.5 + 1e-3
    red = np.zeros((8, 8, 3), np.float32) + np.float32([0.8, 0.2, 0.2])
    assert len({tuple(recoloured(red, np.random.default_rng(s))[0, 0].round(2)) for s in range(8)}) == 8


def test_background_is_swapped_around_the_person() -> None:
    photo = np.zeros((50, 90, 3), np.uint8) + np.uint8([10, 200, 100])
    augmentation = Augmentation(replace(NONE, background=1.0), backgrounds=[PictureArray(photo)])
    example = augmentation.example(blob_record(), np.random.default_rng(0))
    assert check_blobs(example) == len(BLOBS)
    np.testing.assert_array_equal(example.image[2, 2], [10, 200, 100])
    with pytest.raises(InputError, match="photos without people"):
        Augmentation(replace(NONE, background=1.0)).example(blob_record(), np.random.default_rng(0))


def test_the_same_seed_gives_the_same_and_switches_are_independent() -> None:
    record = blob_record()
    full = AugmentConfig(background=0, objects=0, truncation=0.5)
    one, two = (Augmentation(full).example(record, np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(one.image, two.image)
    without = Augmentation(replace(full, colour=False, occlusion=0)).example(record, np.random.default_rng(9))
    np.testing.assert_array_equal(without.joints3d, one.joints3d)
    other = Augmentation(full).example(record, np.random.default_rng(10))
    assert (other.joints2d[SKELETON.joint_names.index("nose")] != one.joints2d[14]).all()


def test_universal_skeletons_and_refusals() -> None:
    metric = Augmentation(NONE).example(blob_record(), np.random.default_rng(0))
    universal = Augmentation(NONE, universal=True).example(blob_record(), np.random.default_rng(0))
    np.testing.assert_allclose(universal.joints3d, metric.joints3d * 0.8, rtol=1e-4)
    np.testing.assert_array_equal(universal.joints2d, metric.joints2d)
    with pytest.raises(InputError, match="Pasting objects needs objects"):
        Augmentation(AugmentConfig())
    with pytest.raises(InputError, match="probability"):
        AugmentConfig(mirror=2)


def test_objects_come_from_pascal_voc_without_people(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("Annotations", "JPEGImages", "SegmentationObject"):
        (tmp_path / name).mkdir()
    entries = "".join(
        f"<object><name>{name}</name><truncated>0</truncated><difficult>0</difficult><bndbox><xmin>{x}</xmin>"
        f"<ymin>5</ymin><xmax>{x + 40}</xmax><ymax>45</ymax></bndbox></object>"
        for name, x in (("person", 5), ("dog", 50))
    )
    (tmp_path / "Annotations" / "a.xml").write_text(f"<annotation><segmented>1</segmented>{entries}</annotation>")
    pixels = np.full((60, 100, 3), 30, np.uint8)
    pixels[5:45, 50:90] = [240, 120, 0]
    Image.fromarray(pixels).save(tmp_path / "JPEGImages" / "a.jpg", quality=95)
    numbers = np.zeros((60, 100), np.uint8)
    numbers[5:45, 5:45], numbers[8:42, 53:87] = 1, 2
    palette = Image.fromarray(numbers, mode="P")
    palette.putpalette([value for i in range(256) for value in (i * 37 % 256, i, 255 - i)])
    palette.save(tmp_path / "SegmentationObject" / "a.png")
    (cutout,) = voc_objects(tmp_path)
    assert cutout.shape == (20, 20, 4)
    np.testing.assert_allclose(cutout[10, 10], [240, 120, 0, 255], atol=12)
    assert cutout[0, 0, 3] == 0
    with pytest.raises(DataError, match="Pascal VOC"):
        voc_objects(tmp_path / "nowhere")
