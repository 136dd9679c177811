"""Frames out of real files: the demo's clip, and files of every kind that are whole, odd or broken."""

from __future__ import annotations

import logging
import struct
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.clip import clip_path
from metrabs_ros.errors import InputError
from metrabs_ros.frames import open_frames, read_image


@pytest.fixture
def picture() -> np.ndarray:
    """[48,64,3] RGB: left half red, right half blue, a green top row of blocks."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32, 0] = 250
    image[:, 32:, 2] = 250
    image[:16, :, 1] = 200
    return image


def write(path: Path, image_rgb: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), image_rgb[..., ::-1])
    return path


def write_avi(path: Path, images: list[np.ndarray], rate: float = 25.0) -> Path:
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(image[..., ::-1])
    writer.release()
    return path


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def refusal(source: Path | str) -> str:
    with pytest.raises(InputError) as caught, open_frames(source) as frames:
        list(frames)
    return str(caught.value)


def test_clip_has_the_size_rate_and_stamps_of_its_container() -> None:
    with open_frames(clip_path()) as frames:
        first = list(islice(frames, 5))
    assert (frames.size, frames.rate, frames.count) == ((1768, 994), pytest.approx(30), 230)
    assert [frame.index for frame in first] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([frame.stamp_s for frame in first], np.arange(5) / 30, atol=1e-4)
    assert first[0].image_rgb.shape == (994, 1768, 3)
    assert first[0].image_rgb.dtype == np.uint8


def test_a_file_can_be_read_again_from_its_start(tmp_path: Path, picture: np.ndarray) -> None:
    frames = open_frames(write_avi(tmp_path / "a.avi", [picture, picture[::-1]]))
    once, twice = list(frames), list(frames)
    assert len(once) == len(twice) == 2
    np.testing.assert_array_equal(once[1].image_rgb, twice[1].image_rgb)


def test_colours_are_rgb_in_images_and_videos(tmp_path: Path, picture: np.ndarray) -> None:
    for path in (write(tmp_path / "a.png", picture), write_avi(tmp_path / "a.avi", [picture])):
        image = next(iter(open_frames(path))).image_rgb
        np.testing.assert_allclose(image[40, 10], [250, 0, 0], atol=25)
        np.testing.assert_allclose(image[40, 55], [0, 0, 250], atol=25)


def test_folder_is_sorted_as_people_count(tmp_path: Path, picture: np.ndarray) -> None:
    for name in ("f_10.png", "f_9.png", "f_100.png", "F_1.png"):
        write(tmp_path / name, picture)
    (tmp_path / "notes.txt").write_text("no image")
    frames = open_frames(tmp_path, rate=10.0)
    assert [frame.name for frame in frames] == ["F_1.png", "f_9.png", "f_10.png", "f_100.png"]
    assert [frame.stamp_s for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert (frames.count, frames.rate, frames.size) == (4, 10.0, (64, 48))


@pytest.mark.parametrize("kind", ["grey", "grey16", "rgb16", "alpha"])
def test_every_kind_of_pixel_becomes_rgb8(tmp_path: Path, kind: str) -> None:
    value = 128
    data = {
        "grey": np.full((8, 8), value, np.uint8),
        "grey16": np.full((8, 8), value * 257, np.uint16),
        "rgb16": np.full((8, 8, 3), value * 257, np.uint16),
        "alpha": np.full((8, 8, 4), value, np.uint8),
    }[kind]
    cv2.imwrite(str(tmp_path / "a.png"), data)
    image = read_image(tmp_path / "a.png")
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image, np.full((8, 8, 3), value), atol=1)


def test_exif_orientation_is_carried_out(tmp_path: Path, picture: np.ndarray) -> None:
    path = write(tmp_path / "a.jpg", picture)
    # One big-endian TIFF directory with the entry Orientation (0x0112) = 6: turn a quarter clockwise to view.
    exif = b"Exif\0\0MM\0\x2a\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    image = read_image(path)
    assert image.shape == (64, 48, 3)
    np.testing.assert_allclose(image[10, 10], [250, 0, 0], atol=60)


def test_rotation_of_a_video_is_carried_out(tmp_path: Path, picture: np.ndarray) -> None:
    path = tmp_path / "a.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (64, 48))
    for _ in range(3):
        writer.write(picture[..., ::-1])
    writer.release()
    data = bytearray(path.read_bytes())
    # The display matrix stands 40 bytes into a version 0 track header (ISO 14496-12, 8.3.2): turn by 90 degrees.
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(bytes(data))
    frames = open_frames(path)
    assert frames.size == (48, 64)
    assert next(iter(frames)).image_rgb.shape == (64, 48, 3)


def test_video_cut_off_gives_its_frames_and_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), np.uint8)
    path = cut(write_avi(tmp_path / "a.avi", list(noise)), 0.6)
    frames = open_frames(path)
    with caplog.at_level(logging.WARNING):
        delivered = len(list(frames))
    assert 5 < delivered < 15
    assert frames.count == 20
    assert "cut off" in caplog.text
    assert str(path) in caplog.text


def test_whole_video_gives_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert sum(1 for _ in open_frames(clip_path())) == 230
    assert not caplog.text


def test_missing_file() -> None:
    assert "There is no file or folder 'nowhere.mp4'" in refusal("nowhere.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.png"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert "is empty (0 bytes)" in refusal(tmp_path / name)


def test_clip_cut_in_two_gives_its_first_part_and_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.mp4"
    data = clip_path().read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING):
        delivered = len(list(open_frames(path)))
    assert 50 < delivered < 180
    assert "cut off" in caplog.text


def test_video_without_a_whole_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(clip_path().read_bytes()[:20_000])
    assert "holds no frame that can be decoded" in refusal(path)


def test_video_without_its_index(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    data = clip_path().read_bytes()
    # A recording that was never finished: the file's type, then the pictures.
    path.write_bytes(data[:24] + data[data.index(b"mdat") - 4 :][:400_000])
    assert "a.mp4 cannot be opened as a video" in refusal(path)


def test_text_is_neither_video_nor_image(tmp_path: Path) -> None:
    for name, words in (("a.mp4", "cannot be opened as a video"), ("a.jpg", "cannot be decoded as an image")):
        (tmp_path / name).write_text("hello " * 100)
        assert words in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_image_cut_off(tmp_path: Path, picture: np.ndarray, name: str) -> None:
    assert "is cut off" in refusal(cut(write(tmp_path / name, picture), 0.8))


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    assert "holds no images" in refusal(tmp_path)


def test_folder_of_two_sizes_names_the_file(tmp_path: Path, picture: np.ndarray) -> None:
    write(tmp_path / "1.png", picture)
    write(tmp_path / "2.png", picture[:24])
    message = refusal(tmp_path)
    assert "2.png is 64x24" in message
    assert "64x48" in message


def test_webcam_that_is_not_there() -> None:
    assert "/dev/video97 gives no image" in refusal("97")


def test_a_thinned_video_gives_the_frames_that_the_whole_one_has_there() -> None:
    with open_frames(clip_path()) as frames:
        whole = list(islice(frames, 0, 22, 7))
        thinned = list(islice(frames.thinned(7), 4))
    assert [frame.index for frame in thinned] == [0, 7, 14, 21]
    for one, other in zip(thinned, whole, strict=True):
        assert (one.index, one.stamp_s) == (other.index, other.stamp_s)
        np.testing.assert_array_equal(one.image_rgb, other.image_rgb)


def test_thinned_images_are_every_other_one(tmp_path: Path, picture: np.ndarray) -> None:
    for number in range(5):
        write(tmp_path / f"{number}.png", picture)
    with open_frames(tmp_path) as frames:
        assert [frame.name for frame in frames.thinned(2)] == ["0.png", "2.png", "4.png"]
