"""Videos appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metrabs_ros.errors import InputError
from metrabs_ros.frames import open_frames
from metrabs_ros.video_writer import VideoWriter

GREY = np.full((49, 65, 3), 120, np.uint8)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_video_is_read_back_without_its_odd_border(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    ramp = [np.full_like(GREY, value) for value in (40, 120, 200)]
    with VideoWriter(path, (65, 49), 25.0) as writer:
        for image in ramp:
            writer.write(image)
        assert not path.exists()
    with open_frames(path) as frames:
        assert (frames.size, frames.rate) == ((64, 48), pytest.approx(25.0))
        assert [frame.image_rgb.mean() for frame in frames] == pytest.approx([40, 120, 200], abs=4)


def test_error_leaves_nothing(tmp_path: Path) -> None:
    def fail(writer: VideoWriter) -> None:
        with writer:
            writer.write(GREY)
            raise RuntimeError("trouble")

    with pytest.raises(RuntimeError, match="trouble"):
        fail(VideoWriter(tmp_path / "a.mp4", (65, 49), 25.0))
    assert list(tmp_path.iterdir()) == []


def test_frame_of_another_size(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", (64, 48), 25.0)
    with writer, pytest.raises(InputError, match="is a video of 64x48, got a frame of shape"):
        writer.write(GREY[:40])
    assert list(tmp_path.iterdir()) == []


def test_names_that_cannot_be_written(tmp_path: Path) -> None:
    for name, words in (("a.gif", "Expected a video name"), ("none/a.mp4", "there is no folder")):
        with pytest.raises(InputError, match=words):
            VideoWriter(tmp_path / name, (64, 48), 25.0)
