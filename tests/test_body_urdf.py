"""A person's URDF: REP-155's names, tree and axes, and the same frames as our own forward kinematics, by yourdfpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from lxml import etree
from scipy.spatial.transform import Rotation
from urdf_for_tests import links_through_urdf, parsed

from metrabs_ros.body_model import EXTRA_JOINTS, JOINT_NAMES, LINK_NAMES, LOWER, UPPER, forward_kinematics
from metrabs_ros.body_urdf import urdf
from metrabs_ros.errors import InputError
from metrabs_ros.segment_lengths import SegmentLengths

ADULT = SegmentLengths.from_height(1.75)

# REP-155, "Kinematic Model of the Human": joint -> (parent link, child link); axes as in human_description.
REP_155 = {
    "waist": ("body", "waist", (0, 1, 0)),
    "torso": ("waist", "torso", None),
    "r_head": ("torso", "r_head", (1, 0, 0)),
    "y_head": ("r_head", "y_head", (0, 0, 1)),
    "p_head": ("y_head", "p_head", (0, -1, 0)),
    "head": ("p_head", "head", None),
    "l_y_shoulder": ("torso", "l_y_shoulder", (0, 0, -1)),
    "l_p_shoulder": ("l_y_shoulder", "l_p_shoulder", (1, 0, 0)),
    "l_r_shoulder": ("l_p_shoulder", "l_shoulder", (0, 0, 1)),
    "l_elbow": ("l_shoulder", "l_elbow", (0, -1, 0)),
    "l_wrist": ("l_elbow", "l_wrist", None),
    "r_y_shoulder": ("torso", "r_y_shoulder", (0, 0, 1)),
    "r_p_shoulder": ("r_y_shoulder", "r_p_shoulder", (-1, 0, 0)),
    "r_r_shoulder": ("r_p_shoulder", "r_shoulder", (0, 0, -1)),
    "r_elbow": ("r_shoulder", "r_elbow", (0, -1, 0)),
    "r_wrist": ("r_elbow", "r_wrist", None),
    "l_y_hip": ("body", "l_y_hip", (0, 0, -1)),
    "l_p_hip": ("l_y_hip", "l_p_hip", (1, 0, 0)),
    "l_r_hip": ("l_p_hip", "l_hip", (0, -1, 0)),
    "l_knee": ("l_hip", "l_knee", (0, -1, 0)),
    "l_ankle": ("l_knee", "l_ankle", None),
    "r_y_hip": ("body", "r_y_hip", (0, 0, -1)),
    "r_p_hip": ("r_y_hip", "r_p_hip", (-1, 0, 0)),
    "r_r_hip": ("r_p_hip", "r_hip", (0, -1, 0)),
    "r_knee": ("r_hip", "r_knee", (0, -1, 0)),
    "r_ankle": ("r_knee", "r_ankle", None),
}

positions = hnp.arrays(np.float64, len(JOINT_NAMES), elements=st.floats(0, 1)).map(
    lambda part: LOWER + part * (UPPER - LOWER)
)
turns = hnp.arrays(np.float64, 3, elements=st.floats(-3, 3)).map(lambda v: Rotation.from_rotvec(v).as_matrix())


def test_without_the_extra_joints_it_is_exactly_the_tree_of_rep_155() -> None:
    robot = parsed(ADULT, reference_joints=True)
    found = {
        name: (joint.parent, joint.child, None if joint.type == "fixed" else tuple(joint.axis))
        for name, joint in robot.joint_map.items()
    }
    assert found == {
        f"{name}_p1": (f"{parent}_p1", f"{child}_p1", axis) for name, (parent, child, axis) in REP_155.items()
    }
    assert {joint.type for joint in robot.joint_map.values()} == {"revolute", "fixed"}


def test_the_extra_joints_stand_between_links_of_rep_155_and_change_nothing_else() -> None:
    joints = {name.removesuffix("_p1"): joint for name, joint in parsed(ADULT).joint_map.items()}
    assert set(joints) == set(REP_155) | set(EXTRA_JOINTS)
    above = {joint.child: joint.parent for joint in joints.values()}
    extra = {f"{name}_p1" for name in EXTRA_JOINTS}
    for name, (parent, child, axis) in REP_155.items():
        found = joints[name].parent
        while found in extra:
            found = above[found]
        assert (found, joints[name].child) == (f"{parent}_p1", f"{child}_p1")
        assert axis is None or tuple(joints[name].axis) == axis


def test_every_moving_joint_has_limits_around_rest_and_every_leaf_a_path_to_the_body() -> None:
    robot = parsed(ADULT)
    assert robot.base_link == "body_p1"
    for name in robot.actuated_joint_names:
        limit = robot.joint_map[name].limit
        assert limit.lower < 0 < limit.upper
        assert limit.effort > 0
        assert limit.velocity > 0


@settings(max_examples=60, deadline=None)
@given(positions, turns, st.floats(0.7, 2.1))
def test_the_parsed_urdf_gives_the_frames_of_our_forward_kinematics(
    angles: np.ndarray, R: np.ndarray, height: float
) -> None:
    lengths = SegmentLengths.from_height(round(height, 1))
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, (0.3, -0.2, 4.0)
    ours = forward_kinematics(T[None], angles[None], lengths.as_array()[None])[0]
    np.testing.assert_allclose(ours, links_through_urdf(lengths, angles, T), atol=1e-6)


def test_at_rest_the_links_lie_where_the_lengths_say() -> None:
    links = links_through_urdf(ADULT, np.zeros(len(JOINT_NAMES)), np.eye(4))
    at = dict(zip(LINK_NAMES, links[:, :3, 3], strict=True))
    np.testing.assert_allclose(links[:, :3, :3], np.tile(np.eye(3), (len(links), 1, 1)), atol=1e-12)
    np.testing.assert_allclose(at["l_y_hip"] - at["r_y_hip"], (0, ADULT.hip_width, 0), atol=1e-6)
    np.testing.assert_allclose(at["l_y_shoulder"] - at["r_y_shoulder"], (0, ADULT.shoulder_width, 0), atol=1e-6)
    np.testing.assert_allclose(at["torso"], (0, 0, ADULT.torso), atol=1e-6)
    np.testing.assert_allclose(at["l_knee"] - at["l_ankle"], (0, 0, ADULT.shank), atol=1e-6)
    np.testing.assert_allclose(at["r_elbow"] - at["r_wrist"], (0, 0, ADULT.forearm), atol=1e-6)
    np.testing.assert_allclose(at["head"], (ADULT.head_forward, 0, ADULT.torso + ADULT.neck + ADULT.head_up), atol=1e-6)


def test_it_parses_from_text_too_and_draws_both_sides_alike() -> None:
    root = etree.fromstring(urdf("p1", ADULT))
    drawn = {link.get("name"): len(link.findall("visual")) for link in root.findall("link")}
    assert drawn["torso_p1"] == 2
    assert drawn["head_p1"] == 3
    for name, count in drawn.items():
        if name.startswith("l_"):
            assert drawn["r_" + name.removeprefix("l_")] == count
    assert drawn["r_head_p1"] == drawn["y_head_p1"] == 0
    materials = {material.get("name") for material in root.findall("material")}
    assert {material.get("name") for material in root.iter("material")} == materials


@pytest.mark.parametrize("body_id", ["", "1", "a b", "a__b", "é", 'a"/><x', "a/b", "_a", "p1\n"])
def test_an_id_that_no_topic_can_have_is_refused(body_id: str) -> None:
    with pytest.raises(InputError, match="must start with a letter"):
        urdf(body_id, ADULT)
