"""Joint names, bones and mirror pairs."""

from __future__ import annotations

import numpy as np
import pytest
from poses_for_tests import SKELETON

from metrabs_ros.errors import InputError
from metrabs_ros.skeleton import Skeleton


def test_edges_by_name_are_edges_by_index() -> None:
    skeleton = Skeleton.from_names(["head", "left_hand", "right_hand"], [("right_hand", "head"), ("head", "left_hand")])
    assert skeleton == Skeleton(("head", "left_hand", "right_hand"), ((2, 0), (0, 1)))


def test_mirroring_twice_changes_nothing_and_keeps_the_middle() -> None:
    mirror = SKELETON.mirror
    np.testing.assert_array_equal(mirror[mirror], np.arange(len(SKELETON.joint_names)))
    for i, name in enumerate(SKELETON.joint_names):
        other = SKELETON.joint_names[mirror[i]]
        assert other == name.replace("left", "RIGHT").replace("right", "left").replace("RIGHT", "right")


def test_a_side_without_a_counterpart_is_its_own() -> None:
    np.testing.assert_array_equal(Skeleton(("left_hand", "head"), ()).mirror, [0, 1])


def test_means_of_joints() -> None:
    weights = SKELETON.mean_of(("left_hip", "right_hip"))
    assert weights is not None
    assert weights.sum() == pytest.approx(1)
    assert [SKELETON.joint_names[i] for i in np.flatnonzero(weights)] == ["left_hip", "right_hip"]
    assert SKELETON.mean_of(("left_hip", "tail")) is None


def test_a_repeated_name_is_refused() -> None:
    with pytest.raises(InputError, match="these repeat: head"):
        Skeleton(("head", "hand", "head"), ())


@pytest.mark.parametrize("edge", [(0, 2), (-1, 0), (5, 1)])
def test_an_edge_to_nowhere_is_refused(edge: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="two of the 2 joints"):
        Skeleton(("head", "hand"), (edge,))


def test_an_edge_to_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match="lacks: tail"):
        Skeleton.from_names(["head"], [("head", "tail")])
