"""Which detections are of people who are known already."""

from __future__ import annotations

import numpy as np

from metrabs_ros.pose import Detections
from metrabs_ros.whereabouts import parts_of_people


def test_a_doubtful_detection_on_somebody_known_is_a_part_of_them() -> None:
    known = Detections.from_boxes(np.array([[0.0, 0, 100, 100], [300, 0, 100, 100]]))
    boxes = np.array([[10.0, 10, 40, 40], [10, 10, 40, 40], [72, 0, 100, 100], [360, 0, 40, 100], [500, 0, 40, 40]])
    fresh = Detections.from_boxes(boxes, np.array([0.6, 0.7, 0.6, 0.6, 0.6]))
    assert parts_of_people(fresh, known, 0.65).tolist() == [True, False, False, True, False]


def test_where_nobody_is_known_nothing_is_a_part() -> None:
    fresh = Detections.from_boxes(np.array([[0.0, 0, 10, 10]]), np.array([0.6]))
    nobody = Detections.from_boxes(np.zeros((0, 4)))
    assert parts_of_people(fresh, nobody, 0.65).tolist() == [False]
    assert parts_of_people(nobody, fresh, 0.65).tolist() == []
