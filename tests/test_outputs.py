"""~/people, ~/joints, ~/image_annotated, ~/skeleton, their switches: as arrays, and over DDS from another process."""

from __future__ import annotations

import json
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from bodies_for_tests import CAMERA, NAMES, SKELETON, tracked
from hypothesis import given
from hypothesis import strategies as st
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from ros_outputs_node import IMAGE, R_OUT_CAM, T_OUT_CAM, result_of
from ros_outputs_peer import OutputsNode, cloud_points, latched, outputs_node, transforms_of
from ros_support import free_domain, header_at
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3D, Detection3DArray
from visualization_msgs.msg import MarkerArray

from metrabs_ros import annotate
from metrabs_ros.body_frame import body_frame
from metrabs_ros.image_messages import clipped_box, cut_out, jpeg_to_msg
from metrabs_ros.joint_cloud import joints_to_cloud
from metrabs_ros.messages import image_from_msg, stamp_s
from metrabs_ros.people_messages import BODY_MARGIN, people_to_msg, upright_boxes

pytestmark = pytest.mark.ros

LEVEL = (0.0, -1.0, 0.0)


@pytest.fixture
def node() -> Iterator[OutputsNode]:
    with free_domain() as domain, outputs_node(domain) as running:
        yield running


def set_parameter(node: OutputsNode, name: str, value: bool) -> None:
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    answer = node.peer.call(SetParameters, "/pose_node/set_parameters", request, may_repeat=True)
    assert answer.results[0].successful


# --- people -----------------------------------------------------------------------------------------------------------


def xyz(vector: object) -> np.ndarray:
    return np.array([vector.x, vector.y, vector.z])  # type: ignore[attr-defined]


def matrix(quaternion: object) -> np.ndarray:
    q = quaternion
    return Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()  # type: ignore[attr-defined]


def inside(person: Detection3D, points: np.ndarray, more: float = 0.0) -> np.ndarray:
    """Whether points lie in the person's box, made ``more`` m larger on each side."""
    box = person.bbox
    local = (points - xyz(box.center.position)) @ matrix(box.center.orientation)
    return (np.abs(local) <= xyz(box.size) / 2 + more + 1e-9).all(-1)


@given(
    st.integers(1, 9),
    st.floats(0, 20),
    st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1)).filter(lambda v: np.linalg.norm(v) > 0.2),
)
def test_a_persons_box_is_upright_tight_and_faces_where_the_body_does(track_id: int, t: float, up: tuple) -> None:
    pose = tracked(track_id, t)
    person = people_to_msg([pose], pose.joints3d[None], NAMES, up, header_at(t)).detections[0]
    assert inside(person, pose.joints3d).all()
    axes = matrix(person.bbox.center.orientation)
    np.testing.assert_allclose(axes[:, 2], np.array(up) / np.linalg.norm(up), atol=1e-9)
    # Each side touches a joint but for the margin.
    local = (pose.joints3d - xyz(person.bbox.center.position)) @ axes
    np.testing.assert_allclose(local.max(0) - local.min(0), xyz(person.bbox.size) - 2 * BODY_MARGIN, atol=1e-9)
    forward = body_frame(pose.joints3d[None], NAMES).T_cam_body[0, :3, 0]
    flat = forward - (forward @ axes[:, 2]) * axes[:, 2]
    if np.linalg.norm(flat) > 0.2:
        np.testing.assert_allclose(axes[:, 0], flat / np.linalg.norm(flat), atol=1e-9)


def test_the_root_is_the_middle_of_the_hips_turned_like_rep_155s_body() -> None:
    pose = tracked(3, 0.4, uncertainty=0.06)
    person = people_to_msg([pose], pose.joints3d[None], NAMES, LEVEL, header_at(1.0)).detections[0]
    (result,) = person.results
    assert (person.id, result.hypothesis.class_id) == ("3", "person")
    assert result.hypothesis.score == pytest.approx(pose.score)
    hips = pose.joints3d[[NAMES.index("left_hip"), NAMES.index("right_hip")]]
    np.testing.assert_allclose(xyz(result.pose.pose.position), hips.mean(0))
    T = body_frame(pose.joints3d[None], NAMES).T_cam_body[0]
    np.testing.assert_allclose(matrix(result.pose.pose.orientation), T[:3, :3], atol=1e-9)
    covariance = np.reshape(result.pose.covariance, (6, 6))
    np.testing.assert_allclose(covariance, np.diag([0.06**2 / 3] * 3 + [0] * 3))


def test_what_is_not_known_of_a_person_is_not_made_up() -> None:
    pose = tracked(1, 0.0, uncertainty=np.nan)
    joints = pose.joints3d.copy()
    joints[[NAMES.index("left_hip"), NAMES.index("right_hip")]] = np.nan
    person = people_to_msg([pose], joints[None], NAMES, LEVEL, header_at(1.0)).detections[0]
    assert not np.any(person.results[0].pose.covariance)
    np.testing.assert_allclose(matrix(person.results[0].pose.pose.orientation), np.eye(3))
    assert person.results[0].pose.pose.position == person.bbox.center.position
    assert inside(person, joints[np.isfinite(joints).all(-1)]).all()
    nobody = people_to_msg([pose], np.full((1, 17, 3), np.nan), NAMES, LEVEL, header_at(1.0))
    assert nobody.detections == []
    assert people_to_msg([], np.zeros((0, 17, 3)), NAMES, LEVEL, header_at(1.0)).detections == []


def test_a_box_of_somebody_lying_on_the_back_is_upright_all_the_same() -> None:
    lying = np.array([[0.0, 1.0, 3.0], [0.3, 1.0, 3.2], [0.0, 1.0, 4.0]])
    boxes = upright_boxes(lying[None], np.array([[0.0, -1.0, 0.0]]), LEVEL)
    np.testing.assert_allclose(boxes.rotations[0, :, 2], LEVEL, atol=1e-12)
    np.testing.assert_allclose(boxes.rotations[0].T @ boxes.rotations[0], np.eye(3), atol=1e-12)
    assert np.linalg.det(boxes.rotations[0]) == pytest.approx(1)


# --- joints -----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 16), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_cloud_holds_every_joint_of_every_person(people: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    joints, uncertainty = rng.normal(0, 3, (people, width, 3)), rng.uniform(0, 1, (people, width))
    ids = rng.integers(1, 2**32 - 1, people).tolist()
    uncertainty[:, ::3] = np.nan
    cloud = joints_to_cloud(joints, uncertainty, ids, header_at(1.0))
    points = cloud_points(cloud)
    assert (cloud.height, cloud.width, cloud.is_dense) == (people, width, True)
    np.testing.assert_array_equal(np.stack([points[axis] for axis in "xyz"], -1), joints.astype(np.float32))
    np.testing.assert_array_equal(points["uncertainty"], uncertainty.astype(np.float32))
    np.testing.assert_array_equal(points["track_id"], np.repeat(ids, width).reshape(people, width))
    np.testing.assert_array_equal(points["joint"], np.tile(np.arange(width), (people, 1)))


def test_a_cloud_with_unknown_places_is_not_dense() -> None:
    joints = np.zeros((1, 3, 3))
    joints[0, 1] = np.nan
    assert not joints_to_cloud(joints, np.zeros((1, 3)), [1], header_at(0.0)).is_dense


def test_ros_reads_the_cloud() -> None:
    library = pytest.importorskip("sensor_msgs_py.point_cloud2", reason="ROS 2 from PyPI lacks sensor_msgs_py.")
    pose = tracked(5, 0.0)
    cloud = joints_to_cloud(pose.joints3d[None], pose.uncertainty[None], [5], header_at(0.0))
    read = library.read_points(cloud)
    np.testing.assert_allclose(np.stack([read[axis] for axis in "xyz"], -1).reshape(-1, 3), pose.joints3d, atol=1e-6)
    assert set(read["track_id"].ravel().tolist()) == {5}
    np.testing.assert_array_equal(read["joint"].ravel(), np.arange(len(NAMES)))


# --- images -----------------------------------------------------------------------------------------------------------


def test_jpegs_are_the_picture_and_smaller_at_less_quality() -> None:
    ramp = np.zeros((60, 80, 3), np.uint8)
    ramp[..., 0], ramp[..., 2] = np.arange(80), 200
    fine, coarse = (jpeg_to_msg(ramp, header_at(0.0), quality) for quality in (95, 5))
    decoded = cv2.cvtColor(cv2.imdecode(np.frombuffer(fine.data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.abs(decoded.astype(int) - ramp).max() < 12
    assert len(coarse.data) < len(fine.data)
    assert fine.format == "rgb8; jpeg compressed bgr8"


@given(st.floats(-50, 150), st.floats(-50, 150), st.floats(0, 200), st.floats(0, 200))
def test_a_box_is_clipped_to_the_image_and_cut_out_of_it(x: float, y: float, width: float, height: float) -> None:
    rows, columns = np.mgrid[:60, :100]
    image = np.stack([rows, columns, rows], -1).astype(np.uint8)
    edges = clipped_box((x, y, width, height), (100, 60))
    assert ((edges >= 0) & (edges <= 1)).all()
    assert edges[2] >= edges[0]
    assert edges[3] >= edges[1]
    pixels = cut_out(image, edges)
    for channel, start, length, count in ((1, x, width, 100), (0, y, height, 60)):
        touched = [i for i in range(count) if start < i + 0.5 and start + length > i - 0.5] if width and height else []
        if pixels.size:
            found = np.unique(pixels[..., channel])
            assert set(touched) - {0, count - 1} <= set(found.tolist())
            assert len(found) <= length + 2


# --- over DDS ---------------------------------------------------------------------------------------------------------


def test_one_frames_topics_agree_with_the_poses_that_went_in(node: OutputsNode) -> None:
    t, people = 12.5, [1, 3]
    heard = {
        kind: node.peer.listen(kind, f"/pose_node/{name}")
        for kind, name in ((Detection3DArray, "people"), (PointCloud2, "joints"), (MarkerArray, "markers"))
    }
    frames = node.peer.listen(TFMessage, "/tf")
    node.send(lambda: all(heard.values()) and frames, "all topics", people=people, t=t)
    expected = result_of(people, t)
    joints = expected.joints_out()

    detections = heard[Detection3DArray][0][1]
    assert detections.header == expected.header
    assert [person.id for person in detections.detections] == ["1", "3"]
    for person, at in zip(detections.detections, joints, strict=True):
        assert inside(person, at).all()
    points = cloud_points(heard[PointCloud2][0][1])
    np.testing.assert_allclose(np.stack([points[axis] for axis in "xyz"], -1), joints, atol=1e-6)
    assert points["track_id"][:, 0].tolist() == people
    spheres = [marker for marker in heard[MarkerArray][0][1].markers if marker.ns == "joints"]
    np.testing.assert_allclose([[xyz(p) for p in marker.points] for marker in spheres], joints)
    transforms = transforms_of(frames)
    for track_id, at in zip(people, joints, strict=True):
        for name, place in zip(NAMES, at, strict=True):
            found = transforms[f"person_{track_id}/{name}"]
            assert found.header == expected.header
            np.testing.assert_allclose(xyz(found.transform.translation), place)


def test_places_are_in_the_published_frame_and_frames_of_cameras_do_not_clash(node: OutputsNode) -> None:
    people = node.peer.listen(Detection3DArray, "/pose_node/turned/people")
    clouds = node.peer.listen(PointCloud2, "/pose_node/turned/joints")
    frames = node.peer.listen(TFMessage, "/tf")
    node.send(lambda: people and clouds and frames, "the camera's topics", people=[2], t=1.0, camera="turned")
    at = tracked(2, 1.0).joints3d @ R_OUT_CAM.T + T_OUT_CAM
    assert people[0][1].header.frame_id == clouds[0][1].header.frame_id == "map"
    points = cloud_points(clouds[0][1])
    np.testing.assert_allclose(np.stack([points[axis] for axis in "xyz"], -1)[0], at, atol=1e-6)
    (person,) = people[0][1].detections
    assert inside(person, at).all()
    np.testing.assert_allclose(matrix(person.bbox.center.orientation)[:, 2], R_OUT_CAM @ LEVEL, atol=1e-9)
    nose = transforms_of(frames)["turned/person_2/nose"]
    assert nose.header.frame_id == "map"
    np.testing.assert_allclose(xyz(nose.transform.translation), at[0])


def test_the_picture_shows_the_people_and_is_made_only_for_who_subscribes(node: OutputsNode) -> None:
    marks = node.peer.listen(MarkerArray, "/pose_node/markers")
    node.send(lambda: marks, "markers", people=[1], t=1.0)
    node.settled()
    assert node.process.count("wants image True") == 0
    pictures = node.peer.listen(Image, "/pose_node/image_annotated")
    node.send(lambda: pictures, "a picture", people=[1, 2], t=2.0)
    node.send(lambda: node.process.count("wants image True"), "the wish for pixels", people=[1, 2], t=2.0)
    expected = result_of([1, 2], 2.0)
    picture = pictures[0][1]
    assert picture.header == expected.image_header
    np.testing.assert_array_equal(image_from_msg(picture), annotate.drawn(IMAGE, expected.poses, SKELETON))
    jpegs = node.peer.listen(CompressedImage, "/pose_node/image_annotated/compressed")
    node.send(lambda: jpegs, "a JPEG", people=[1], t=3.0)
    decoded = cv2.imdecode(np.frombuffer(jpegs[0][1].data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape[1::-1] == CAMERA.size


def test_the_skeleton_is_there_for_who_comes_late(node: OutputsNode) -> None:
    marks = node.peer.listen(MarkerArray, "/pose_node/markers")
    node.send(lambda: marks, "markers", people=[], t=1.0)
    heard = node.peer.listen(String, "/pose_node/skeleton", latched())
    node.peer.wait_until(lambda: heard, "the skeleton")
    skeleton = json.loads(heard[0][1].data)
    assert tuple(skeleton["joint_names"]) == NAMES
    assert [tuple(edge) for edge in skeleton["edges"]] == list(SKELETON.edges)


def test_a_frame_without_people_gives_empty_messages(node: OutputsNode) -> None:
    people = node.peer.listen(Detection3DArray, "/pose_node/people")
    clouds = node.peer.listen(PointCloud2, "/pose_node/joints")
    node.send(lambda: people and clouds, "empty messages", people=[], t=5.0)
    assert people[0][1].detections == []
    assert stamp_s(people[0][1].header) == pytest.approx(5.0)
    assert (clouds[0][1].height, len(clouds[0][1].data)) == (0, 0)


@pytest.mark.parametrize(
    ("switch", "kind", "topic"),
    [
        ("publish_people", Detection3DArray, "people"),
        ("publish_joints", PointCloud2, "joints"),
        ("publish_image_annotated", Image, "image_annotated"),
    ],
)
def test_each_topic_can_be_switched_off_and_on(node: OutputsNode, switch: str, kind: type, topic: str) -> None:
    heard = node.peer.listen(kind, f"/pose_node/{topic}")
    marks = node.peer.listen(MarkerArray, "/pose_node/markers")

    def times() -> set[float]:
        return {stamp_s(message.header) for _, message in heard}

    node.send(lambda: heard and marks, topic, people=[1], t=1.0)
    set_parameter(node, switch, False)
    node.send(lambda: [m for _, m in marks if m.markers[0].header.stamp.sec == 2], "markers", people=[1], t=2.0)
    node.settled()
    set_parameter(node, switch, True)
    node.send(lambda: 3.0 in times(), f"{topic} again", people=[1], t=3.0)
    assert times() == {1.0, 3.0}


def test_topics_end_with_their_publishers(node: OutputsNode) -> None:
    def names() -> set[str]:
        return {name for name, _ in node.peer.node.get_topic_names_and_types() if name.startswith("/pose_node/")}

    wanted = {"markers", "people", "joints", "skeleton", "image_annotated", "image_annotated/compressed"}
    topics = {f"/pose_node/{camera}{name}" for camera in ("", "turned/") for name in wanted}
    node.peer.wait_until(lambda: topics <= names(), "the topics")
    node.ask(destroy=True)
    node.peer.wait_until(lambda: not topics & names(), "the topics' end")


def test_quality_of_service_can_be_overridden() -> None:
    given = ("-p", "qos_overrides./pose_node/people.publisher.reliability:=best_effort")
    with free_domain() as domain, outputs_node(domain, *given) as node:

        def reliability(topic: str) -> list[ReliabilityPolicy]:
            found = node.peer.node.get_publishers_info_by_topic(f"/pose_node/{topic}")
            return [endpoint.qos_profile.reliability for endpoint in found]

        node.peer.wait_until(lambda: reliability("people") == [ReliabilityPolicy.BEST_EFFORT], "the override")
        for other in ("markers", "joints", "image_annotated"):
            node.peer.wait_until(lambda topic=other: reliability(topic) == [ReliabilityPolicy.RELIABLE], "the others'")
