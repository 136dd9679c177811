"""The whole way from pixels to absolute skeletons, with the real networks on real images of real people.

How far a network's skeleton moves by itself when the image is resampled is the measure for what a rolled, bent or
turned camera may cost: on these frames about 4 cm a joint (median) around the hips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
import skimage.data
from scipy.spatial.transform import Rotation

from demo.clip import FOV_DEG, clip_path
from metrabs_ros import crop
from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from metrabs_ros.pipeline import PosePipeline
from metrabs_ros.pose import Detections, Pose3D

UP = np.array([0.0, -1.0, 0.0])
CLIP_CAMERA = Camera.from_fov(FOV_DEG, (1768, 994))
ASTRONAUT = skimage.data.astronaut()
ASTRONAUT_CAMERA = Camera.from_fov(50, (512, 512))
SEEN = (45, 60, 85, 125)
# Of the clip, px: two people are in none of these but one.
WINDOW = 900

Image = np.ndarray


@pytest.fixture(scope="module")
def frames() -> dict[int, Image]:
    video = cv2.VideoCapture(str(clip_path()))
    wanted = {*range(60, 70), *SEEN}
    found = {}
    for index in range(max(wanted) + 1):
        video.grab()
        if index in wanted:
            found[index] = video.retrieve()[1][..., ::-1].copy()
    video.release()
    return found


@pytest.fixture(scope="module")
def pipeline() -> Iterator[PosePipeline]:
    pipeline = PosePipeline.from_engine("blazepose_full")
    pipeline.warm_up()
    yield pipeline
    pipeline.close()


@pytest.fixture(autouse=True)
def fresh(pipeline: PosePipeline) -> Iterator[None]:
    """Level, and nobody known."""
    yield
    pipeline.reset()
    pipeline.up = UP


def photographed(image: Image, camera: Camera, other: Camera, R_other_cam: np.ndarray | None = None) -> Image:
    """What another camera at the same place would have seen of the image; black beyond it."""
    width, height = other.size
    pitch = 8
    u, v = np.arange(0, width + pitch, pitch), np.arange(0, height + pitch, pitch)
    rays, _ = other.unproject(np.stack(np.meshgrid(u, v), -1))
    source, seen = camera.project(rays if R_other_cam is None else rays @ R_other_cam)
    coarse = np.where(seen[..., None], source, -1e4).astype(np.float32)
    u, v = np.meshgrid(np.arange(width, dtype=np.float32) / pitch, np.arange(height, dtype=np.float32) / pitch)
    at = cv2.remap(coarse, u, v, cv2.INTER_LINEAR)
    return cv2.remap(image, at[..., 0], at[..., 1], cv2.INTER_LINEAR)


def window_around(camera: Camera, point: np.ndarray, side: int = WINDOW) -> Camera:
    """The part of the image, ``side`` px square, in whose middle a 3D point is."""
    u, v = camera.project(point)[0]
    return camera.cropped(round(u - side / 2), round(v - side / 2), (side, side))


def hips(joints3d: np.ndarray) -> np.ndarray:
    return joints3d[23:25].mean(0)


def differences(pose: Pose3D, others: list[Pose3D], R_other_cam: np.ndarray | None = None) -> tuple[float, float]:
    """To the nearest of the others, m: mean over the joints around the hips, and of the hips themselves."""
    turned = [other.joints3d if R_other_cam is None else other.joints3d @ R_other_cam for other in others]
    nearest = min(turned, key=lambda joints3d: float(np.linalg.norm(hips(joints3d) - hips(pose.joints3d))))
    around = (nearest - hips(nearest)) - (pose.joints3d - hips(pose.joints3d))
    return float(np.linalg.norm(around, axis=-1).mean()), float(np.linalg.norm(hips(nearest) - hips(pose.joints3d)))


@pytest.fixture(scope="module")
def people(pipeline: PosePipeline, frames: dict[int, Image]) -> list[tuple[Image, Pose3D]]:
    """Frames of the clip, and the skeletons that a level camera looking at each person gives."""
    found = []
    for index in SEEN:
        for seen in pipeline.estimate(frames[index], CLIP_CAMERA):
            camera = window_around(CLIP_CAMERA, hips(seen.joints3d))
            poses = pipeline.estimate(photographed(frames[index], CLIP_CAMERA, camera), camera)
            pose = min(poses, key=lambda pose: float(np.linalg.norm(hips(pose.joints3d) - hips(seen.joints3d))))
            found.append((frames[index], pose))
    assert len(found) == 2 * len(SEEN)
    return found


# A person seen by another camera: image, camera, rotation, and the box around their joints.
Look = Callable[[Image, Camera, np.ndarray, np.ndarray], list[Pose3D]]


def moved(people: list[tuple[Image, Pose3D]], camera: Camera, R_other_cam: np.ndarray, look: Look) -> np.ndarray:
    """[N,2] m: differences() of everybody, seen by windows of ``camera`` that is turned by R_other_cam."""
    found = []
    for image, pose in people:
        turned = pose.joints3d @ R_other_cam.T
        window = window_around(camera, hips(turned))
        joints2d = window.project(turned)[0]
        low, high = joints2d.min(0), joints2d.max(0)
        margin = 0.06 * (high - low).max()
        box = np.concatenate([low - margin, high - low + 2 * margin])
        poses = look(photographed(image, CLIP_CAMERA, window, R_other_cam), window, R_other_cam, box)
        assert poses, "a person was lost"
        found.append(differences(pose, poses, R_other_cam))
    return np.array(found)


def rolled_by(degrees: float) -> np.ndarray:
    return Rotation.from_euler("z", degrees, degrees=True).as_matrix()


def test_the_astronaut_is_whole_although_her_legs_are_not_in_the_image(pipeline: PosePipeline) -> None:
    (pose,) = pipeline.estimate(ASTRONAUT, ASTRONAUT_CAMERA)
    names = pipeline.skeleton.joint_names
    assert pose.joints3d.shape == (len(names), 3)
    assert np.isfinite(pose.joints3d).all()
    assert 0.6 < np.median(pose.joints3d[:, 2]) < 2.0
    assert pose.score > 0.9
    nose = pose.joints2d[names.index("nose")]
    np.testing.assert_allclose(nose, [222, 112], atol=25)
    knees = pose.joints3d[[names.index("left_knee"), names.index("right_knee")]]
    assert (knees[:, 1] > pose.joints3d[names.index("nose"), 1] + 0.3).all()
    assert not ASTRONAUT_CAMERA.contains(pose.joints2d).all()
    x, y, width, height = pose.box
    assert x >= -0.5
    assert y >= -0.5
    assert x + width <= 511.5
    assert y + height <= 511.5
    assert np.isnan(pose.uncertainty).all()


def test_joints_in_the_image_are_where_the_network_saw_them(pipeline: PosePipeline) -> None:
    """The body's axis is given, so that one look is enough: what the network says of it, brought back by hand."""
    box, axis = np.array([[70.0, 10.0, 380.0, 500.0]]), np.array([[0.1, -1.0]])
    side = pipeline.spec.input.size
    up = crop.up_along(ASTRONAUT_CAMERA, box[:, :2] + box[:, 2:] / 2, axis)
    virtual, _ = crop.virtual_cameras(ASTRONAUT_CAMERA, box, side, up, pipeline.spec.crop.box_scale)
    output = pipeline.engine.infer(crop.warp(ASTRONAUT, ASTRONAUT_CAMERA, virtual))
    expected = crop.to_image(output.coords2d, virtual, ASTRONAUT_CAMERA)[0][0]
    (pose,) = pipeline.process(ASTRONAUT, ASTRONAUT_CAMERA, 0.0, Detections(box, np.ones(1), axis))
    inside = ASTRONAUT_CAMERA.contains(expected)
    assert inside.sum() > 10
    np.testing.assert_allclose(pose.joints2d[inside], expected[inside], atol=0.02)
    np.testing.assert_allclose(ASTRONAUT_CAMERA.project(pose.joints3d)[0], pose.joints2d)
    np.testing.assert_array_equal(pose.box, box[0])


@pytest.mark.parametrize("name", ["brick", "grass", "coffee", "chelsea"])
def test_nobody_is_where_nobody_is(pipeline: PosePipeline, name: str) -> None:
    image = getattr(skimage.data, name)()
    image = np.repeat(image[..., None], 3, -1) if image.ndim == 2 else image
    camera = Camera.from_fov(55, (image.shape[1], image.shape[0]))
    assert pipeline.estimate(image, camera) == []
    assert pipeline.process(image, camera, 0.0) == []


@pytest.mark.parametrize("boxes", [np.zeros((0, 4)), [[10, 10, 0, 50]], [[np.nan, 0, 50, 50]], [[-900, 0, 300, 300]]])
def test_boxes_without_anybody(pipeline: PosePipeline, boxes: np.ndarray) -> None:
    assert pipeline.estimate(ASTRONAUT, ASTRONAUT_CAMERA, boxes) == []
    assert pipeline.process(ASTRONAUT, ASTRONAUT_CAMERA, 0.0, Detections.from_boxes(np.array(boxes))) == []


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (ASTRONAUT.astype(np.float32), r"\[512, 512, 3\] float32"),
        (ASTRONAUT[..., 0], r"\[512, 512\] uint8"),
        (np.concatenate([ASTRONAUT, ASTRONAUT[..., :1]], -1), r"\[512, 512, 4\] uint8"),
        (ASTRONAUT[:480], "calibrated for images of 512x512, got one of 512x480"),
        (ASTRONAUT[:0], "got one of 512x0"),
    ],
)
def test_an_image_that_does_not_fit_is_refused_and_nobody_forgotten(
    pipeline: PosePipeline, image: Image, words: str
) -> None:
    (before,) = pipeline.process(ASTRONAUT, ASTRONAUT_CAMERA, 0.0)
    with pytest.raises(InputError, match=words):
        pipeline.process(image, ASTRONAUT_CAMERA, 0.03)
    with pytest.raises(InputError, match=words):
        pipeline.estimate(image, ASTRONAUT_CAMERA)
    (after,) = pipeline.process(ASTRONAUT, ASTRONAUT_CAMERA, 0.06)
    assert after.track_id == before.track_id


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name_or_path": "blazepose_ful"}, "did you mean 'blazepose_full'"),
        ({"name_or_path": "blazepose_detector"}, "expected kind pose"),
        ({"backend": "tensorflow"}, "no backend named 'tensorflow'"),
        ({"num_aug": 33}, "num_aug must be a number of views from 1 .* to 32, got 33"),
        ({"num_aug": 0}, "num_aug must be a number of views from 1 .* to 32, got 0"),
        ({"convention": "coco"}, "one of engine, coco_17, h36m_17, smpl_24, ros4hri, got 'coco'"),
        ({"up": (0, 0, 0)}, "not all zero"),
        ({"up": (0, np.nan, 1)}, "up must be three numbers"),
        ({"up": (0, -1)}, "up must be three numbers"),
    ],
)
def test_what_no_pipeline_can_be_made_of(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        PosePipeline.from_engine(**arguments)  # type: ignore[arg-type]


def test_both_people_keep_their_ids(pipeline: PosePipeline, frames: dict[int, Image]) -> None:
    """One view a frame: within three frames both are known, and from then on nobody is lost."""
    tracked = [pipeline.process(frames[i], CLIP_CAMERA, i / 30) for i in range(60, 70)]
    for poses in tracked[3:]:
        assert len(poses) == 2
        assert len({pose.track_id for pose in poses}) == 2
        assert {pose.track_id for pose in poses} == {pose.track_id for pose in tracked[3]}
        for pose in poses:
            assert 5 < hips(pose.joints3d)[2] < 10
    on_the_roof = [pose.track_id for poses in tracked for pose in poses if hips(pose.joints2d)[1] < 500]
    assert len(set(on_the_roof)) == 1


def test_people_leave_with_their_image(pipeline: PosePipeline, frames: dict[int, Image]) -> None:
    black = np.zeros_like(frames[60])
    for i in range(60, 64):
        known = pipeline.process(frames[i], CLIP_CAMERA, i / 30)
    assert known
    assert pipeline.process(black, CLIP_CAMERA, 64 / 30) == []
    pipeline.reset()
    for i in range(64, 68):
        again = pipeline.process(frames[i], CLIP_CAMERA, i / 30)
    assert {pose.track_id for pose in again}.isdisjoint(pose.track_id for pose in known)


def test_boxes_from_outside_are_tracked_as_they_are(pipeline: PosePipeline, frames: dict[int, Image]) -> None:
    tracks = []
    for i in range(60, 64):
        boxes = np.array([pose.box for pose in pipeline.estimate(frames[i], CLIP_CAMERA)])
        tracked = pipeline.process(frames[i], CLIP_CAMERA, i / 30, Detections.from_boxes(boxes))
        assert len(tracked) == len(boxes) == 2
        assert all((boxes == pose.box).all(1).any() for pose in tracked)
        tracks.append({pose.track_id for pose in tracked})
    assert all(ids == tracks[0] for ids in tracks)


@pytest.mark.parametrize("degrees", [2, 30, -30])
@pytest.mark.parametrize("told", [True, False])
def test_a_rolled_camera_costs_no_accuracy(
    pipeline: PosePipeline, people: list[tuple[Image, Pose3D]], degrees: float, told: bool
) -> None:
    """Whether or not the pipeline is told where up is: the detector sees the body's own axis. 2° is the yardstick."""

    def look(image: Image, camera: Camera, R_other_cam: np.ndarray, box: np.ndarray) -> list[Pose3D]:
        pipeline.up = R_other_cam @ UP if told else UP
        return pipeline.estimate(image, camera)

    found = moved(people, CLIP_CAMERA, rolled_by(degrees), look)
    assert np.median(found[:, 0]) < 0.05
    assert found[:, 0].mean() < 0.08
    assert np.median(found[:, 1]) < 0.15


@pytest.mark.parametrize("degrees", [2, 30, -30])
def test_boxes_in_a_rolled_camera_cost_no_accuracy_where_up_is_told(
    pipeline: PosePipeline, people: list[tuple[Image, Pose3D]], degrees: float
) -> None:
    def look(image: Image, camera: Camera, R_other_cam: np.ndarray, box: np.ndarray) -> list[Pose3D]:
        pipeline.up = R_other_cam @ UP
        return pipeline.estimate(image, camera, [box])

    found = moved(people, CLIP_CAMERA, rolled_by(degrees), look)
    assert np.median(found[:, 0]) < 0.06
    assert found[:, 0].mean() < 0.08


def rolled_boxes_of_which_nothing_is_known(pipeline: PosePipeline, people: list[tuple[Image, Pose3D]]) -> float:
    """Neither axis nor up is told: the body's lean has to come out of the network's first look. Mean error, m."""

    def look(image: Image, camera: Camera, R_other_cam: np.ndarray, box: np.ndarray) -> list[Pose3D]:
        return pipeline.estimate(image, camera, [box])

    return float(np.mean([moved(people, CLIP_CAMERA, rolled_by(degrees), look)[:, 0] for degrees in (30, -30)]))


def test_boxes_in_a_rolled_camera_that_nobody_told(pipeline: PosePipeline, people: list[tuple[Image, Pose3D]]) -> None:
    assert rolled_boxes_of_which_nothing_is_known(pipeline, people) < 0.15


def test_boxes_in_a_rolled_camera_that_nobody_told_cost_no_accuracy(
    pipeline: PosePipeline, people: list[tuple[Image, Pose3D]]
) -> None:
    assert rolled_boxes_of_which_nothing_is_known(pipeline, people) < 0.07


LENSES = {
    "barrel": Camera(CLIP_CAMERA.K, [-0.25, 0.08, 0.001, -0.001, 0.0], "plumb_bob", CLIP_CAMERA.size),
    "rational": Camera(
        CLIP_CAMERA.K,
        [0.3, 0.05, 0.001, -0.0005, 0.01, 0.6, 0.15, 0.02, 0.002, -0.001, -0.002, 0.001, 0.02, -0.02],
        "rational_polynomial",
        CLIP_CAMERA.size,
    ),
    "fisheye": Camera(CLIP_CAMERA.K, [0.02, -0.01, 0.003, -0.001], "equidistant", CLIP_CAMERA.size),
}


@pytest.mark.parametrize("lens", LENSES)
def test_a_bent_lens_costs_no_accuracy(pipeline: PosePipeline, people: list[tuple[Image, Pose3D]], lens: str) -> None:
    def look(image: Image, camera: Camera, R_other_cam: np.ndarray, box: np.ndarray) -> list[Pose3D]:
        return pipeline.estimate(image, camera)

    found = moved(people, LENSES[lens], np.eye(3), look)
    assert np.median(found[:, 0]) < 0.04
    # Two of the eight are seen through circles of the detector that change with the lens.
    assert found[:, 0].mean() < 0.06
    assert np.median(found[:, 1]) < 0.1


@pytest.mark.parametrize("off_axis", [(-35, 15), (35, -15)])
def test_a_person_in_the_corner_of_a_wide_image_is_the_same_person(
    pipeline: PosePipeline, people: list[tuple[Image, Pose3D]], off_axis: tuple[float, float]
) -> None:
    """Turned away until the person is near the edge: a crop that ignores perspective would stretch and turn them."""
    found = []
    for image, pose in people:
        x, y, z = hips(pose.joints3d)
        towards = Rotation.from_euler("yx", [-np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))])
        away = Rotation.from_euler("xy", off_axis[::-1], degrees=True)
        R_other_cam = (away * towards).as_matrix()
        wide = Camera.from_fov(100, (2600, 1700))

        def look(image: Image, camera: Camera, R_other_cam: np.ndarray, box: np.ndarray) -> list[Pose3D]:
            pipeline.up = R_other_cam @ UP
            return pipeline.estimate(image, camera)

        found.append(moved([(image, pose)], wide, R_other_cam, look)[0])
    assert np.median(found, 0)[0] < 0.05
    assert np.mean(found, 0)[0] < 0.07
    assert np.median(found, 0)[1] < 0.15


@pytest.mark.parametrize("corner", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_a_person_at_the_image_corner(
    pipeline: PosePipeline, people: list[tuple[Image, Pose3D]], corner: tuple[int, int]
) -> None:
    """The image ends a tenth of the person's height beside their outermost joints."""
    found = []
    for image, pose in people:
        joints2d = CLIP_CAMERA.project(pose.joints3d)[0]
        low, high = joints2d.min(0), joints2d.max(0)
        margin = 0.1 * (high[1] - low[1])
        size = np.array([800, 600])
        start = np.where(np.array(corner) > 0, high + margin - size, low - margin)
        camera = CLIP_CAMERA.cropped(round(start[0]), round(start[1]), (800, 600))
        poses = pipeline.estimate(photographed(image, CLIP_CAMERA, camera), camera)
        assert poses
        found.append(differences(pose, poses))
    assert np.median(found, 0)[0] < 0.06
    assert np.max(found, 0)[0] < 0.15
    assert np.median(found, 0)[1] < 0.15


def test_a_person_of_whom_the_image_ends_at_the_knees(
    pipeline: PosePipeline, people: list[tuple[Image, Pose3D]]
) -> None:
    """Most are found, and their shins predicted: the whole body is off by little more than where it can be seen."""
    found = []
    knees = [pipeline.skeleton.joint_names.index(f"{side}_knee") for side in ("left", "right")]
    for image, pose in people:
        u, v = CLIP_CAMERA.project(pose.joints3d)[0][knees].mean(0)
        camera = CLIP_CAMERA.cropped(round(u) - 400, round(v) - 600, (800, 600))
        poses = pipeline.estimate(photographed(image, CLIP_CAMERA, camera), camera)
        assert all(np.isfinite(other.joints3d).all() for other in poses)
        found += [differences(pose, poses)] if poses else []
    assert len(found) >= 0.7 * len(people)
    assert np.median(found, 0)[0] < 0.15
    assert np.median(found, 0)[1] < 0.4
