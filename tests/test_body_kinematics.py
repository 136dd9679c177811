"""Joint angles and body frames from 3D joints: forward kinematics through the parsed URDF returns the joints."""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation
from urdf_for_tests import LINK_OF, SEEN, joints_of, links_through_urdf, return_errors

from demo.clip import FOV_DEG, clip_path
from metrabs_ros.body_frame import body_frame
from metrabs_ros.body_kinematics import BodyStates, joint_angles, link_poses
from metrabs_ros.body_model import EXTRA_JOINTS, JOINT_NAMES, LINK_NAMES, LOWER, UPPER
from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from metrabs_ros.pipeline import PosePipeline
from metrabs_ros.segment_lengths import LengthEstimator, SegmentLengths, segment_samples
from training.skeleton import JOINT_NAMES as DEFAULT_NAMES
from training.synthetic import synthetic_ready

ROOT = Path(__file__).parents[1]
ADULT = SegmentLengths.from_height(1.75)
# Body axes of somebody who faces the camera, in its optical frame: forward is towards it, up is -y.
FACING = np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])
# Narrower than the limits where no person goes to all of them at once.
TOGETHER = dict.fromkeys(("l_clavicle", "r_clavicle", "neck"), (-0.04, 0.06)) | {
    "y_waist": (-0.8, 0.8),
    "r_waist": (-0.5, 0.5),
    "waist": (-0.4, 1.0),
}

parts = hnp.arrays(np.float64, len(JOINT_NAMES), elements=st.floats(0, 1))
turns = hnp.arrays(np.float64, 3, elements=st.floats(-3.1, 3.1)).map(lambda v: Rotation.from_rotvec(v).as_matrix())


def pose(R: np.ndarray = FACING, t: tuple[float, ...] = (0.2, -0.1, 3.0)) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, t
    return T


def positions(**angles: float) -> np.ndarray:
    return np.array([angles.get(name, 0.0) for name in JOINT_NAMES])


def seen(angles: np.ndarray, T: np.ndarray | None = None, lengths: SegmentLengths = ADULT) -> np.ndarray:
    """[1,len(SEEN),3] of one person."""
    return joints_of(links_through_urdf(lengths, angles, pose() if T is None else T))[None]


def returned(joints: np.ndarray, names: tuple[str, ...], lengths: SegmentLengths, states: BodyStates) -> np.ndarray:
    """[N,13] m: how far the parsed URDF's links are from the joints."""
    return np.array(
        [
            list(return_errors(links_through_urdf(lengths, q, T), at, names).values())
            for q, T, at in zip(states.positions, states.T_cam_body, joints, strict=True)
        ]
    )


def within(part: np.ndarray, lower: np.ndarray = LOWER, upper: np.ndarray = UPPER) -> np.ndarray:
    """An anatomically plausible pose: every angle in its limits, the trunk's and the slides in narrower ones."""
    low, high = lower.copy(), upper.copy()
    for name, (least, most) in TOGETHER.items():
        at = JOINT_NAMES.index(name)
        low[at], high[at] = max(least, lower[at]), min(most, upper[at])
    return low + part * (high - low)


# A tall person's nearly straight, overstretched leg, which pure chance seldom draws.
OVERSTRETCHED = np.zeros(len(JOINT_NAMES))
OVERSTRETCHED[JOINT_NAMES.index("r_knee")] = 0.9609375


@settings(max_examples=200, deadline=None)
@example(OVERSTRETCHED, np.eye(3), 1.95)
@given(parts, turns, st.sampled_from([0.9, 1.6, 1.95]))
def test_the_urdf_returns_the_joints_of_any_valid_pose(part: np.ndarray, R: np.ndarray, height: float) -> None:
    lengths = SegmentLengths.from_height(height)
    joints = seen(within(part), pose(R), lengths)
    states = joint_angles(joints, SEEN, lengths)
    assert states.valid.all()
    assert returned(joints, SEEN, lengths, states).max() < 0.03


@settings(max_examples=100, deadline=None)
@given(parts, turns)
def test_away_from_singularities_it_returns_them_exactly_and_the_limbs_angles_too(
    part: np.ndarray, R: np.ndarray
) -> None:
    clear = {"y_shoulder": (-0.8, 1.5), "p_shoulder": (0.3, 2.8), "r_shoulder": (-1.2, 1.2), "elbow": (0.5, 2.4)}
    clear |= {"y_hip": (-0.8, 0.8), "p_hip": (-0.5, 1.2), "r_hip": (-0.6, 2.2), "knee": (-2.4, -0.5)}
    lower, upper = LOWER.copy(), UPPER.copy()
    for at, name in enumerate(JOINT_NAMES):
        lower[at], upper[at] = clear.get(name[2:], (LOWER[at] + 0.01, UPPER[at] - 0.01))
        if "waist" in name:
            lower[at] = upper[at] = 0.0
    angles = within(part, lower, upper)
    joints = seen(angles, pose(R))
    states = joint_angles(joints, SEEN, ADULT)
    assert returned(joints, SEEN, ADULT, states).max() < 1e-5
    np.testing.assert_allclose(states.positions[0], angles, atol=1e-4)
    np.testing.assert_allclose(states.T_cam_body[0], pose(R), atol=1e-5)
    assert states.within_limits.all()


@pytest.mark.parametrize(
    ("part", "joint", "towards", "name", "angle"),
    [
        ("left_elbow", "left_shoulder", (0, 1, 0), "l_p_shoulder", np.pi / 2),
        ("right_elbow", "right_shoulder", (0, -1, 0), "r_p_shoulder", np.pi / 2),
        ("left_wrist", "left_elbow", (1, 0, 0), "l_elbow", np.pi / 2),
        ("right_wrist", "right_elbow", (1, 0, 0), "r_elbow", np.pi / 2),
        ("left_knee", "left_hip", (1, 0, 0), "l_r_hip", np.pi / 2),
        ("left_ankle", "left_knee", (-1, 0, 0), "l_knee", -np.pi / 2),
    ],
)
def test_signs_are_those_of_rep_155(
    part: str, joint: str, towards: tuple[int, int, int], name: str, angle: float
) -> None:
    """One segment of somebody who stands before the camera is put somewhere, what hangs on it moving along."""
    joints = seen(positions())
    start, end = joints[0, SEEN.index(joint)], joints[0, SEEN.index(part)]
    direction = FACING @ np.array(towards) / np.linalg.norm(towards)
    shift = start + np.linalg.norm(end - start) * direction - end
    chain = {"elbow": ("elbow", "wrist"), "knee": ("knee", "ankle")}
    side, kind = part.split("_")
    for moved in chain.get(kind, (kind,)):
        joints[0, SEEN.index(f"{side}_{moved}")] += shift
    found = joint_angles(joints, SEEN, ADULT).by_name()
    assert found[name] == pytest.approx(angle, abs=1e-3)
    others = {other: value for other, value in found.items() if other[:2] != name[:2]}
    assert np.abs(list(others.values())).max() < 1e-3


def test_a_leg_goes_outwards_with_positive_angles_on_both_sides() -> None:
    joints = seen(positions(l_p_hip=0.5, r_p_hip=0.5)) @ FACING
    for side, outwards in (("left", 1), ("right", -1)):
        hip, ankle = (joints[0, SEEN.index(f"{side}_{name}")] for name in ("hip", "ankle"))
        assert outwards * (ankle - hip)[1] > 0.3
    found = joint_angles(joints, SEEN, ADULT).by_name()
    assert (found["l_p_hip"], found["r_p_hip"]) == pytest.approx((0.5, 0.5), abs=1e-4)


def test_the_head_turns_left_and_looks_up_with_positive_angles() -> None:
    found = joint_angles(seen(positions(y_head=0.5, p_head=0.3)), SEEN, ADULT).by_name()
    assert (found["y_head"], found["p_head"]) == pytest.approx((0.5, 0.3), abs=1e-4)
    links = links_through_urdf(ADULT, positions(y_head=0.5, p_head=0.3), np.eye(4))
    looks = links[LINK_NAMES.index("head"), :3, 0]
    assert looks[1] > 0.3
    assert looks[2] > 0.2


@settings(max_examples=60, deadline=None)
@given(parts)
def test_the_mirrored_person_has_the_angles_of_the_other_side(part: np.ndarray) -> None:
    joints = seen(within(0.2 + 0.6 * part))
    other = [
        SEEN.index({"left": "right", "right": "left"}[name.split("_")[0]] + name[name.index("_") :]) for name in SEEN
    ]
    here = joint_angles(joints, SEEN, ADULT).by_name()
    there = joint_angles(joints[:, other] * [-1, 1, 1], SEEN, ADULT).by_name()
    for name, value in here.items():
        if name[:2] in ("l_", "r_") and "r_" + name[2:] in there and "l_" + name[2:] in there:
            expected = there[("r_" if name[0] == "l" else "l_") + name[2:]] * (-1 if name[2:] == "y_hip" else 1)
        else:
            expected = there[name] * (-1 if name in ("y_waist", "r_waist", "r_head", "y_head") else 1)
        assert np.cos(value - expected) > 1 - 1e-6, name


def test_the_body_frame_of_somebody_who_faces_the_camera() -> None:
    found = body_frame(seen(positions(l_elbow=1.0)), SEEN)
    assert found.valid.all()
    np.testing.assert_allclose(found.T_cam_body[0], pose(), atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(turns)
def test_the_body_frame_turns_with_the_body_lying_or_upside_down(R: np.ndarray) -> None:
    joints = seen(positions(waist=0.4, y_waist=0.3, l_y_hip=0.2))
    before, after = body_frame(joints, SEEN).T_cam_body[0], body_frame(joints @ R.T + [0.1, 0.2, 0.3], SEEN)
    assert after.valid.all()
    np.testing.assert_allclose(after.T_cam_body[0], pose(R, (0.1, 0.2, 0.3)) @ before, atol=1e-9)
    head = joints_mid(joints @ R.T + [0.1, 0.2, 0.3], "eye")[0]
    assert (head - after.T_cam_body[0, :3, 3]) @ after.T_cam_body[0, :3, 2] > 0.5


def joints_mid(joints: np.ndarray, name: str) -> np.ndarray:
    return (joints[:, SEEN.index(f"left_{name}")] + joints[:, SEEN.index(f"right_{name}")]) / 2


def test_hips_on_one_point_or_one_line_with_the_trunk_leave_the_frame_to_the_shoulders() -> None:
    joints = seen(positions())
    left, right = SEEN.index("left_hip"), SEEN.index("right_hip")
    middle = joints_mid(joints, "hip")
    for offset in ((0, 0, 0), (0.004, 0, -0.006), (0, 0.1, 0)):
        joints[:, left], joints[:, right] = middle + offset, middle - offset
        found = body_frame(joints, SEEN)
        assert found.valid.all()
        np.testing.assert_allclose(found.T_cam_body[0], pose(), atol=1e-3)


def test_the_frame_follows_hips_that_fall_together_without_a_jump() -> None:
    joints = seen(positions(y_waist=0.7))
    middle, half = joints_mid(joints, "hip"), joints[:, SEEN.index("left_hip")] - joints_mid(joints, "hip")
    forward = []
    for part in np.linspace(1, 0, 101):
        joints[:, SEEN.index("left_hip")], joints[:, SEEN.index("right_hip")] = (
            middle + part * half,
            middle - part * half,
        )
        forward.append(body_frame(joints, SEEN).T_cam_body[0, :3, 0])
    cosines = (np.array(forward)[1:] * np.array(forward)[:-1]).sum(1)
    assert np.degrees(np.arccos(cosines.clip(-1, 1))).max() < 5


@pytest.mark.parametrize("missing", [("hip",), ("shoulder", "ear")])
def test_without_hips_or_anything_above_there_is_no_frame(missing: tuple[str, ...]) -> None:
    joints = seen(positions())
    for name in missing:
        for side in ("left", "right"):
            joints[:, SEEN.index(f"{side}_{name}")] = np.nan
    states = joint_angles(joints, SEEN, ADULT)
    assert not states.body_valid.any()
    assert not states.valid.any()
    assert np.isnan(states.T_cam_body).all()
    assert (states.positions == 0).all()


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.bool_, len(SEEN)), parts)
def test_missing_joints_hold_the_last_angles_and_never_give_a_number_that_is_none(
    gone: np.ndarray, part: np.ndarray
) -> None:
    joints = seen(within(part))
    joints[:, gone] = np.inf
    last = np.full((1, len(JOINT_NAMES)), 0.123)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        states = joint_angles(joints, SEEN, ADULT, previous=last)
    assert np.isfinite(states.positions).all()
    if not states.body_valid[0]:
        assert (states.positions == 0.123).all()
    valid = dict(zip(JOINT_NAMES, states.valid[0], strict=True))
    lost = {name for name, is_gone in zip(SEEN, gone, strict=True) if is_gone}
    for side in ("left", "right"):
        s = side[0]
        if f"{side}_wrist" in lost:
            assert not valid[f"{s}_elbow"]
            assert states.by_name()[f"{s}_elbow"] == 0.123
        if f"{side}_elbow" in lost:
            assert not valid[f"{s}_p_shoulder"]
        if f"{side}_knee" in lost:
            assert not valid[f"{s}_knee"]
            assert not valid[f"{s}_r_hip"]
        if states.body_valid[0] and not lost & {"left_shoulder", "right_shoulder", f"{side}_elbow", f"{side}_wrist"}:
            assert valid[f"{s}_elbow"]


def test_people_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(4)
    sizes = [SegmentLengths.from_height(height) for height in (1.2, 1.6, 1.9)]
    joints = np.concatenate([seen(within(rng.uniform(size=len(JOINT_NAMES))), lengths=size) for size in sizes])
    joints[1, :3] = np.nan
    together = joint_angles(joints, SEEN, sizes)
    for i, size in enumerate(sizes):
        alone = joint_angles(joints[i : i + 1], SEEN, size)
        np.testing.assert_array_equal(together.positions[i], alone.positions[0])
        np.testing.assert_allclose(link_poses(together, sizes)[i], link_poses(alone, size)[0])
    assert joint_angles(joints[:0], SEEN, []).positions.shape == (0, len(JOINT_NAMES))


def test_an_arm_that_swings_through_hanging_and_a_leg_that_stretches_do_not_jump() -> None:
    previous, before = None, None
    for step in np.linspace(-1, 1, 81):
        joints = seen(positions(l_y_shoulder=np.pi / 2, l_p_shoulder=0.8 * step, l_elbow=0.4, l_r_shoulder=1.2))
        states = joint_angles(joints, SEEN, ADULT, previous)
        if before is not None:
            assert np.abs(states.positions - before).max() < 0.12, step
        previous = before = states.positions
    previous, before = None, None
    for bend in np.concatenate([np.linspace(-0.8, 0.1, 60), np.linspace(0.1, -0.8, 60)]):
        states = joint_angles(seen(positions(r_knee=bend, r_r_hip=0.4, r_y_hip=0.2)), SEEN, ADULT, previous)
        if before is not None:
            assert np.abs(states.positions - before).max() < 0.12, bend
        previous = before = states.positions


def test_a_straight_arm_keeps_its_last_rotation_about_itself() -> None:
    angles = positions(l_p_shoulder=1.2, l_y_shoulder=0.3, l_r_shoulder=0.9, l_elbow=1.0)
    last = joint_angles(seen(angles), SEEN, ADULT).positions
    angles[JOINT_NAMES.index("l_elbow")] = 0.0
    kept = joint_angles(seen(angles), SEEN, ADULT, last).by_name()
    assert kept["l_r_shoulder"] == pytest.approx(0.9, abs=0.01)


def test_the_skeleton_is_read_by_name_in_any_order_and_its_middles_are_derived() -> None:
    """BlazePose's 33 have no pelvis, spine or neck; the default model's 27 in another order."""
    blazepose = tuple(yaml.safe_load((ROOT / "engines" / "blazepose_full.yaml").read_text())["joints"])
    joints = seen(within(np.random.default_rng(2).uniform(size=len(JOINT_NAMES))))
    expected = joint_angles(joints, SEEN, ADULT)
    for names in (blazepose, DEFAULT_NAMES, DEFAULT_NAMES[::-1]):
        full = np.full((1, len(names), 3), np.nan)
        full[:, [names.index(name) for name in SEEN]] = joints
        np.testing.assert_allclose(joint_angles(full, names, ADULT).positions, expected.positions, atol=1e-9)


def test_only_the_joints_of_rep_155_move_when_only_those_are_wanted() -> None:
    joints = seen(positions(y_waist=0.5, l_clavicle=0.05, l_elbow=1.0, l_p_shoulder=1.0))
    states = joint_angles(joints, SEEN, ADULT, reference_joints=True)
    assert all(states.by_name()[name] == 0 for name in EXTRA_JOINTS)
    assert states.valid.all()
    untwisted = seen(positions(waist=0.3, l_elbow=1.0, l_p_shoulder=1.0, p_head=0.4, r_knee=-0.5))
    states = joint_angles(untwisted, SEEN, ADULT, reference_joints=True)
    assert returned(untwisted, SEEN, ADULT, states).max() < 1e-5


def test_what_does_not_fit_is_refused_with_a_sentence() -> None:
    joints = seen(positions())
    with pytest.raises(InputError, match=f"{len(SEEN)} joints x 3"):
        joint_angles(joints[0], SEEN, ADULT)
    with pytest.raises(InputError, match="1 people needs segment lengths, but 2"):
        joint_angles(joints, SEEN, [ADULT, ADULT])
    with pytest.raises(InputError, match="previous positions"):
        joint_angles(joints, SEEN, ADULT, previous=np.zeros((2, 3)))


def test_joints_of_synthetic_people_return_within_30_mm() -> None:
    """Bodies whose spine, neck and shoulders bend in many more joints than REP-155 has."""
    pytest.importorskip("numba")
    if not synthetic_ready():
        pytest.skip("the body model's or the backgrounds' cache is not built")
    from training.synthetic import bodies, kinematics, poses
    from training.synthetic.body_data import body_data

    rng = np.random.default_rng(23)
    data = body_data()
    errors = []
    for shape in bodies.shapes([bodies.sampled_phenotype(rng) for _ in range(8)]):
        joints = []
        for _ in range(40):
            rotations, places = kinematics.pose_bones(poses.sampled_pose(rng)[0], shape.bone_heads, shape.height)
            posed = bodies.skinned(
                shape.vertices, rotations, places, shape.bone_heads, data.skin_weights, data.skin_bones
            )
            joints.append(bodies.joints(shape, posed, rotations, places))
        seen_joints = np.array(joints)
        lengths = SegmentLengths.from_joints(seen_joints, DEFAULT_NAMES)
        states = joint_angles(seen_joints, DEFAULT_NAMES, lengths)
        assert states.valid.all()
        errors.append(returned(seen_joints, DEFAULT_NAMES, lengths, states))
    limbs, head = np.concatenate(errors)[:, :-1], np.concatenate(errors)[:, -1]
    for name, error in (("limbs", limbs), ("head", head)):
        print(f"{name}: median {np.median(error) * 1000:.1f} mm, 95 % {np.quantile(error, 0.95) * 1000:.1f} mm")
    assert np.quantile(limbs, 0.995) < 0.03
    assert np.quantile(head, 0.95) < 0.03


def test_joints_of_people_in_a_real_video_return() -> None:
    """BlazePose's bones change their length from frame to frame, which no URDF can: that is what is left."""
    pipeline = PosePipeline.from_engine("blazepose_full")
    names = pipeline.skeleton.joint_names
    video = cv2.VideoCapture(str(clip_path()))
    people: dict[int, tuple[LengthEstimator, np.ndarray | None]] = {}
    kept, own = [], []
    for index in range(60):
        found, image = video.read()
        assert found
        if index % 2:
            continue
        image = np.ascontiguousarray(image[..., ::-1])
        for person in pipeline.process(image, Camera.from_fov(FOV_DEG, image.shape[1::-1]), index / 30):
            estimator, previous = people.get(person.track_id, (LengthEstimator(), None))
            lengths = estimator.update(segment_samples(person.joints3d[None], names)[0])
            joints = person.joints3d[None].astype(np.float64)
            states = joint_angles(joints, names, lengths, previous)
            assert states.valid.all()
            people[person.track_id] = estimator, states.positions
            kept.append(returned(joints, names, lengths, states))
            this_frame = SegmentLengths.from_joints(joints, names)
            own.append(returned(joints, names, this_frame, joint_angles(joints, names, this_frame, previous)))
    pipeline.close()
    for title, errors in (("lengths of the person", kept), ("lengths of the frame", own)):
        median, most = np.quantile(np.concatenate(errors), (0.5, 0.95)) * 1000
        print(f"{title}: {len(errors)} skeletons, median {median:.1f} mm, 95 % {most:.1f} mm")
    assert len(kept) > 30
    assert np.median(np.concatenate(kept)) < 0.03
    assert np.median(np.concatenate(own)) < 0.015
    assert set(LINK_OF) <= set(names)
