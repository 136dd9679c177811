"""What the detector sees faintly: where a closer look is taken, how many, and whom it finds."""

from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
from clip_truth import hips_of

from demo.clip import clip_path
from metrabs_ros.detection_spec import DetectorSpec
from metrabs_ros.detector import Detector, closer_views, open_detector
from metrabs_ros.detector_views import View, view_close_to, views_of
from metrabs_ros.engine import Network
from metrabs_ros.frames import open_frames
from metrabs_ros.model_spec import ModelSpec, find_spec, load_spec
from metrabs_ros.pose import Detections

FRAME = 80
SIZE = (1200, 800)


class CountedNetwork:
    """How often a network is run."""

    def __init__(self, network: Network) -> None:
        self.runs = 0
        self._network = network

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        self.runs += 1
        return self._network.run(batch)

    def __getattr__(self, name: str) -> object:
        return getattr(self._network, name)


def spec_of(name: str, **detection: object) -> ModelSpec:
    spec = load_spec(find_spec(name))
    assert isinstance(spec.detection, DetectorSpec)
    return replace(spec, detection=replace(spec.detection, **detection))


def looks(*seen: tuple[float, float, float, float], known: list[list[float]] | None = None) -> list[View]:
    """Where closer looks are taken at what is ``seen``: each one's middle x and y, side of its box and score. All were
    seen in views of 1200 px."""
    boxes = np.array([[x - side / 2, y - side / 2, side, side] for x, y, side, _ in seen], float)
    found = Detections.from_boxes(boxes, np.array([score for *_, score in seen]))
    spec = spec_of("blazepose_detector", score_threshold=0.6, doubtful_threshold=0.5, faint_threshold=0.1)
    boxes_known = None if known is None else np.array(known, float).reshape(-1, 4)
    return closer_views(found, np.full(len(seen), 1200.0), SIZE, spec, boxes_known)


def test_what_is_faint_is_looked_at_closely_the_least_faint_first() -> None:
    assert looks((300, 400, 100, 0.2), (700, 400, 200, 0.55)) == [(520, 220, 360), (210, 310, 180)]
    assert looks() == []


def test_a_closer_look_has_its_object_in_the_middle() -> None:
    x, y, side = view_close_to(np.array([13.2, 40.6, 77.0, 77.0]))
    assert side > 77
    assert x + side / 2 == pytest.approx(13.2 + 77 / 2, abs=1)
    assert y + side / 2 == pytest.approx(40.6 + 77 / 2, abs=1)


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ((300, 400, 100, 0.7), "it is seen surely"),
        ((300, 400, 600, 0.3), "it would not be larger there"),
        ((300, 400, 60, 0.3), "it has too few pixels"),
        ((-10, 400, 100, 0.3), "its middle is outside the image"),
        ((300, 810, 100, 0.3), "its middle is outside the image"),
    ],
)
def test_no_closer_look_that_does_not_pay(seen: tuple[float, float, float, float], why: str) -> None:
    assert looks(seen) == [], why


def test_one_closer_look_a_place_and_none_where_somebody_is() -> None:
    faint, better, sure = (300, 400, 100, 0.2), (310, 400, 110, 0.4), (310, 400, 110, 0.9)
    assert looks(faint, better) == [(211, 301, 198)]
    assert looks(faint, sure) == []
    assert looks(faint, known=[[250, 350, 100, 100]]) == []
    assert looks(faint, known=[[600, 350, 100, 100]]) == [(210, 310, 180)]
    assert looks(faint, known=[]) == [(210, 310, 180)] == looks(faint)


def test_who_wants_no_closer_looks_takes_none() -> None:
    found = Detections.from_boxes(np.array([[300, 400, 100, 100.0]]), np.array([0.55]))
    assert closer_views(found, np.array([1200.0]), SIZE, spec_of("blazepose_detector", faint_threshold=None)) == []


@pytest.fixture(scope="module", params=["blazepose_detector", "person_detector"])
def detectors(request: pytest.FixtureRequest) -> tuple[Detector, Detector, CountedNetwork]:
    """Without closer looks and with them, whose network's runs are counted."""
    counted: list[CountedNetwork] = []

    def around(network: Network) -> Network:
        counted.append(CountedNetwork(network))
        return counted[-1]

    plain = open_detector(spec_of(request.param, faint_threshold=None))
    closer = open_detector(load_spec(find_spec(request.param))).through(around)
    return plain, closer, counted[0]


@pytest.fixture(scope="module")
def far_away() -> tuple[np.ndarray, np.ndarray]:
    """A frame of the clip at a third of its size in the middle of a picture as large as the clip's, both people 100 px
    high in it, and their hips [2,2] px."""
    with open_frames(clip_path()) as frames:
        frame = next(itertools.islice(frames, FRAME, None)).image_rgb
    height, width = frame.shape[:2]
    image = np.full_like(frame, 90)
    small = cv2.resize(frame, (width // 3, height // 3), interpolation=cv2.INTER_AREA)
    image[height // 3 : height // 3 + small.shape[0], width // 3 : width // 3 + small.shape[1]] = small
    hips = np.array([hips_of(who)[FRAME] for who in ("man", "woman")])
    return image, (hips + [width, height]) / 3


def found_at(hips: np.ndarray, found: Detections, least: float) -> int:
    """How many of the people are detected with a score of ``least`` or more."""
    sure = found.taken(found.scores >= least).boxes
    middles = sure[:, :2] + sure[:, 2:] / 2
    return int((np.linalg.norm(middles[None] - hips[:, None], axis=-1) < 40).any(1).sum())


def test_people_who_are_far_away_are_found(
    detectors: tuple[Detector, Detector, CountedNetwork], far_away: tuple[np.ndarray, np.ndarray]
) -> None:
    plain, closer, _ = detectors
    image, hips = far_away
    assert found_at(hips, plain.detect(image), plain.sure_score) < 2
    assert found_at(hips, closer.detect(image), closer.sure_score) == 2


def test_closer_looks_are_few(
    detectors: tuple[Detector, Detector, CountedNetwork], far_away: tuple[np.ndarray, np.ndarray]
) -> None:
    _, closer, network = detectors
    image, _ = far_away
    count = len(views_of(image.shape[1], image.shape[0]))
    network.runs = 0
    closer.detect(image)
    assert count < network.runs <= count + 6
    people = closer.detect(image).boxes
    runs = {}
    for name, known in (("nobody", None), ("everybody", people)):
        closer.reset()
        network.runs = 0
        for i in range(count):
            closer.detect(image, 1, known=known)
            assert i < network.runs <= 2 * (i + 1)
        runs[name] = network.runs
    assert count <= runs["everybody"] < runs["nobody"]
    network.runs = 0
    closer.detect(np.zeros_like(image), 1)
    assert network.runs == 1
