"""metrabs-pose on the demo's clip and on an astronaut, and each wrong input with its sentence and exit code 2."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
import yaml

from demo.clip import clip_path
from metrabs_ros.cli import pose
from metrabs_ros.engine import Engine, open_engine
from metrabs_ros.frames import open_frames
from metrabs_ros.model_spec import ModelSpec, find_spec
from metrabs_ros.video_writer import VideoWriter

FRAMES = 12
ENGINE = "blazepose_full"
CALIBRATION = {
    "image_width": 442,
    "image_height": 248,
    "camera_matrix": {"rows": 3, "cols": 3, "data": [425.0, 0, 220.5, 0, 425.0, 123.5, 0, 0, 1]},
    "distortion_model": "plumb_bob",
    "distortion_coefficients": {"rows": 1, "cols": 5, "data": [0.0] * 5},
}

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """metrabs-pose run in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["metrabs-pose", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            pose.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def refusal(command: Command) -> Callable[..., str]:
    """The one sentence on stderr of a run that must exit with 2."""

    def run(*arguments: object) -> str:
        code, _, error = command(*arguments)
        assert code == 2, error
        assert error.startswith("metrabs-pose: ")
        assert len(error.splitlines()) == 1
        return error

    return run


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip's part with both people as images, a quarter as large."""
    folder = tmp_path_factory.mktemp("clip")
    with open_frames(clip_path()) as frames:
        for frame in islice(frames, 60, 60 + FRAMES):
            small = cv2.resize(frame.image_rgb, (442, 248), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(folder / f"{frame.index}.png"), small[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def video(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "two people.mp4"
    with open_frames(clip) as frames, VideoWriter(path, frames.size, 30) as writer:
        for frame in frames:
            writer.write(frame.image_rgb)
    return path


@pytest.fixture(scope="module")
def astronaut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("astronaut") / "astronaut.png"
    cv2.imwrite(str(path), skimage.data.astronaut()[..., ::-1])
    return path


@pytest.fixture
def calibration(tmp_path: Path) -> Callable[..., Path]:
    def write(**changes: Any) -> Path:
        path = tmp_path / "camera.yaml"
        path.write_text(yaml.safe_dump(CALIBRATION | changes))
        return path

    return write


def lines_of(path: Path) -> list[dict[str, Any]]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no strict JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def test_video_to_poses_and_annotated_video(command: Command, video: Path, tmp_path: Path) -> None:
    code, out, _ = command(video, "--fov", 55, "--output", "p.jsonl", "--video", "o.mp4")
    assert code == 0
    assert f"{FRAMES} frames, " in out
    assert "(at most 2 at a time" in out
    lines = lines_of(tmp_path / "p.jsonl")
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    np.testing.assert_allclose([line["stamp"] for line in lines], np.arange(FRAMES) / 30, atol=1e-3)
    assert sum(len(line["persons"]) == 2 for line in lines) >= 0.8 * FRAMES
    for line in lines:
        joints = len(line["joint_names"])
        for person in line["persons"]:
            assert set(person) == {"id", "box", "score", "joints3d", "joints2d", "uncertainty"}
            assert np.shape(person["joints3d"]) == (joints, 3)
            assert np.shape(person["joints2d"]) == (joints, 2)
            assert 4 < np.median(person["joints3d"], axis=0)[2] < 12
            assert np.shape(person["uncertainty"]) == (joints,)
            assert 0 < min(person["uncertainty"]) < 1.5
    annotated, plain = open_frames(tmp_path / "o.mp4"), open_frames(video)
    assert (annotated.count, annotated.size) == (FRAMES, plain.size)
    *_, (drawn, undrawn) = zip(annotated, plain, strict=True)
    difference = np.abs(drawn.image_rgb.astype(int) - undrawn.image_rgb).max(-1)
    assert (difference > 60).mean() > 0.002
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.mp4", "p.jsonl"]


def test_folder_with_calibration_and_default_output(
    command: Command, clip: Path, calibration: Callable[..., Path], tmp_path: Path
) -> None:
    code, out, _ = command(clip, "--camera", calibration())
    assert code == 0
    name = f"{clip.name}.poses.jsonl"
    assert name in out
    assert len(lines_of(tmp_path / name)) == FRAMES
    assert not (tmp_path / f"{name}.part").exists()


def test_astronaut_is_one_person_with_legs_beyond_the_image(command: Command, astronaut: Path, tmp_path: Path) -> None:
    code, _, error = command(astronaut, "--fov", 55, "--output", "p.jsonl", "--video", "o.png")
    assert (code, error) == (0, "")
    (line,) = lines_of(tmp_path / "p.jsonl")
    (person,) = line["persons"]
    assert person["id"] == 1
    ankle = person["joints2d"][line["joint_names"].index("left_ankle")]
    assert ankle[1] > 512
    assert (cv2.imread("o.png") != cv2.imread(str(astronaut))).any()


def test_image_without_people_gives_a_line_without_persons(command: Command, tmp_path: Path) -> None:
    cv2.imwrite("grey.png", np.full((200, 300, 3), 128, np.uint8))
    code, out, _ = command("grey.png", "--fov", 55, "--output", "p.jsonl")
    assert code == 0
    assert "0 with people" in out
    assert lines_of(tmp_path / "p.jsonl")[0]["persons"] == []


def test_boxes_from_a_file_replace_the_detector(command: Command, clip: Path, tmp_path: Path) -> None:
    command(clip, "--fov", 55, "--output", "own.jsonl")
    own = lines_of(tmp_path / "own.jsonl")
    boxes = [{"frame": line["frame"], "boxes": [line["persons"][0]["box"]]} for line in own if line["frame"] % 2 == 0]
    Path("boxes.jsonl").write_text("\n\n".join(map(json.dumps, boxes)))
    code, _, _ = command(clip, "--fov", 55, "--output", "p.jsonl", "--boxes", "boxes.jsonl")
    assert code == 0
    counts = [len(line["persons"]) for line in lines_of(tmp_path / "p.jsonl")]
    assert counts[1::2] == [0] * (FRAMES // 2)
    assert counts[0::2] == [1] * (FRAMES // 2)


def test_why_the_engine_runs_where_it_runs_goes_to_stderr(
    command: Command, astronaut: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(spec: ModelSpec) -> Engine:
        return open_engine(spec).because("auto took it.", "The choice is not kept.")

    monkeypatch.setattr("metrabs_ros.pipeline.open_fastest", measured)
    code, out, error = command(astronaut, "--fov", 55)
    assert code == 0
    assert "metrabs-pose: auto took it.\nmetrabs-pose: The choice is not kept.\n" in error
    assert "auto" not in out


def test_frame_that_fails_is_named_and_those_before_are_kept(
    refusal: Callable[..., str], clip: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(clip, tmp_path / "folder")
    cv2.imwrite(str(folder / "63.png"), np.zeros((100, 100, 3), np.uint8))
    message = refusal(folder, "--fov", 55, "--output", "p.jsonl")
    assert "63.png is 100x100" in message
    assert "p.jsonl.part" in message
    assert not Path("p.jsonl").exists()
    assert [line["frame"] for line in lines_of(tmp_path / "p.jsonl.part")] == [0, 1, 2]


def test_interrupt_keeps_the_finished_frames(tmp_path: Path) -> None:
    arguments = [str(clip_path()), "--fov", "55", "--output", str(tmp_path / "p.jsonl")]
    # An interactive shell's children do not ignore SIGINT; those of a background job do.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from metrabs_ros.cli import pose; pose.main()"
    )
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], stderr=subprocess.PIPE, text=True)
    part = tmp_path / "p.jsonl.part"
    try:
        # The file itself is the event: nothing else tells from outside that frames are done.
        while process.poll() is None and not (part.exists() and part.stat().st_size):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert str(part) in error.replace("\n", "")
    assert [line["frame"] for line in lines_of(part)] == list(range(len(lines_of(part))))
    assert not (tmp_path / "p.jsonl").exists()


def test_neither_camera_nor_fov(refusal: Callable[..., str], clip: Path) -> None:
    assert "got neither" in refusal(clip)


def test_both_camera_and_fov(refusal: Callable[..., str], clip: Path, calibration: Callable[..., Path]) -> None:
    assert "got both" in refusal(clip, "--fov", 55, "--camera", calibration())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"camera_matrix": {"data": [0.0] * 9}}, "K is all zeros"),
        ({"camera_matrix": {"data": [float("nan")] + [1.0] * 8}}, "K must hold finite numbers"),
        ({"camera_matrix": {"data": [1.0] * 8}}, "expected 9 numbers, got 8"),
        ({"distortion_model": "wide"}, "lens model 'wide' is not known"),
        ({"image_width": 640, "image_height": 480}, "calibrates images of 640x480, but"),
    ],
)
def test_calibration_that_does_not_fit(
    refusal: Callable[..., str], clip: Path, calibration: Callable[..., Path], changes: dict[str, Any], words: str
) -> None:
    assert words in refusal(clip, "--camera", calibration(**changes))


@pytest.mark.parametrize("fov", ["0", "180", "-5", "nan"])
def test_field_of_view_out_of_range(refusal: Callable[..., str], clip: Path, fov: str) -> None:
    assert "between 0 and 180 degrees" in refusal(clip, "--fov", fov)


@pytest.mark.parametrize("up", ["0,0,0", "1,2", "a,b,c", "0,nan,1", ""])
def test_up_that_is_no_direction(refusal: Callable[..., str], clip: Path, up: str) -> None:
    assert "--up must be three numbers" in refusal(clip, "--fov", 55, "--up", up)


def test_up_may_begin_with_a_minus(command: Command, astronaut: Path) -> None:
    assert command(astronaut, "--fov", 55, "--up", "-0.1,-1,0")[0] == 0


def test_input_that_cannot_be_read(refusal: Callable[..., str], tmp_path: Path) -> None:
    assert "There is no file or folder 'none.mp4'" in refusal("none.mp4", "--fov", 55)
    Path("empty.mp4").touch()
    assert "empty.mp4 is empty (0 bytes)" in refusal("empty.mp4", "--fov", 55)
    Path("cut.mp4").write_bytes(clip_path().read_bytes()[:20_000])
    assert "cut.mp4 holds no frame" in refusal("cut.mp4", "--fov", 55)


def test_unknown_engine_and_backend(refusal: Callable[..., str], astronaut: Path) -> None:
    assert "did you mean 'blazepose_full'" in refusal(astronaut, "--fov", 55, "--engine", "blazepose_ful")
    assert "no backend named 'tensor'" in refusal(astronaut, "--fov", 55, "--backend", "tensor")
    assert "person_height must be 0" in refusal(astronaut, "--fov", 55, "--person-height", 170)
    assert "num_aug must be" in refusal(astronaut, "--fov", 55, "--num-aug", 0)
    assert "must be one of engine, coco_17" in refusal(astronaut, "--fov", 55, "--convention", "coco")


def test_joints_of_another_convention_with_the_uncertainty_of_several_views(
    command: Command, astronaut: Path, tmp_path: Path
) -> None:
    code, _, error = command(astronaut, "--fov", 50, "--convention", "coco_17", "--num-aug", 4, "--output", "p.jsonl")
    assert code == 0, error
    (line,) = lines_of(tmp_path / "p.jsonl")
    assert line["joint_names"][:2] == ["nose", "left_eye"]
    assert len(line["joint_names"]) == 17
    (person,) = line["persons"]
    assert np.shape(person["joints3d"]) == (17, 3)
    assert all(0 < value < 1 for value in person["uncertainty"])


def test_who_is_known_to_be_taller_is_farther(command: Command, astronaut: Path, tmp_path: Path) -> None:
    distances = []
    for height in (1.5, 1.8):
        code, _, error = command(
            astronaut, "--fov", 50, "--engine", "metrabs_base", "--person-height", height, "--output", "p.jsonl"
        )
        assert code == 0, error
        (person,) = lines_of(tmp_path / "p.jsonl")[0]["persons"]
        distances.append(np.linalg.norm(person["joints3d"], axis=-1).mean())
    assert distances[1] / distances[0] == pytest.approx(1.8 / 1.5, rel=0.01)


def test_feet_on_the_floor_say_how_far_people_are(
    command: Command, refusal: Callable[..., str], astronaut: Path, tmp_path: Path
) -> None:
    """The clip's people stand on a lawn: seen from higher above it, they are larger and farther."""
    folder = tmp_path / "frames"
    folder.mkdir()
    video = cv2.VideoCapture(str(clip_path()))
    video.set(cv2.CAP_PROP_POS_FRAMES, 60)
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), video.read()[1])
    video.release()
    depths = {}
    for height in (0, 1.0, 2.0):
        code, _, error = command(folder, "--fov", 55, "--camera-height", height, "--output", "p.jsonl")
        assert code == 0, error
        persons = lines_of(tmp_path / "p.jsonl")[-1]["persons"]
        assert len(persons) == 2
        depths[height] = np.mean([np.array(person["joints3d"])[:, 2].mean() for person in persons])
    assert depths[1.0] < depths[2.0]
    assert depths[0] not in (depths[1.0], depths[2.0])
    assert "camera_height must be 0 (unknown)" in refusal(astronaut, "--fov", 55, "--camera-height", -1)


@pytest.fixture
def engine_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "engines"
    shutil.copytree(find_spec(ENGINE).parent, folder)
    return folder


def test_spec_with_an_unknown_key(refusal: Callable[..., str], astronaut: Path, engine_folder: Path) -> None:
    spec = engine_folder / f"{ENGINE}.yaml"
    spec.write_text(spec.read_text() + "\nlicense: MIT\n")
    assert "unknown key 'license': did you mean 'licence'" in refusal(astronaut, "--fov", 55, "--engine", spec)


def test_weights_that_do_not_match_their_hash(
    refusal: Callable[..., str], astronaut: Path, engine_folder: Path
) -> None:
    with (engine_folder / f"{ENGINE}.tflite").open("ab") as weights:
        weights.write(b"more")
    message = refusal(astronaut, "--fov", 55, "--engine", engine_folder / f"{ENGINE}.yaml")
    assert "does not match its spec: expected sha256" in message


def test_weights_that_are_missing_name_the_remedy(
    refusal: Callable[..., str], astronaut: Path, engine_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METRABS_ROS_CACHE", str(engine_folder / "cache"))
    (engine_folder / f"{ENGINE}.tflite").unlink()
    message = refusal(astronaut, "--fov", 55, "--engine", engine_folder / f"{ENGINE}.yaml")
    assert f"metrabs-engine fetch {ENGINE}" in message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "no valid JSON"),
        ('{"frame": 0}', "got the keys frame"),
        ("[1]", "got list"),
        ('{"frame": -1, "boxes": []}', "whole number"),
        ('{"frame": true, "boxes": []}', "whole number"),
        ('{"frame": 99, "boxes": []}', "beyond the input's 12 frames"),
        ('{"frame": 0, "boxes": 3}', "must be a list"),
        ('{"frame": 0, "boxes": [[1, 2, 3]]}', "four finite numbers"),
        ('{"frame": 0, "boxes": [[1, 2, 3, NaN]]}', "four finite numbers"),
        ('{"frame": 0, "boxes": [[1, 2, 0, 5]]}', "positive width and height"),
        ('{"frame": 1, "boxes": []}', "has a line already"),
    ],
)
def test_malformed_boxes(refusal: Callable[..., str], clip: Path, line: str, words: str) -> None:
    Path("boxes.jsonl").write_text('{"frame": 1, "boxes": [[1, 2, 3, 4]]}\n' + line + "\n")
    message = refusal(clip, "--fov", 55, "--boxes", "boxes.jsonl")
    assert "boxes.jsonl, line 2" in message
    assert words in message


def test_boxes_that_cannot_be_read(refusal: Callable[..., str], clip: Path) -> None:
    assert "Cannot read the boxes none.jsonl" in refusal(clip, "--fov", 55, "--boxes", "none.jsonl")


def test_targets_that_cannot_be_written(refusal: Callable[..., str], astronaut: Path, tmp_path: Path) -> None:
    assert "there is no folder" in refusal(astronaut, "--fov", 55, "--output", "nowhere/p.jsonl")
    assert "it is a folder" in refusal(astronaut, "--fov", 55, "--output", tmp_path)
    assert "is the input itself" in refusal(astronaut, "--fov", 55, "--video", astronaut)
    assert "Expected a video name" in refusal(astronaut, "--fov", 55, "--video", "a.gif")
