"""How engines agree on a real video, and with themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("torch", reason="training/ needs torch: see requirements/training.txt")

from sheet_cells import cell

from demo.clip import clip_path
from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from metrabs_ros.frames import open_frames
from metrabs_ros.pose import Pose3D
from metrabs_ros.skeleton import Skeleton
from training import bones
from training.protocols import agreement, looks

K = np.array([[500.0, 0, 300], [0, 500, 240], [0, 0, 1]])


def test_an_engine_agrees_with_itself_on_a_real_video() -> None:
    engine = looks.engine_of("blazepose_full")
    with open_frames(clip_path()) as frames:
        camera = Camera.from_fov(55, frames.size)
        start = list(itertools.islice(frames, 13))
    sheet = agreement.evaluate({"itself": looks.pipeline_of(engine)}, looks.pipeline_of(engine), start, camera, every=4)
    assert cell(sheet, "itself", "people") >= 3
    assert cell(sheet, "itself", "agreed on") == 1
    # It looks at the box of the reference's pose, not at the square that led there: nearly the same crop.
    assert 0 < cell(sheet, "itself", "P-MPJPE") < cell(sheet, "itself", "MPJPE") < 0.1
    assert cell(sheet, "itself", "2D, of the box") < 0.03
    assert cell(sheet, "itself", "depth over the reference's") == pytest.approx(1, abs=0.07)
    assert cell(sheet, "the reference", "MPJPE") == 0
    assert cell(sheet, "itself", "P-MPJPE from its mirror image ↓") == pytest.approx(
        cell(sheet, "the reference", "P-MPJPE from its mirror image ↓")
    )
    assert 0 < cell(sheet, "itself", "P-MPJPE from its mirror image ↓") < 0.12
    assert 1.2 < cell(sheet, "itself", "height along the body") < 1.8


@pytest.mark.parametrize("sees_the_mirror", [True, False])
def test_a_pose_that_is_mirrored_with_its_picture_is_no_distance_away(sees_the_mirror: bool) -> None:
    camera = Camera(K, np.zeros(0), "plumb_bob", (640, 480))
    names = ("pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "neck")
    pose = np.random.default_rng(0).normal(0, 0.3, (6, 3)) + [0.5, 0, 4]
    image = np.zeros((480, 640, 3), np.uint8)
    image[:, :10] = 255

    class FakePipeline:
        skeleton = Skeleton(names, ())

        def estimate(self, image_rgb: np.ndarray, seen_by: Camera, boxes: np.ndarray) -> list[Pose3D]:
            is_mirrored = image_rgb[0, -1, 0] == 255
            assert seen_by.K[0, 2] == (339 if is_mirrored else 300)
            np.testing.assert_array_equal(boxes, [[639 - 350 - 100 if is_mirrored else 350, 50, 100, 200]])
            own = pose[self.skeleton.mirror] * [-1, 1, 1] if is_mirrored and sees_the_mirror else pose
            return [Pose3D(boxes[0], 1.0, own, own[:, :2], own[:, 0])]

    boxes = np.array([[350.0, 50, 100, 200]])
    look = agreement.Look(image, camera, boxes)
    shown, in_mirror = (agreement._at_boxes(FakePipeline(), one, names, "fake") for one in (look, look.mirrored()))
    distance = agreement._from_mirror(shown, agreement._mirrored_back(in_mirror, names))
    assert distance < 1e-9 if sees_the_mirror else distance > 0.1


def test_bones_that_keep_their_lengths_have_no_spread() -> None:
    shared = tuple(f"{side}_{name}" for side in ("left", "right") for name in agreement._HEIGHT + ("elbow", "wrist"))
    rng = np.random.default_rng(0)
    still = np.repeat(rng.normal(0, 1, (1, len(shared), 3)), 4, axis=0)
    assert bones.spread(still, np.array([1, 1, 2, 2]), shared) == pytest.approx(0, abs=1e-9)
    grown = still * np.array([1, 1.2, 1, 1])[:, None, None]
    assert bones.spread(grown, np.array([1, 1, 2, 2]), shared) == pytest.approx(0.5 * 0.1 / 1.1)


def test_a_lens_with_distortion_is_refused() -> None:
    camera = Camera(K, np.array([0.1, 0, 0, 0]), "plumb_bob", (640, 480))
    with pytest.raises(InputError, match="undistort them first"):
        agreement.evaluate({}, looks.pipeline_of(looks.engine_of("blazepose_full")), [], camera)
