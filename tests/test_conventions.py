"""Skeleton conventions: names, what is derived and how well, what is left out, and what is unknown."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrabs_ros.conventions import CONVENTIONS, ENGINE, Conversion, conversion
from metrabs_ros.errors import InputError
from metrabs_ros.model_spec import find_spec, load_spec
from metrabs_ros.skeleton import Skeleton
from training.data import coco, h36m
from training.skeleton import SKELETON as DEFAULT

BLAZEPOSE = load_spec(find_spec("blazepose_full")).skeleton
SKELETONS = {"27 joints": DEFAULT, "BlazePose": BLAZEPOSE}
PUBLISHED = {
    "coco_17": coco.JOINTS,
    "h36m_17": ("pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine",
                "neck", "head", "head_top", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder",
                "right_elbow", "right_wrist"),
    "smpl_24": ("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle",
                "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head",
                "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
                "left_hand", "right_hand"),
    # hri_msgs/Skeleton2D, as interfaces/ has it.
    "ros4hri": ("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
                "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
                "left_eye", "right_eye", "left_ear", "right_ear"),
}  # fmt: skip


def body(skeleton: Skeleton) -> np.ndarray:
    return np.random.default_rng(3).normal(0, 0.5, (len(skeleton.joint_names), 3)) + [0, 0, 4]


def joint(found: Conversion, joints: np.ndarray, name: str) -> np.ndarray:
    return joints[..., found.skeleton.joint_names.index(name), :]


@pytest.mark.parametrize("convention", PUBLISHED)
@pytest.mark.parametrize("skeleton", SKELETONS)
def test_names_are_those_published_in_their_order(skeleton: str, convention: str) -> None:
    found = conversion(SKELETONS[skeleton], convention)
    lacking = ("head_top",) if (skeleton, convention) == ("BlazePose", "h36m_17") else ()
    assert found.skeleton.joint_names == tuple(name for name in PUBLISHED[convention] if name not in lacking)
    assert set(h36m.JOINTS) == set(PUBLISHED["h36m_17"])
    # All bones hang together.
    reached = {0}
    for _ in found.skeleton.joint_names:
        reached |= {end for edge in found.skeleton.edges for end in edge if reached & set(edge)}
    assert len(reached) == len(found.skeleton.joint_names)
    assert (found.skeleton.mirror[found.skeleton.mirror] == np.arange(len(reached))).all()


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("skeleton", SKELETONS)
def test_joints_lie_between_joints_that_were_seen(skeleton: str, convention: str) -> None:
    found = conversion(SKELETONS[skeleton], convention)
    assert (found.matrix >= 0).all()
    np.testing.assert_allclose(found.matrix.sum(1), 1, atol=1e-12)
    # The same on both sides.
    own = SKELETONS[skeleton].mirror
    np.testing.assert_allclose(found.matrix[found.skeleton.mirror][:, own], found.matrix, atol=1e-12)


@pytest.mark.parametrize("convention", [name for name in CONVENTIONS if name != ENGINE])
@pytest.mark.parametrize("skeleton", SKELETONS)
def test_limbs_are_the_engines_own(skeleton: str, convention: str) -> None:
    source = SKELETONS[skeleton]
    found, joints = conversion(source, convention), body(source)
    for side in ("left", "right"):
        for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
            own = joints[source.joint_names.index(f"{side}_{part}")]
            np.testing.assert_array_equal(joint(found, found.joints(joints), f"{side}_{part}"), own)


def test_the_engines_own_skeleton_stays() -> None:
    joints = body(BLAZEPOSE)
    found = conversion(BLAZEPOSE, ENGINE)
    assert found.skeleton == BLAZEPOSE
    np.testing.assert_array_equal(found.joints(joints), joints)


def test_middles() -> None:
    joints = body(BLAZEPOSE)
    at = dict(zip(BLAZEPOSE.joint_names, joints, strict=True))
    shoulders = (at["left_shoulder"] + at["right_shoulder"]) / 2
    hips = (at["left_hip"] + at["right_hip"]) / 2
    ears = (at["left_ear"] + at["right_ear"]) / 2
    ros, smpl = conversion(BLAZEPOSE, "ros4hri"), conversion(BLAZEPOSE, "smpl_24")
    np.testing.assert_allclose(joint(ros, ros.joints(joints), "neck"), shoulders)
    np.testing.assert_allclose(joint(smpl, smpl.joints(joints), "pelvis"), hips)
    np.testing.assert_allclose(joint(smpl, smpl.joints(joints), "neck"), 0.6 * shoulders + 0.4 * ears)
    knuckles = (at["left_index"] + at["left_pinky"]) / 2
    np.testing.assert_allclose(joint(smpl, smpl.joints(joints), "left_hand"), knuckles)


def test_openposes_neck_is_between_the_shoulders_even_where_the_engine_has_a_neck() -> None:
    joints = body(DEFAULT)
    at = dict(zip(DEFAULT.joint_names, joints, strict=True))
    ros, h36m_17 = conversion(DEFAULT, "ros4hri"), conversion(DEFAULT, "h36m_17")
    shoulders = (at["left_shoulder"] + at["right_shoulder"]) / 2
    np.testing.assert_allclose(joint(ros, ros.joints(joints), "neck"), shoulders)
    np.testing.assert_allclose(joint(h36m_17, h36m_17.joints(joints), "neck"), at["neck"])


@pytest.mark.parametrize("convention", ["h36m_17", "smpl_24"])
def test_an_engine_trained_in_a_convention_keeps_its_joints(convention: str) -> None:
    names = PUBLISHED[convention]
    skeleton = Skeleton(names, ())
    found = conversion(skeleton, convention)
    assert found.skeleton.joint_names == names
    np.testing.assert_allclose(found.matrix, np.eye(len(names)), atol=1e-12)


def test_what_cannot_be_derived_is_absent() -> None:
    headless = Skeleton(("left_hip", "right_hip", "left_knee"), ())
    found = conversion(headless, "h36m_17")
    assert found.skeleton.joint_names == ("pelvis", "right_hip", "left_hip", "left_knee")
    assert found.skeleton.edges == ((0, 2), (0, 1), (2, 3))
    with pytest.raises(InputError, match=r"No joint of the skeleton convention coco_17 can be derived .*\(tail\)"):
        conversion(Skeleton(("tail",), ()), "coco_17")


def test_an_unknown_convention_is_told_the_known_ones() -> None:
    with pytest.raises(InputError, match="one of engine, coco_17, h36m_17, smpl_24, ros4hri, got 'coco17'"):
        conversion(BLAZEPOSE, "coco17")


@given(st.sets(st.sampled_from(BLAZEPOSE.joint_names), max_size=6))
def test_joints_that_need_an_unknown_one_are_unknown_and_no_others(missing: set[str]) -> None:
    joints = np.tile(body(BLAZEPOSE), (2, 1, 1))
    index = [BLAZEPOSE.joint_names.index(name) for name in missing]
    joints[1, index] = np.nan
    found = conversion(BLAZEPOSE, "smpl_24")
    converted = found.joints(joints)
    needs = (found.matrix[:, index] > 0).any(1)
    np.testing.assert_array_equal(np.isnan(converted[1]).all(-1), needs)
    np.testing.assert_array_equal(converted[1][~needs], converted[0][~needs])
    known = np.where(np.isnan(joints).any(-1), np.nan, 0.05)
    np.testing.assert_array_equal(np.isnan(found.uncertainty(known)[1]), needs)


def test_uncertainty_is_that_of_common_errors_and_never_too_small() -> None:
    found = conversion(BLAZEPOSE, "smpl_24")
    rng = np.random.default_rng(0)
    joints, sigma = body(BLAZEPOSE), rng.uniform(0.02, 0.3, len(BLAZEPOSE.joint_names))
    expected = found.uncertainty(sigma)
    clean = found.joints(joints)
    for shared in (0.0, 0.5, 1.0):
        common, own = rng.normal(size=(4000, 1, 3)), rng.normal(size=(4000, len(sigma), 3))
        noise = (np.sqrt(shared) * common + np.sqrt(1 - shared) * own) * sigma[:, None] / np.sqrt(3)
        error = np.sqrt(((found.joints(joints + noise) - clean) ** 2).sum(-1).mean(0))
        assert (error < 1.05 * expected).all()
        if shared == 1:
            np.testing.assert_allclose(error, expected, rtol=0.05)


@pytest.fixture(scope="module")
def bodies() -> tuple[np.ndarray, Callable[[str], np.ndarray]]:
    """Joints [N,27,3] of synthetic bodies in many poses, and the places [N,3] of a bone's head."""
    pytest.importorskip("torch", reason="training/ needs torch: see requirements/training.txt")
    pytest.importorskip("anny", reason="synthetic bodies need anny: see requirements/training.txt")
    from training.synthetic.bodies import joints, sampled_phenotype, shapes, skinned
    from training.synthetic.body_data import body_data
    from training.synthetic.kinematics import pose_bones
    from training.synthetic.poses import sampled_pose

    rng, data = np.random.default_rng(0), body_data()
    skeletons, bones = [], []
    for shape in shapes([sampled_phenotype(rng) for _ in range(30)]):
        for _ in range(3):
            rotations, positions = pose_bones(sampled_pose(rng, True)[0], shape.bone_heads, shape.height)
            surface = skinned(
                shape.vertices, rotations, positions, shape.bone_heads, data.skin_weights, data.skin_bones
            )
            skeletons.append(joints(shape, surface, rotations, positions))
            bones.append(positions)
    places = np.array(bones)
    return np.array(skeletons), lambda bone: places[:, data.bone(bone)]


def test_derived_joints_are_where_bodies_have_them(bodies: tuple[np.ndarray, Callable[[str], np.ndarray]]) -> None:
    """BlazePose's joints of the body alone against those that the body has; and the ball of the foot, the knuckles."""
    joints, bone = bodies
    names = [name for name in DEFAULT.joint_names if name not in ("pelvis", "spine", "neck", "head_top")]
    without = Skeleton(tuple(names), ())
    seen = joints[:, [DEFAULT.joint_names.index(name) for name in names]]

    def error(convention: str, name: str, truth: np.ndarray) -> float:
        found = conversion(without, convention)
        distances = np.linalg.norm(joint(found, found.joints(seen), name) - truth, axis=-1)
        return float(np.sqrt((distances**2).mean()))

    own = {name: joints[:, i] for i, name in enumerate(DEFAULT.joint_names)}
    assert error("smpl_24", "neck", own["neck"]) < 0.035
    assert error("h36m_17", "spine", own["spine"]) < 0.055
    ball = np.mean([bone(f"toe{toe}-1.L") for toe in range(1, 6)], 0)
    assert error("smpl_24", "left_foot", ball) < 0.027
    assert np.sqrt((np.linalg.norm(own["left_foot"] - ball, axis=-1) ** 2).mean()) > 0.05
    knuckles = (bone("finger2-1.R") + bone("finger5-1.R")) / 2
    assert np.linalg.norm(knuckles - own["right_hand"], axis=-1).max() < 0.01
