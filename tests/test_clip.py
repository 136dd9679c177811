"""metrabs-pose on the whole real clip: who is found, where, and how tall."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clip_truth import HIPS, NEAR, hips_of

from demo.clip import clip_path

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
