"""What is logged to Rerun, read back from the recording with rerun-sdk itself; by the record, the command, the node."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pose_node_for_tests import fake_node
from pose_node_for_tests import frame as image_and_info
from ros_support import PATIENCE_S, PosePeer, header_at

from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from metrabs_ros.pose import TrackedPose
from metrabs_ros.rerun_log import RerunLog
from metrabs_ros.skeleton import Skeleton

CAMERA = Camera.from_fov(60, (64, 48))
SKELETON = Skeleton.from_names(("head", "pelvis", "hand"), (("head", "pelvis"), ("hand", "pelvis")))
JOINTS = np.array([[0.0, -0.8, 3.0], [0.0, 0.0, 3.0], [0.4, -0.3, 3.0]])


def person(track_id: int, joints3d: np.ndarray, uncertainty: float = 0.05) -> TrackedPose:
    joints2d, _ = CAMERA.project(joints3d)
    return TrackedPose(np.array([10.0, 5, 20, 40]), 0.9, joints3d, joints2d, np.full(3, uncertainty), track_id)


def picture(value: int) -> np.ndarray:
    return np.full((48, 64, 3), value, np.uint8)


def rows(path: Path, entity: str, component: str) -> dict[int, Any]:
    """frame number -> what the component was set to in it."""
    from rerun.dataframe import load_recording

    view = load_recording(path).view(index="frame", contents=entity)
    table = view.select("frame", f"{entity}:{component}").read_all()
    frames, values = (column.to_pylist() for column in table.columns)
    return {frame: value for frame, value in zip(frames, values, strict=True) if value is not None}


def entities(path: Path) -> set[str]:
    from rerun.dataframe import load_recording

    return {column.entity_path for column in load_recording(path).schema().component_columns()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.rrd"


def test_people_images_tracks_and_figures_come_back(path: Path) -> None:
    log = RerunLog(path)
    half_known = JOINTS.copy()
    half_known[2] = np.nan
    log.log(picture(40), CAMERA, SKELETON, [person(1, JOINTS), person(9, half_known)], 10.0, figures={"ms": 3.0})
    log.log(picture(200), CAMERA, SKELETON, [person(1, JOINTS + [1, 0, 0])], 10.5, figures={"ms": float("nan")})
    log.log(picture(90), CAMERA, SKELETON, [], 11.0, figures={"ms": 5.0})
    log.close()

    places = rows(path, "/people/1", "Position3D")
    assert [frame for frame, people in places.items() if people] == [0, 1]
    np.testing.assert_allclose(places[1], JOINTS + [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(rows(path, "/people/1", "Radius")[0], 0.05, atol=1e-6)
    assert rows(path, "/people/9", "KeypointId")[0] == [0, 1], "who is not known is left out"
    np.testing.assert_allclose(
        rows(path, "/view/image/people/9", "Position2D")[0], CAMERA.project(JOINTS)[0][:2], atol=1e-3
    )
    assert rows(path, "/people/1", "ClassId")[0] == rows(path, "/people/9", "ClassId")[0][:1] * 3, "8 colours"
    assert rows(path, "/people/9", "Position3D")[1] == [], "who left is cleared"
    assert rows(path, "/view/image/people/9", "Position2D")[1] == []
    assert rows(path, "/tracks/1", "LineStrip3D")[2] == []
    (way,) = rows(path, "/tracks/1", "LineStrip3D")[1]
    np.testing.assert_allclose(way, [np.median(JOINTS, 0), np.median(JOINTS + [1, 0, 0], 0)], atol=1e-6)
    assert rows(path, "/view/image/boxes", "Text")[0] == ["#1  3.0 m", "#9  3.0 m"]
    assert {frame: value[0] for frame, value in rows(path, "/figures/ms", "Scalar").items()} == {0: 3.0, 2: 5.0}
    assert {frame: value[0] for frame, value in rows(path, "/figures/people", "Scalar").items()} == {0: 2, 1: 1, 2: 0}
    jpeg = np.array(rows(path, "/view/image", "Blob")[1][0], np.uint8)
    np.testing.assert_allclose(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), picture(200), atol=3)


def test_cameras_are_apart_and_people_are_where_they_are_published(path: Path) -> None:
    R = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    t = np.array([0.5, 0, 1.2])
    log = RerunLog(path)
    log.log(picture(0), CAMERA, SKELETON, [person(1, JOINTS)], 1.0, name="front", out_cam=(R, t))
    log.log(picture(0), CAMERA, SKELETON, [person(2, JOINTS)], 1.0, name="left")
    log.close()
    np.testing.assert_allclose(rows(path, "/front/people/1", "Position3D")[0], JOINTS @ R.T + t, atol=1e-6)
    np.testing.assert_allclose(rows(path, "/front/view", "Translation3D")[0], [t], atol=1e-6)
    np.testing.assert_allclose(rows(path, "/left/people/2", "Position3D")[0], JOINTS, atol=1e-6)


def test_a_viewer_is_sent_what_is_logged() -> None:
    """To somebody who listens where a viewer would."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_S)
        received = bytearray()

        def listen() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(1 << 16):
                    received.extend(data)

        listener = threading.Thread(target=listen)
        listener.start()
        log = RerunLog(f"127.0.0.1:{server.getsockname()[1]}")
        log.log(picture(0), CAMERA, SKELETON, [person(7, JOINTS)], 1.0)
        log.close()
        listener.join(PATIENCE_S)
    assert b"/people/7" in received


@pytest.mark.parametrize(
    ("target", "words"), [("out.mp4", "a file ending in .rrd"), ("no/such/folder/out.rrd", "there is no folder")]
)
def test_where_it_cannot_log_to_is_said(target: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        RerunLog(target)


def test_a_viewer_that_cannot_be_started_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=r"Cannot start the Rerun viewer \(Failed to find .*log to 127\.0\.0\.1:9876"):
        RerunLog()


# --- absent -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def without_rerun(tmp_path: Path) -> dict[str, str]:
    """An environment in which rerun-sdk cannot be imported."""
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "rerun.py").write_text("raise ModuleNotFoundError(\"No module named 'rerun'\", name='rerun')\n")
    return {"PYTHONPATH": str(folder)}


def test_without_rerun_the_command_says_so_in_a_sentence(without_rerun: dict[str, str], tmp_path: Path) -> None:
    image = tmp_path / "grey.png"
    cv2.imwrite(str(image), picture(100))

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "metrabs_ros.cli.pose", str(image), "--fov", "55", *more]
        env = {**os.environ, **without_rerun}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    asked = run("--rerun", "out.rrd")
    assert asked.returncode == 2
    assert asked.stderr.startswith(
        "metrabs-pose: Logging to Rerun needs rerun-sdk, which cannot be imported (No module"
    )
    assert len(asked.stderr.splitlines()) == 1
    assert run().returncode == 0, "nobody else needs it"


# --- the command and the node -----------------------------------------------------------------------------------------


def test_the_command_writes_a_recording(tmp_path: Path, path: Path) -> None:
    from skimage import data

    image = tmp_path / "astronaut.png"
    cv2.imwrite(str(image), data.astronaut()[..., ::-1])
    command = [sys.executable, "-m", "metrabs_ros.cli.pose", str(image), "--fov", "50", "--rerun", str(path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(path) in done.stdout
    assert not list(tmp_path.glob("*.jsonl")), "only what was asked for"
    joints = np.array(rows(path, "/people/1", "Position3D")[0])
    assert len(joints) > 10
    assert (joints[:, 2] > 0.3).all()
    assert rows(path, "/figures/poses_ms", "Scalar")[0][0] > 0


@pytest.mark.ros
def test_the_node_logs_every_frame_even_when_nobody_subscribes(domain: int, path: Path) -> None:
    arguments = (
        "rerun:=true",
        f"rerun_to:={path}",
        "publish_tf:=false",
        "publish_hri:=false",
        "publish_markers:=false",
    )
    with fake_node(domain, *(part for each in arguments for part in ("-p", each)), delay_s=0.001) as node:
        with PosePeer(domain) as peer:
            peer.wait_for_subscribers()
            stamp = header_at(12.5)
            peer.send_until(lambda: node.count(r"fake: done with 12\.5"), *image_and_info(2, stamp), "the engine")
        assert node.interrupted() == 0
    assert {"/people/1", "/people/2", "/tracks/1", "/view/image", "/figures/latency_ms"} <= entities(path)
    places = np.array(rows(path, "/people/2", "Position3D")[0])
    np.testing.assert_allclose(places[0], [1.0, -0.8, 3.0], atol=1e-6)


@pytest.mark.ros
def test_without_rerun_the_node_stays_unconfigured_and_says_why(domain: int, without_rerun: dict[str, str]) -> None:
    with fake_node(domain, "-p", "rerun:=true", env=without_rerun) as node:
        node.wait_for("Cannot configure: Logging to Rerun needs rerun-sdk, which cannot be imported .*pip install")
    with fake_node(domain, env=without_rerun) as node:
        node.wait_for("Waiting for images on /image")
