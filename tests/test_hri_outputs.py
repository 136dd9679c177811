"""REP-155 (ROS4HRI): what one frame's people become under /humans/bodies and on /tf, over DDS from another process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from bodies_for_tests import CAMERA, NAMES, tracked
from hri_msgs.msg import IdsList, NormalizedRegionOfInterest2D, Skeleton2D
from ros_outputs_node import IMAGE, result_of
from ros_outputs_peer import OutputsNode, latched, outputs_node, transforms_of
from ros_support import free_domain
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from metrabs_ros.body_frame import body_frame
from metrabs_ros.hri_messages import SKELETON2D, skeletons2d
from metrabs_ros.messages import image_from_msg
from metrabs_ros.skeleton import Skeleton

pytestmark = pytest.mark.ros

# REP-155, "Kinematic Model of the Human": its links and its joints that move, without the ids.
LIMBS = ("y_shoulder", "p_shoulder", "shoulder", "elbow", "wrist", "y_hip", "p_hip", "hip", "knee", "ankle")
REP_LINKS = {"body", "waist", "torso", "r_head", "y_head", "p_head", "head"} | {f"{s}_{n}" for s in "lr" for n in LIMBS}
ARMS_AND_LEGS = ("y_shoulder", "p_shoulder", "r_shoulder", "elbow", "y_hip", "p_hip", "r_hip", "knee")
REP_JOINTS = {"waist", "r_head", "y_head", "p_head"} | {f"{s}_{n}" for s in "lr" for n in ARMS_AND_LEGS}
BODY_TOPICS = {"roi", "cropped", "skeleton2d", "joint_states", "urdf"}
SIDES = {"left": "l", "right": "r"}
LINK_OF = {
    f"{side}_{joint}": f"{s}_{joint}"
    for side, s in SIDES.items()
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
}


@pytest.fixture
def node(request: pytest.FixtureRequest) -> Iterator[OutputsNode]:
    with free_domain() as domain, outputs_node(domain, *getattr(request, "param", ())) as running:
        yield running


def bodies(node: OutputsNode) -> dict[str, set[str]]:
    """The topics of each body that exist now."""
    found: dict[str, set[str]] = {}
    for name, _ in node.peer.node.get_topic_names_and_types():
        if name.startswith("/humans/bodies/") and name.count("/") == 4:
            _, _, _, body_id, topic = name.split("/")
            found.setdefault(body_id, set()).add(topic)
    return found


def poses_of(transforms: dict, body_id: str, header_frame: str) -> dict[str, np.ndarray]:
    """The pose [4,4] of each of a body's frames in ``header_frame``, through its parents."""

    def pose(name: str) -> np.ndarray:
        if name == header_frame:
            return np.eye(4)
        message = transforms[name]
        q, p = message.transform.rotation, message.transform.translation
        own = np.eye(4)
        own[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
        own[:3, 3] = p.x, p.y, p.z
        return pose(message.header.frame_id) @ own

    return {name: pose(name) for name in transforms if name.endswith(f"_{body_id}")}


def urdf_poses(description: str, positions: dict[str, float]) -> dict[str, np.ndarray]:
    """Forward kinematics as robot_state_publisher does it: each link's pose [4,4] in the root link."""
    robot = ElementTree.fromstring(description)
    joints = {joint.find("child").get("link"): joint for joint in robot.iter("joint")}

    def pose(link: str) -> np.ndarray:
        if link not in joints:
            return np.eye(4)
        joint = joints[link]
        own = np.eye(4)
        own[:3, 3] = [float(v) for v in joint.find("origin").get("xyz").split()]
        assert joint.find("origin").get("rpy") == "0 0 0"
        if joint.get("type") != "fixed":
            axis = np.array([float(v) for v in joint.find("axis").get("xyz").split()])
            value = positions[joint.get("name")]
            if joint.get("type") == "revolute":
                own[:3, :3] = Rotation.from_rotvec(value * axis).as_matrix()
            else:
                own[:3, 3] += value * axis
        return pose(joint.find("parent").get("link")) @ own

    return {link.get("name"): pose(link.get("name")) for link in robot.iter("link")}


def errors(links: dict[str, np.ndarray], body_id: str, track_id: int, t: float) -> dict[str, float]:
    """Metres between the links and the joints that went in; links in the camera's frame."""
    joints = dict(zip(NAMES, tracked(track_id, t).joints3d, strict=True))
    joints["head"] = (joints["left_eye"] + joints["right_eye"]) / 2
    links_of = LINK_OF | {"head": "head"}
    return {name: np.linalg.norm(links[f"{link}_{body_id}"][:3, 3] - joints[name]) for name, link in links_of.items()}


# --- bodies come and go -----------------------------------------------------------------------------------------------


def test_bodies_are_listed_and_have_the_topics_of_the_rep(node: OutputsNode) -> None:
    heard = node.peer.listen(IdsList, "/humans/bodies/tracked")
    node.send(lambda: heard, "the list", people=[1, 12], t=10.0)
    assert list(heard[0][1].ids) == ["p1", "p12"]
    assert heard[0][1].header == result_of([], 10.0).image_header
    node.peer.wait_until(lambda: bodies(node) == {"p1": BODY_TOPICS, "p12": BODY_TOPICS}, "the bodies' topics")
    types = dict(node.peer.node.get_topic_names_and_types())
    assert types["/humans/bodies/p1/roi"] == ["hri_msgs/msg/NormalizedRegionOfInterest2D"]
    assert types["/humans/bodies/p1/skeleton2d"] == ["hri_msgs/msg/Skeleton2D"]
    assert types["/humans/bodies/p1/joint_states"] == ["sensor_msgs/msg/JointState"]
    assert types["/humans/bodies/p1/cropped"] == ["sensor_msgs/msg/Image"]
    assert types["/humans/bodies/p1/urdf"] == ["std_msgs/msg/String"]


def test_who_leaves_is_off_the_list_at_once_and_the_topics_end_a_little_later(node: OutputsNode) -> None:
    heard = node.peer.listen(IdsList, "/humans/bodies/tracked")
    node.send(lambda: heard, "the list", people=[1, 2], t=10.0)
    node.peer.wait_until(lambda: len(bodies(node)) == 2, "two bodies")
    node.send(lambda: list(heard[-1][1].ids) == ["p1"], "the list of one", people=[1], t=11.0)
    node.settled()
    assert set(bodies(node)) == {"p1", "p2"}, "somebody hidden for a second keeps their topics"
    node.send(lambda: heard[-1][1].header.stamp.sec == 13, "the list", people=[1], t=13.0)
    node.peer.wait_until(lambda: set(bodies(node)) == {"p1"}, "the end of the second body's topics")
    assert node.parameters() == {"human_description_p1"}
    node.ask(delete=True)
    node.peer.wait_until(lambda: list(heard[-1][1].ids) == [] and not bodies(node), "the end of all bodies")
    node.peer.wait_until(lambda: not node.parameters(), "the end of all descriptions")


def test_time_that_goes_back_begins_new_bodies(node: OutputsNode) -> None:
    heard = node.peer.listen(IdsList, "/humans/bodies/tracked")
    node.send(lambda: heard, "the list", people=[1, 2], t=10.0)
    node.send(lambda: heard[-1][1].header.stamp.sec == 9, "the list", people=[3], t=9.0)
    node.peer.wait_until(lambda: set(bodies(node)) == {"p3"}, "the end of the bodies of the time before")


def test_cameras_share_one_list_and_their_ids_differ(node: OutputsNode) -> None:
    heard = node.peer.listen(IdsList, "/humans/bodies/tracked")
    node.send(lambda: heard, "the list", people=[1], t=10.0)
    node.send(lambda: len(heard[-1][1].ids) == 2, "both cameras' list", people=[1], t=10.0, camera="turned")
    assert set(heard[-1][1].ids) == {"p1", "p1_turned"}
    node.send(lambda: len(heard[-1][1].ids) == 1, "the other's list", people=[], t=10.5)
    assert list(heard[-1][1].ids) == ["p1_turned"]


@pytest.mark.parametrize("node", [("-p", "hri_id_prefix:=guest_")], indirect=True)
def test_ids_begin_as_the_parameter_says(node: OutputsNode) -> None:
    heard = node.peer.listen(IdsList, "/humans/bodies/tracked")
    node.send(lambda: heard, "the list", people=[4], t=1.0)
    assert list(heard[0][1].ids) == ["guest_4"]


@pytest.mark.parametrize("node", [("-p", "publish_hri:=false")], indirect=True)
def test_nothing_of_the_rep_is_there_where_it_is_switched_off(node: OutputsNode) -> None:
    frames = node.peer.listen(TFMessage, "/tf")
    node.send(lambda: frames, "frames", people=[1], t=1.0)
    node.send(lambda: transforms_of(frames)["person_1/nose"].header.stamp.sec == 2, "more frames", people=[1], t=2.0)
    assert all(name.startswith("person_1/") for name in transforms_of(frames))
    assert not [name for name, _ in node.peer.node.get_topic_names_and_types() if name.startswith("/humans")]
    node.process.wait_for("anything True")


# --- what a body's topics say -----------------------------------------------------------------------------------------


def test_roi_and_crop_are_the_persons_box(node: OutputsNode) -> None:
    regions = node.peer.listen(NormalizedRegionOfInterest2D, "/humans/bodies/p3/roi")
    crops = node.peer.listen(Image, "/humans/bodies/p3/cropped")
    node.send(lambda: regions and crops, "roi and cropped", people=[1, 3], t=2.0)
    pose, header = tracked(3, 2.0), result_of([], 2.0).image_header
    roi, crop = regions[0][1], crops[0][1]
    x, y, width, height = pose.box
    inside = (roi.xmin * 640 - 0.5, roi.ymin * 480 - 0.5, roi.xmax * 640 - 0.5, roi.ymax * 480 - 0.5)
    np.testing.assert_allclose(inside, (x, y, x + width, y + height), atol=1e-3)
    assert roi.c == pytest.approx(pose.score)
    assert roi.header == crop.header == header
    pixels = image_from_msg(crop)
    left, top = int(roi.xmin * 640), int(roi.ymin * 480)
    np.testing.assert_array_equal(pixels, IMAGE[top : top + crop.height, left : left + crop.width])
    assert abs(crop.width - width) <= 2
    assert abs(crop.height - height) <= 2


def test_skeleton2d_has_the_messages_order(node: OutputsNode) -> None:
    heard = node.peer.listen(Skeleton2D, "/humans/bodies/p2/skeleton2d")
    node.send(lambda: heard, "skeleton2d", people=[2], t=2.0)
    pose, message = tracked(2, 2.0), heard[0][1]
    assert message.header == result_of([], 2.0).image_header
    pixels = np.array([(point.x * 640 - 0.5, point.y * 480 - 0.5) for point in message.skeleton])
    for index, name in enumerate(SKELETON2D):
        if name != "neck":
            np.testing.assert_allclose(pixels[index], pose.joints2d[NAMES.index(name)], atol=1e-3)
    shoulders = pose.joints3d[[NAMES.index("left_shoulder"), NAMES.index("right_shoulder")]]
    np.testing.assert_allclose(pixels[1], CAMERA.project(shoulders.mean(0))[0], atol=1e-3)
    np.testing.assert_allclose([point.c for point in message.skeleton], pose.score, rtol=1e-6)


def test_points_that_cannot_be_had_or_lie_outside_have_no_confidence() -> None:
    result = result_of([1], 0.0)
    aside = replace(result.poses[0], joints3d=result.poses[0].joints3d - [5.0, 0, 0])
    points = skeletons2d(replace(result, poses=(aside,)))[0]
    assert not points[:, 2].any()
    assert (points[:, :2] >= 0).all()
    assert (points[:, 0] == 0).all(), "left of the image: its left edge"
    headless = [i for i, name in enumerate(NAMES) if name.split("_")[-1] not in ("nose", "eye", "ear")]
    part = replace(result.poses[0], joints3d=result.poses[0].joints3d[headless])
    partial = replace(result, skeleton=Skeleton(tuple(NAMES[i] for i in headless), ()), poses=(part,))
    known = skeletons2d(partial)[0][:, 2] > 0
    assert known.tolist() == [name.split("_")[-1] not in ("nose", "eye", "ear") for name in SKELETON2D]
    strange = replace(result, skeleton=Skeleton(("antenna",), ()), poses=(replace(part, joints3d=np.ones((1, 3))),))
    assert not skeletons2d(strange).any()
    behind = replace(result.poses[0], joints3d=-result.poses[0].joints3d)
    assert not skeletons2d(replace(result, poses=(behind,))).any()


@pytest.mark.parametrize("t", [2.0, 7.3])
def test_joint_states_put_the_urdfs_links_where_the_joints_are(node: OutputsNode, t: float) -> None:
    states = node.peer.listen(JointState, "/humans/bodies/p2/joint_states")
    frames = node.peer.listen(TFMessage, "/tf")
    node.send(lambda: states and "body_p2" in transforms_of(frames), "joint states", people=[1, 2], t=t)
    descriptions = node.peer.listen(String, "/humans/bodies/p2/urdf", latched())
    node.peer.wait_until(lambda: descriptions, "the URDF, though late")
    description = descriptions[-1][1].data
    assert node.description("human_description_p2") == description

    state = states[-1][1]
    assert {f"{name}_p2" for name in REP_JOINTS} <= set(state.name)
    assert state.header.stamp == result_of([], t).image_header.stamp
    robot = ElementTree.fromstring(description)
    assert {f"{name}_p2" for name in REP_LINKS} <= {link.get("name") for link in robot.iter("link")}
    moving = {joint.get("name") for joint in robot.iter("joint") if joint.get("type") != "fixed"}
    assert set(state.name) == moving

    transforms = transforms_of(frames)
    body = transforms["body_p2"]
    assert body.header == result_of([], t).image_header
    in_camera = poses_of(transforms, "p2", body.header.frame_id)
    T = in_camera["body_p2"]
    np.testing.assert_allclose(T, body_frame(tracked(2, t).joints3d[None], NAMES).T_cam_body[0], atol=1e-9)
    by_urdf = urdf_poses(description, dict(zip(state.name, state.position, strict=True)))
    off = errors({name: T @ pose for name, pose in by_urdf.items()}, "p2", 2, t)
    assert max(off.values()) < 0.03, off

    # Our own frames are those that a robot_state_publisher would publish.
    for name, pose in by_urdf.items():
        np.testing.assert_allclose(in_camera[name], T @ pose, atol=1e-5, err_msg=name)


def test_the_body_frame_lies_between_the_hips_x_forward_z_to_the_head(node: OutputsNode) -> None:
    frames = node.peer.listen(TFMessage, "/tf")
    node.send(lambda: "body_p1_turned" in transforms_of(frames), "frames", people=[1], t=1.0, camera="turned")
    transforms = transforms_of(frames)
    assert transforms["body_p1_turned"].header.frame_id == "turned_optical_frame", "REP-155: the sensor's frame"
    T = poses_of(transforms, "p1_turned", "turned_optical_frame")["body_p1_turned"]
    joints = dict(zip(NAMES, tracked(1, 1.0).joints3d, strict=True))
    np.testing.assert_allclose(T[:3, 3], (joints["left_hip"] + joints["right_hip"]) / 2)
    nose = T[:3, :3].T @ (joints["nose"] - T[:3, 3])
    left = T[:3, :3].T @ (joints["left_hip"] - T[:3, 3])
    assert nose[2] > 0.4, "z towards the head"
    assert nose[0] > 0.05, "x forward"
    assert left[1] > 0.05, "y to the left"


@pytest.mark.parametrize("node", [("-p", "publish_hri_links:=false")], indirect=True)
def test_links_are_left_to_a_robot_state_publisher_where_that_is_asked_for(node: OutputsNode) -> None:
    frames = node.peer.listen(TFMessage, "/tf")
    states = node.peer.listen(JointState, "/humans/bodies/p1/joint_states")
    node.send(lambda: states and "body_p1" in transforms_of(frames), "joint states", people=[1], t=1.0)
    found = {name for name in transforms_of(frames) if not name.startswith("person_")}
    assert found == {"body_p1"}


@pytest.mark.parametrize("node", [("-p", "hri_reference_joints:=true")], indirect=True)
def test_reference_joints_are_exactly_the_reps(node: OutputsNode) -> None:
    frames = node.peer.listen(TFMessage, "/tf")
    states = node.peer.listen(JointState, "/humans/bodies/p1/joint_states")
    node.send(lambda: states and "body_p1" in transforms_of(frames), "joint states", people=[1], t=1.0)
    assert set(states[0][1].name) == {f"{name}_p1" for name in REP_JOINTS}
    found = {name for name in transforms_of(frames) if not name.startswith("person_")}
    assert found == {f"{name}_p1" for name in REP_LINKS}


def test_it_ends_quietly_while_bodies_are_there(node: OutputsNode) -> None:
    heard = node.peer.listen(IdsList, "/humans/bodies/tracked")
    node.send(lambda: heard, "the list", people=[1, 2], t=1.0)
    assert node.process.interrupted() == 0, node.process.output
    assert "Traceback" not in node.process.output


def test_without_hri_msgs_the_rest_is_published_with_a_warning() -> None:
    with free_domain() as domain, outputs_node(domain, hidden="hri_msgs") as node:
        frames = node.peer.listen(TFMessage, "/tf")
        node.send(lambda: "person_1/nose" in transforms_of(frames), "frames", people=[1], t=1.0)
        assert not any(name.startswith("body_") for name in transforms_of(frames))
        node.process.wait_for("hri_msgs is not installed: install ros-.*-hri-msgs, or set publish_hri to false")
