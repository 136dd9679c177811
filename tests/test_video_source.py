"""video_source in its own process, heard over DDS."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from ros_support import NodeProcess, Peer
from sensor_msgs.msg import CameraInfo, Image

from metrabs_ros.camera import Camera
from metrabs_ros.messages import camera_from_msg, image_from_msg, stamp_s
from metrabs_ros.video_source import decoded_ahead, thinned

pytestmark = pytest.mark.ros

SIZE = (320, 240)


def color_of(index: int) -> tuple[int, int, int]:
    """A frame's RGB; neighbours differ well."""
    return (20 + 8 * index, 230 - 8 * index, 60 + 100 * (index % 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images")
    for index in range(20):
        cv2.imwrite(str(path / f"frame_{index}.png"), np.full((SIZE[1], SIZE[0], 3), color_of(index)[::-1], np.uint8))
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, SIZE)
    assert writer.isOpened(), "this OpenCV cannot write mp4v"
    for index in range(20):
        writer.write(np.full((SIZE[1], SIZE[0], 3), color_of(index)[::-1], np.uint8))
    writer.release()
    return path


def source_process(domain: int, **parameters: Any) -> NodeProcess:
    given = [f"{name}:={value}" for name, value in parameters.items()]
    return NodeProcess(
        domain, "-m", "metrabs_ros.video_source", "--ros-args", *(word for text in given for word in ("-p", text))
    )


def heard(domain: int, **parameters: Any) -> tuple[list[Image], list[CameraInfo], str]:
    """What a source publishes from its first frame to its own end, and what it says."""
    with Peer(domain) as peer:
        images, infos = peer.listen(Image, "/image"), peer.listen(CameraInfo, "/camera_info")
        with source_process(domain, wait_for_subscribers=1, **parameters) as source:
            assert source.ended() == 0, source.output
            source.wait_for(r"\d+ frames published")
            count = int(source.output.split(" frames published")[0].split()[-1])
        peer.wait_until(lambda: len(images) == len(infos) == count, f"all {count} frames, reliably")
    return [message for _, message in images], [message for _, message in infos], source.output


@pytest.mark.parametrize(("kind", "tolerance"), [("folder", 0), ("video", 12)])
def test_every_frame_comes_in_order_with_its_camera(
    domain: int, request: pytest.FixtureRequest, kind: str, tolerance: int
) -> None:
    images, infos, _ = heard(domain, source=request.getfixturevalue(kind), fov_deg=60, frame_id="cam")
    assert len(images) == 20
    for index, image in enumerate(images):
        assert np.abs(image_from_msg(image)[20:-20, 20:-20].astype(int) - color_of(index)).max() <= tolerance
    assert [image.header for image in images] == [info.header for info in infos]
    assert {image.header.frame_id for image in images} == {"cam"}
    camera = camera_from_msg(infos[0])
    np.testing.assert_allclose(camera.K, Camera.from_fov(60, SIZE).K)
    assert camera.size == SIZE


def test_the_rate_is_the_videos_own_or_the_one_asked_for(domain: int, video: Path) -> None:
    def intervals(**parameters: Any) -> np.ndarray:
        images, _, _ = heard(domain, source=video, fov_deg=60, **parameters)
        return np.diff([stamp_s(image.header) for image in images])

    assert np.median(intervals()) == pytest.approx(1 / 25, rel=0.1)
    assert np.median(intervals(rate=50)) == pytest.approx(1 / 50, rel=0.1)
    slower = intervals(max_rate=10)
    assert np.median(slower) == pytest.approx(3 / 25, rel=0.1)
    assert len(slower) == 6, "every third of 20 frames"


def test_a_loop_goes_on_until_it_is_interrupted(domain: int, folder: Path) -> None:
    with Peer(domain) as peer:
        images = peer.listen(Image, "/image")
        with source_process(domain, source=folder, fov_deg=60, loop="true", rate=100) as source:
            peer.wait_until(lambda: len(images) > 45, "the third round")
            assert source.interrupted(signal.SIGTERM) == 0
    # The first ones went unheard; from there on the order holds across the end.
    seen = [image_from_msg(message)[0, 0].tolist() for _, message in images]
    first = [list(color_of(index)) for index in range(20)].index(seen[0])
    assert seen == [list(color_of((first + step) % 20)) for step in range(len(seen))]


def test_a_calibration_file_replaces_the_field_of_view(domain: int, folder: Path, tmp_path: Path) -> None:
    def calibration(width: int) -> Path:
        path = tmp_path / f"camera_{width}.yaml"
        path.write_text(
            f"image_width: {width}\nimage_height: 240\ndistortion_model: plumb_bob\n"
            "camera_matrix: {rows: 3, cols: 3, data: [300, 0, 160, 0, 301, 120, 0, 0, 1]}\n"
            "distortion_coefficients: {rows: 1, cols: 5, data: [-0.1, 0.01, 0, 0, 0]}\n"
        )
        return path

    _, infos, _ = heard(domain, source=folder, camera_yaml=calibration(320))
    assert camera_from_msg(infos[0]).K[1, 1] == 301
    assert list(infos[0].d) == [-0.1, 0.01, 0, 0, 0]
    with source_process(domain, source=folder, camera_yaml=calibration(640)) as source:
        assert source.ended() == 2
    assert "calibrates images of 640x240, but" in source.output


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"fov_deg": 60}, "parameter source is not set"),
        ({"source": "FOLDER"}, "Give either camera_yaml .* or fov_deg .*, got neither"),
        ({"source": "FOLDER", "fov_deg": 60, "camera_yaml": "x.yaml"}, "got both"),
        ({"source": "nowhere.mp4", "fov_deg": 60}, "There is no file or folder 'nowhere.mp4'"),
        ({"source": "FOLDER", "fov_deg": 60, "speed": 2}, "unknown key 'speed'"),
    ],
)
def test_what_cannot_be_played_ends_with_2_and_a_sentence(
    domain: int, folder: Path, parameters: dict[str, Any], sentence: str
) -> None:
    given = {name: folder if value == "FOLDER" else value for name, value in parameters.items()}
    with source_process(domain, **given) as source:
        assert source.ended() == 2
        source.wait_for(sentence)
    assert "Traceback" not in source.output


def test_it_starts_without_the_subscribers_that_do_not_come(domain: int, folder: Path) -> None:
    with source_process(
        domain, source=folder, fov_deg=60, rate=200, wait_for_subscribers=1, wait_timeout_s=0.3
    ) as source:
        assert source.ended() == 0
        source.wait_for("Starting after 0.3 s with fewer subscribers .* 0 on /image and 0 on /camera_info")
        source.wait_for("20 frames published")


def test_thinning_keeps_the_speed_and_the_limit() -> None:
    assert thinned(30.0, 0.0) == (30.0, 1)
    assert thinned(30.0, 30.0) == (30.0, 1)
    assert thinned(30.0, 15.0) == (15.0, 2)
    assert thinned(30.0, 14.0) == (10.0, 3)
    assert thinned(30.0, 100.0) == (30.0, 1)


def test_decoding_ahead_gives_the_frames_and_their_trouble_in_order() -> None:
    def frames() -> Iterator[Any]:
        yield from range(5)
        raise ValueError("the sixth is damaged")

    ahead = decoded_ahead(frames(), 2)
    assert [next(ahead) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="sixth"):
        next(ahead)
