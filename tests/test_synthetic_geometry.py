"""The labels of synthetic people are exact: projections, sides, what is hidden and what is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("torch")

from metrabs_ros import crop
from metrabs_ros.camera import Camera
from training.skeleton import JOINT_NAMES, SKELETON
from training.synthetic import synthetic_ready

if not synthetic_ready():
    pytest.skip("the body model's or the backgrounds' cache is not built", allow_module_level=True)

from training.synthetic import bodies, kinematics, pose_families, poses
from training.synthetic.angles import ANGLES, INDEX
from training.synthetic.backdrop import sampled_backdrop
from training.synthetic.body_data import body_data
from training.synthetic.camera_sampling import View
from training.synthetic.clothes import object_params, sampled_outfit
from training.synthetic.collision import overlap
from training.synthetic.frame import frame_of
from training.synthetic.light import sampled_light
from training.synthetic.materials import MATERIAL, RULES, SLOTS
from training.synthetic.occluders import Thing, boxes
from training.synthetic.people import Person, posed_person
from training.synthetic.picture import rendered, visible_joints
from training.synthetic.scene import Scene, sampled_scene, sampled_stock

NAMES = {name: i for i, name in enumerate(JOINT_NAMES)}


@pytest.fixture(scope="module")
def adult() -> bodies.Shape:
    middle = bodies.Phenotype(0.5, 0.67, 0.5, 0.5, 0.37, 0.5, 0.5, 0.5, 0.33, 0.33, 0.34)
    return bodies.shapes([middle])[0]


def standing(shape: bodies.Shape) -> Person:
    """Upright, facing -y, arms a little away from the body."""
    angles = np.zeros(len(ANGLES))
    for side in ("left", "right"):
        angles[INDEX[f"{side}_arm_abduct"]] = 0.35
    outfit = replace(sampled_outfit(np.random.default_rng(3), shape), skirt_length=0.0, long_hair=0.0)
    for slot in ("skin", "hair"):  # black against any wall
        at = len(RULES) + SLOTS.index(slot) * len(MATERIAL)
        outfit.params[at : at + 10] = 0
    outfit.params[RULES.index("hat_line")] = 9
    return posed_person(shape, outfit, angles, "test", 0.0)


def scene_of(person: Person, things: tuple[Thing, ...] = (), D: tuple[float, ...] = ()) -> Scene:
    """Seen from the front, 3 m away, at hip height, camera level."""
    rng = np.random.default_rng(0)
    camera = Camera(np.array([[400.0, 0, 199.5], [0, 400, 199.5], [0, 0, 1]]), np.array(D), "plumb_bob", (400, 400))
    view = View(camera, np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.array([0.0, -3.0, 0.9]))
    photo, textures = np.full((64, 64, 3), 235, np.uint8), np.full((1, 32, 32, 3), 120, np.uint8)
    params = np.array([object_params(rng) for _ in things], np.float32).reshape(len(things), len(person.outfit.params))
    return Scene((person,), things, params, sampled_light(rng), sampled_backdrop(rng, photo, textures, 400.0), view)


def seen_in(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joints px [J,2], visible [J] and the mask [H,W] of the person's pixels."""
    camera = scene.view.camera
    picture = rendered(scene, camera.K, scene.view.R_cam_world, camera.size)
    points = scene.view.to_camera(scene.people[0].joints)
    pixels, valid = camera.project(points)
    assert valid.all()
    owner = np.where(picture.buffers.triangle >= 0, picture.owners[picture.buffers.triangle], -1)
    return pixels, visible_joints(picture, scene.people[0], points, pixels), owner == 0


def test_left_is_on_the_right_of_somebody_who_faces_the_camera(adult: bodies.Shape) -> None:
    pixels, _, _ = seen_in(scene_of(standing(adult)))
    for name, i in NAMES.items():
        if name.startswith("left_"):
            other = NAMES["right_" + name.removeprefix("left_")]
            assert pixels[i, 0] > pixels[other, 0] + 5, name


def test_upright_joints_are_in_anatomical_order_and_at_plausible_lengths(adult: bodies.Shape) -> None:
    joints = standing(adult).joints
    order = (
        "left_heel",
        "left_ankle",
        "left_knee",
        "left_hip",
        "spine",
        "left_shoulder",
        "neck",
        "nose",
        "left_eye",
        "head_top",
    )
    heights = [joints[NAMES[name], 2] for name in order]
    assert heights == sorted(heights)
    length = lambda a, b: np.linalg.norm(joints[NAMES[a]] - joints[NAMES[b]]) / adult.height  # noqa: E731
    assert 0.21 < length("left_hip", "left_knee") < 0.28
    assert 0.21 < length("left_knee", "left_ankle") < 0.27
    assert 0.14 < length("left_shoulder", "left_elbow") < 0.2
    assert 0.12 < length("left_elbow", "left_wrist") < 0.18
    assert 0.09 < length("left_hip", "right_hip") < 0.14
    assert 0.18 < length("left_shoulder", "right_shoulder") < 0.26
    assert joints[NAMES["nose"], 1] < joints[NAMES["left_ear"], 1], "the person faces -y"


def test_every_joint_lies_within_the_rendered_body(adult: bodies.Shape) -> None:
    pixels, _, mask = seen_in(scene_of(standing(adult)))
    for name, (x, y) in zip(JOINT_NAMES, np.round(pixels).astype(int), strict=True):
        assert mask[y - 5 : y + 6, x - 5 : x + 6].any(), f"{name} at {x}, {y} has no body around it"
    inner = [NAMES[name] for name in ("pelvis", "spine", "left_knee", "right_elbow", "left_shoulder")]
    for x, y in np.round(pixels[inner]).astype(int):
        assert mask[y, x]


def test_a_lone_person_facing_the_camera_is_visible_but_for_nothing(adult: bodies.Shape) -> None:
    _, visible, _ = seen_in(scene_of(standing(adult)))
    hidden = {JOINT_NAMES[i] for i in np.flatnonzero(~visible)}
    assert hidden <= {"left_heel", "right_heel", "left_ear", "right_ear"}, hidden


def test_what_stands_in_front_hides_what_is_behind(adult: bodies.Shape) -> None:
    board = boxes([(0, 0, 0, 2.0, 0.05, 0.75)], 0.0, np.array([0.0, -1.0]))
    _, visible, _ = seen_in(scene_of(standing(adult), (board,)))
    assert not visible[
        [NAMES[f"{side}_{part}"] for side in ("left", "right") for part in ("knee", "ankle", "foot")]
    ].any()
    assert visible[[NAMES[name] for name in ("nose", "neck", "left_shoulder", "spine")]].all()


def test_a_turned_head_shows_one_ear(adult: bodies.Shape) -> None:
    person = standing(adult)
    angles = np.zeros(len(ANGLES))
    angles[INDEX["head_twist"]] = 1.3
    turned = posed_person(adult, person.outfit, angles, "test", 0.0)
    before, after = person.joints[NAMES["nose"], 0], turned.joints[NAMES["nose"], 0]
    assert after > before + 0.05, "a positive twist turns the head to the person's left"
    _, visible, _ = seen_in(scene_of(turned))
    assert visible[NAMES["right_ear"]]
    assert not visible[NAMES["left_ear"]]


def test_mirrored_angles_mirror_the_joints(adult: bodies.Shape) -> None:
    rng = np.random.default_rng(5)
    mirror = SKELETON.mirror
    for _ in range(12):
        angles, _ = poses.sampled_pose(rng)
        outfit = standing(adult).outfit
        joints = posed_person(adult, outfit, angles, "test", 0.0).joints
        other = posed_person(adult, outfit, poses.mirrored(angles), "test", 0.0).joints
        joints, other = joints - joints[0], other - other[0]
        np.testing.assert_allclose(other[mirror] * [-1, 1, 1], joints, atol=0.03 * adult.height)


def test_poses_keep_bones_and_rarely_go_through_themselves(adult: bodies.Shape) -> None:
    rng = np.random.default_rng(11)
    edges = [(a, b) for a, b in SKELETON.edges if JOINT_NAMES[b].endswith(("knee", "ankle", "elbow", "wrist"))]
    rest = standing(adult).joints
    deep = 0
    for _ in range(60):
        person = posed_person(adult, standing(adult).outfit, poses.sampled_pose(rng)[0], "test", 0.0)
        for a, b in edges:
            want, got = (np.linalg.norm(joints[a] - joints[b]) for joints in (rest, person.joints))
            assert abs(want - got) < 0.03 * adult.height
        assert person.points[:, 2].min() == pytest.approx(0, abs=1e-4)
    for _ in range(200):
        _, positions = kinematics.pose_bones(poses.sampled_pose(rng)[0], adult.bone_heads, adult.height)
        deep += overlap(positions, adult.height) > 0.05
    assert deep < 60, (
        "people are resampled up to four times, so a quarter of bad poses leaves less than one in a hundred"
    )


def test_flat_feet_stand_on_the_floor(adult: bodies.Shape) -> None:
    rng = np.random.default_rng(2)
    angles = poses.finished(rng, pose_families.TRAINING["standing"][0](rng))
    joints = posed_person(adult, standing(adult).outfit, angles, "test", 0.0).joints
    assert abs(joints[NAMES["left_heel"], 2] - joints[NAMES["right_heel"], 2]) < 0.02
    for name in ("left_heel", "right_heel", "left_foot", "right_foot"):
        assert joints[NAMES[name], 2] < 0.07


@pytest.mark.parametrize("D", [(), (-0.25, 0.06, 0.001, -0.001, 0.0)])
def test_frames_label_what_their_camera_sees(adult: bodies.Shape, D: tuple[float, ...]) -> None:
    scene = scene_of(standing(adult), D=D)
    frame = frame_of(scene, np.random.default_rng(1))
    assert frame.image.shape == (400, 400, 3)
    pixels, _ = frame.camera.project(frame.joints3d[0])
    np.testing.assert_allclose(pixels, frame.joints2d[0], atol=1e-6)
    x, y, w, h = frame.boxes[0]
    assert (pixels[:, 0] > x - 4).all()
    assert (pixels[:, 0] < x + w + 4).all()
    assert (pixels[:, 1] > y - 4).all()
    assert (pixels[:, 1] < y + h + 4).all()
    assert frame.up @ [0, -1, 0] == pytest.approx(1)


def test_a_distorted_frame_is_bent_as_its_camera_says(adult: bodies.Shape) -> None:
    """The person's silhouette, found by contrast, spans what the distorted camera says, not what a pinhole would."""
    scene = scene_of(standing(adult), D=(-0.3, 0.09, 0, 0, 0))
    frame = frame_of(scene, np.random.default_rng(1))
    _, seen = crop.virtual_cameras(frame.camera, frame.boxes, 256, frame.up)
    assert seen.all()
    outline, _ = frame.camera.project(scene.view.to_camera(scene.people[0].points.astype(np.float64)))
    straight, _ = frame.camera.undistorted().project(scene.view.to_camera(scene.people[0].points.astype(np.float64)))
    assert np.ptp(straight[:, 1]) > np.ptp(outline[:, 1]) + 3, "the test's lens must matter"
    # The head is the only dark thing above the middle of the picture.
    dark = frame.image[:180, 150:250].mean(-1) < 0.6 * np.median(frame.image[:60].mean(-1))
    assert np.flatnonzero(dark.sum(1) > 3).min() == pytest.approx(outline[:, 1].min(), abs=4)


def test_scenes_hold_everybody_in_front_of_their_camera() -> None:
    stock = sampled_stock(np.random.default_rng(1), people=3, photos=2)
    for seed in range(6):
        scene = sampled_scene(np.random.default_rng(seed), stock, (320, 240), count=3)
        assert scene is not None
        assert 1 <= len(scene.people) <= 3
        distance = np.linalg.norm(scene.people[0].joints[0] - scene.view.eye)
        assert 0.4 < distance < 17
        np.testing.assert_allclose(scene.view.R_cam_world @ scene.view.R_cam_world.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(scene.view.R_cam_world) == pytest.approx(1)


@pytest.mark.slow
def test_shapes_are_annys(adult: bodies.Shape) -> None:
    """Our numpy blend shapes against anny itself."""
    anny = pytest.importorskip("anny")
    torch = pytest.importorskip("torch")
    model = anny.Anny(phenotypes="all")
    values = {
        name: torch.tensor([getattr(adult.phenotype, name)], dtype=torch.float64) for name in model.phenotype_labels
    }
    rest = model.get_rest_model(model.get_phenotype_blendshape_coefficients(**values))
    np.testing.assert_allclose(adult.vertices, rest["rest_vertices"][0].numpy(), atol=1e-4)
    np.testing.assert_allclose(adult.bone_heads, rest["rest_bone_heads"][0].numpy(), atol=1e-4)
    assert len(body_data().template) == len(adult.vertices)
