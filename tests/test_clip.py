"""metrabs-pose on the whole real clip: who is found, where, and how tall."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clip_truth import HIPS, NEAR, hips_of

from demo.clip import FOV_DEG, clip_path
from metrabs_ros.camera import Camera
from metrabs_ros.frames import open_frames
from metrabs_ros.pipeline import PosePipeline

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    output = tmp_path_factory.mktemp("clip") / "poses.jsonl"
    command = [sys.executable, "-m", "metrabs_ros.cli.pose", str(clip_path()), "--fov", "55", "--output", str(output)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL)
    return [json.loads(line) for line in output.read_text().splitlines()]


def joint(person: dict, frame: dict, *names: str, key: str = "joints3d") -> np.ndarray:
    return np.mean([np.array(person[key][frame["joint_names"].index(name)], float) for name in names], axis=0)


def of_person(frames: list[dict], who: str) -> dict[int, dict]:
    """Frame -> the skeleton of this person, by where the hips are."""
    found = {}
    for index, hips in hips_of(who).items():
        for person in frames[index]["persons"]:
            seen = joint(person, frames[index], "left_hip", "right_hip", key="joints2d")
            if np.linalg.norm(seen - hips) < NEAR:
                found[index] = person
    return found


@pytest.mark.parametrize("who", HIPS)
def test_found_in_four_fifths_of_the_frames_in_which_they_are_visible(frames: list[dict], who: str) -> None:
    share = len(of_person(frames, who)) / len(hips_of(who))
    print(f"{who}: found in {share:.1%} of {len(hips_of(who))} frames")
    assert share >= 0.8


@pytest.mark.parametrize("who", HIPS)
def test_height_and_depth_are_those_of_an_adult_across_a_lawn(frames: list[dict], who: str) -> None:
    found = of_person(frames, who)
    heights, depths = [], []
    for index, person in found.items():
        frame = frames[index]
        chain = [
            [joint(person, frame, f"{side}_{name}") for name in ("ankle", "knee", "hip", "shoulder", "ear")]
            for side in ("left", "right")
        ]
        heights.append(np.mean([np.linalg.norm(np.diff(points, axis=0), axis=-1).sum() for points in chain]))
        depths.append(joint(person, frame, "left_hip", "right_hip")[2])
    print(f"{who}: ankle to head along the body {np.median(heights):.2f} m, depth {np.median(depths):.1f} m")
    assert 1.4 < np.median(heights) < 2.1
    assert 5.0 < np.median(depths) < 11.0


def test_nobody_else_is_there_and_ids_last(frames: list[dict]) -> None:
    everybody = [person["id"] for frame in frames for person in frame["persons"]]
    by_length = sorted((everybody.count(track_id) for track_id in set(everybody)), reverse=True)
    print("frames per track:", by_length)
    assert sum(by_length[2:]) <= 0.05 * len(everybody)


def test_who_stands_beside_somebody_is_found_as_well() -> None:
    """The man of one frame twice, less than half his height apart: the squares around the two overlap by half."""
    with open_frames(clip_path()) as opened:
        image = next(itertools.islice(opened, 80, None)).image_rgb
    pipeline = PosePipeline.from_engine(backend="openvino")
    camera = Camera.from_fov(FOV_DEG, (image.shape[1], image.shape[0]))
    x, y, w, h = (int(value) for value in min(pipeline.estimate(image, camera), key=lambda pose: pose.box[0]).box)
    aside, margin = int(0.4 * h), 10
    rows = slice(y - margin, y + h + margin)
    image = image.copy()
    image[rows, x - margin + aside : x + w + margin + aside] = image[rows, x - margin : x + w + margin].copy()
    as_video = [pipeline.process(image, camera, i / 30) for i in range(24)][-1]
    for found in (pipeline.estimate(image, camera), as_video):
        left = sorted(pose.box[0] for pose in found if pose.box[0] < x + w + aside)
        assert left == pytest.approx([x, x + aside], abs=0.2 * w), [pose.box for pose in found]
    pipeline.close()
