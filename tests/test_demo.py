"""The demo: its processes, its recording, and the whole of it over real DDS on a part of the clip."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from demo.clip import SHA256, clip_path
from demo.processes import ChildError, Children, free_domain
from demo.recording import Recording, Selection, people_in
from demo.rendering import best_stamp
from metrabs_ros.frames import open_frames
from metrabs_ros.weights import has_hash

ROOT = Path(__file__).resolve().parent.parent
SECOND = 1_000_000_000
NOBODY: dict[int, np.ndarray] = {}
SOMEBODY = {1: np.zeros((3, 3))}


@pytest.fixture
def children(tmp_path: Path) -> Children:
    return Children(dict(os.environ), tmp_path)


def test_clip_is_the_one_that_is_meant() -> None:
    assert has_hash(clip_path(), SHA256)


def test_child_that_fails_is_named_with_its_last_lines(children: Children) -> None:
    with children:
        children.start("worker", ["no_such_module"])
        assert children.wait("worker", 30)
        with pytest.raises(ChildError, match=r"(?s)worker ended with exit code 1.*No module named no_such_module"):
            children.is_running("worker")


def test_child_that_ended_well_is_no_failure(children: Children) -> None:
    with children:
        children.start("worker", ["this"])
        assert children.wait("worker", 30)
        assert not children.is_running("worker")


def test_children_end_with_their_block(children: Children) -> None:
    with children:
        children.start("server", ["http.server", "0", "--bind", "127.0.0.1"])
        assert children.is_running("server")
        process = children._processes["server"]
    assert process.poll() is not None


def test_free_domain_has_no_participant() -> None:
    assert 1 <= free_domain() <= 101


def recording_of(pictures: list[float], answers: dict[float, dict[int, np.ndarray]]) -> Recording:
    recording = Recording()
    for stamp_s in pictures:
        recording.add_picture(int(stamp_s * SECOND), np.zeros((20, 30, 3), np.uint8))
    for stamp_s, people in answers.items():
        recording.add_answer(int(stamp_s * SECOND), people, stamp_s + 0.1)
    return recording


def chosen_of(*events: tuple[str, float]) -> list[float]:
    selection = Selection()
    chosen = []
    for kind, stamp_s in events:
        stamp_ns = int(stamp_s * SECOND)
        chosen += selection.with_image(stamp_ns, stamp_s) if kind == "image" else selection.with_answer(stamp_ns)
    return [image for _, image in [*chosen, *selection.rest()]]


def test_pictures_without_an_answer_fill_only_long_pauses() -> None:
    images = [("image", stamp_s) for stamp_s in (0.0, 0.1, 0.2, 0.3, 1.0, 1.6, 2.0, 2.1)]
    answers = [("answer", stamp_s) for stamp_s in (0.1, 0.3, 2.1)]
    assert chosen_of(*images, *answers) == [0.1, 0.3, 1.0, 2.1]


def test_pictures_of_nobody_are_shown_sparsely() -> None:
    assert chosen_of(*[("image", i / 10) for i in range(100)]) == pytest.approx(np.arange(17) * 0.6)


def test_answer_to_an_image_that_never_came_chooses_nothing() -> None:
    assert chosen_of(("image", 1.0), ("answer", 1.2)) == []


def test_figures() -> None:
    recording = recording_of([], {0.0: SOMEBODY, 0.5: {1: np.zeros((3, 3)), 2: np.zeros((3, 3))}})
    recording.add_answer(None, NOBODY, 1.1)
    figures = recording.figures()
    assert (figures.frames, figures.frames_with_people, figures.most_people, figures.track_ids) == (3, 2, 2, 2)
    assert figures.frames_per_s == pytest.approx(2.0)
    assert figures.latency_median_ms == pytest.approx(100, abs=0.1)


def test_figures_of_nothing_are_none() -> None:
    figures = Recording().figures()
    assert figures.frames == 0
    assert figures.frames_per_s is None
    assert figures.latency_p99_ms is None
    json.dumps(vars(figures), allow_nan=False)


def test_best_picture_has_the_most_people() -> None:
    two = {1: np.zeros((3, 3)), 2: np.zeros((3, 3))}
    recording = recording_of([0, 1, 2, 3, 4], {0: SOMEBODY, 1: two, 2: two, 3: two, 4: SOMEBODY})
    assert best_stamp(recording, recording.shown()) == 2 * SECOND


@pytest.mark.ros
def test_people_are_read_from_the_joints_markers() -> None:
    header = Header(stamp=Time(sec=2, nanosec=5))
    points = [Point(x=1.0, y=2.0, z=3.0)] * 2
    joints = Marker(header=header, ns="joints", id=7, action=Marker.ADD, points=points)
    bones = Marker(header=header, ns="bones", id=7, action=Marker.ADD, points=points)
    gone = Marker(header=header, ns="joints", id=8, action=Marker.DELETE)
    stamp, people = people_in([joints, bones, gone], Marker.ADD)
    assert stamp == 2 * SECOND + 5
    assert list(people) == [7]
    np.testing.assert_array_equal(people[7], [[1, 2, 3], [1, 2, 3]])
    assert people_in([], Marker.ADD) == (None, {})


def demo(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo.run", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--source", "none.mp4"], "There is no file or folder 'none.mp4'"),
        (["--engine", "none"], "There is no engine named 'none'"),
        (["--fov", "200"], "between 0 and 180 degrees"),
        (["--max-rate", "-1"], "--max-rate must lie between 0 and 1000 Hz"),
        (["--out", "Makefile"], "Cannot make the folder Makefile"),
    ],
)
def test_wrong_input_is_refused_before_anything_starts(arguments: list[str], words: str) -> None:
    result = demo(*arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of the clip with both people in view, small."""
    folder = tmp_path_factory.mktemp("frames")
    with open_frames(clip_path()) as frames:
        for frame in islice(frames, 45, 105):
            small = cv2.resize(frame.image_rgb, (640, 360), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(folder / f"{frame.index}.jpg"), small[..., ::-1])
    return folder


@pytest.mark.ros
def test_people_come_over_dds_into_pictures_and_figures(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = demo("--source", folder, "--out", out)
    assert result.returncode == 0, result.stdout + result.stderr
    figures = json.loads((out / "demo.json").read_text())
    assert figures["frames_with_people"] >= 5
    assert figures["most_people"] == 2
    assert figures["tf_frames"] >= 2 * 33
    assert 0 < figures["latency_median_ms"] <= figures["latency_p99_ms"]
    for words in ("frames/s", "median", "99th percentile", "at most 2 at a time"):
        assert words in result.stdout
    picture = cv2.imread(str(out / "demo.png"))
    assert picture.shape[0] == 360
    assert picture.shape[1] > 640 + 300
    with open_frames(out / "demo.mp4") as video:
        assert video.size == (picture.shape[1], picture.shape[0])
        assert sum(1 for _ in video) >= figures["frames_with_people"]


@pytest.mark.ros
def test_a_process_that_dies_is_named_and_nobody_stays_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "demo.run", "--out", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        started = _children_of(process.pid, 3)
        victim = next(pid for pid, command_line in started.items() if "metrabs_ros.node" in command_line)
        os.kill(victim, signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "pose_node ended with signal 9" in output
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def _children_of(pid: int, count: int) -> dict[int, str]:
    """Process id -> command line of the ``count`` children that a process has, sooner or later."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        lines = {int(child): Path(f"/proc/{child}/cmdline").read_bytes().decode() for child in children}
        if sum("-m" in line for line in lines.values()) == count:
            return lines
        time.sleep(0.05)
    raise AssertionError(f"{pid} did not start {count} processes")
