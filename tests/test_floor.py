"""People on a floor: as large and as far as their feet show, frame after frame."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrabs_ros.camera import Camera
from metrabs_ros.errors import InputError
from metrabs_ros.floor import Standing
from metrabs_ros.model_spec import find_spec, load_spec
from metrabs_ros.pose import Pose3D, TrackedPose
from metrabs_ros.skeleton import Skeleton

NAMES = ("pelvis", "head_top", *(f"{side}_{name}" for name in ("knee", "heel", "foot") for side in ("left", "right")))
BODY = Skeleton(NAMES, ())
CAMERA = Camera.from_fov(80, (1280, 960))
DISTANCE_ERROR = 0.11
# Metres above the floor, for somebody of 1.7 m.
STANDING = np.array(
    [[0, 0, 0.95], [0, 0, 1.7], [-0.1, 0, 0.5], [0.1, 0, 0.5], [-0.1, 0.1, 0.053], [0.1, 0.1, 0.053],
     [-0.1, -0.1, 0.026], [0.1, -0.1, 0.026]]
)  # fmt: skip


class Ground(NamedTuple):
    """What people stand on, as a camera sees it."""

    up: np.ndarray
    camera_height: float

    def standing(self, skeleton: Skeleton = BODY) -> Standing:
        """Nobody yet."""
        standing = Standing(skeleton, DISTANCE_ERROR)
        standing.camera_height = self.camera_height
        return standing


def floor(height: float = 1.4, tilt_deg: float = 0.0, roll_deg: float = 0.0) -> Ground:
    tilt, roll = np.radians([tilt_deg, roll_deg])
    up = np.array([np.sin(roll) * np.cos(tilt), -np.cos(roll) * np.cos(tilt), -np.sin(tilt)])
    return Ground(up, height)


def person(
    ground: Ground, distance: float = 4.0, size: float = 1.0, rise: float = 0.0, track_id: int = 1
) -> TrackedPose:
    """Somebody who stands ``distance`` m ahead and ``rise`` m above the floor, taken to be 1 / ``size`` as large as
    they are, and so as near."""
    ahead = np.array([0.0, 0, 1]) - ground.up[2] * ground.up
    ahead /= np.linalg.norm(ahead)
    sideways = np.cross(ground.up, ahead)
    axes = np.stack([sideways, -ahead, ground.up])
    true = (STANDING + [0, 0, rise]) @ axes + distance * ahead - ground.camera_height * ground.up
    seen = true / size
    uncertainty = np.hypot(0.05, DISTANCE_ERROR * np.linalg.norm(seen, axis=-1))
    return TrackedPose(np.zeros(4), 1.0, seen, CAMERA.project(seen)[0], uncertainty, track_id)


def size_of(before: Pose3D, after: Pose3D) -> float:
    factors = np.linalg.norm(after.joints3d, axis=-1) / np.linalg.norm(before.joints3d, axis=-1)
    np.testing.assert_allclose(factors, factors[0])
    return float(factors[0])


@given(st.floats(0.75, 1.35), st.floats(2.5, 6.0), st.floats(1.0, 2.5), st.floats(-5, 25), st.floats(-30, 30))
def test_feet_on_the_floor_show_the_size_and_the_picture_stays(
    size: float, distance: float, height: float, tilt: float, roll: float
) -> None:
    ground = floor(height, tilt, roll)
    seen = person(ground, distance, size)
    if not CAMERA.contains(seen.joints2d[4:]).any():
        return
    (placed,) = ground.standing().placed_once([seen], CAMERA, ground.up)
    # A picture does not outweigh what is known of people altogether: far away the floor is seen at a shallow angle.
    assert abs(np.log(size_of(seen, placed) / size)) <= 0.45 * abs(np.log(size)) + 1e-6
    np.testing.assert_allclose(CAMERA.project(placed.joints3d)[0], seen.joints2d, atol=1e-6)


def test_what_is_seen_often_is_believed_and_less_uncertain() -> None:
    ground = floor()
    standing = ground.standing()
    seen = person(ground, size=1.2)
    found = [standing.placed([seen], CAMERA, ground.up, i / 15)[0] for i in range(15)]
    errors = [abs(np.log(size_of(seen, pose) / 1.2)) for pose in found]
    # Of a fifth a seventh remains: the floor's own errors last.
    assert np.log(1.2) / 8 < errors[-1] < np.log(1.2) / 6 < errors[0] < np.log(1.2) / 4
    assert (found[-1].uncertainty < 0.7 * 1.2 * seen.uncertainty).all()
    assert (found[-1].uncertainty > 0.05).all()


def test_a_size_holds_while_feet_are_hidden_and_for_nobody_else() -> None:
    ground = floor()
    standing = ground.standing()
    seen, near = person(ground, size=1.2), person(ground, distance=1.0, size=1.2)
    assert not CAMERA.contains(near.joints2d[4:]).any()
    for i in range(10):
        standing.placed([seen], CAMERA, ground.up, i / 15)
    other = person(ground, distance=1.0, size=1.2, track_id=2)
    known, unknown = standing.placed([near, other], CAMERA, ground.up, 1.0)
    assert 1.14 < size_of(near, known) < 1.2
    np.testing.assert_array_equal(unknown.joints3d, other.joints3d)
    np.testing.assert_allclose(unknown.uncertainty, other.uncertainty)
    standing.reset()
    (anew,) = standing.placed([near], CAMERA, ground.up, 1.1)
    assert size_of(near, anew) == 1


def test_who_jumps_is_not_taken_for_a_giant() -> None:
    ground = floor()
    standing = ground.standing()
    for i in range(10):
        standing.placed([person(ground)], CAMERA, ground.up, i / 15)
    for i in range(10, 16):
        seen = person(ground, rise=0.45)
        (placed,) = standing.placed([seen], CAMERA, ground.up, i / 15)
        assert size_of(seen, placed) == pytest.approx(1, abs=0.02)


def test_who_was_taken_wrongly_is_put_right_within_two_seconds() -> None:
    """Feet behind a table are guessed; once they are seen, what they show is far from what is known."""
    ground = floor()
    standing = ground.standing()
    for i in range(15):
        standing.placed([person(ground, size=1.0, rise=0.3)], CAMERA, ground.up, i / 15)
    seen = person(ground)
    for i in range(15, 45):
        (placed,) = standing.placed([seen], CAMERA, ground.up, i / 15)
    assert size_of(seen, placed) == pytest.approx(1, abs=0.02)


def test_who_was_taken_for_a_child_is_grown_up_within_seconds() -> None:
    """Off by more than the filter expects: it holds for a while, and then what is seen all the time is believed."""
    ground = floor()
    standing = ground.standing()
    standing.placed([person(ground, size=0.65)], CAMERA, ground.up, 0.0)
    seen, sizes = person(ground, size=1.1), []
    for i in range(1, 90):
        (placed,) = standing.placed([seen], CAMERA, ground.up, i / 15)
        sizes.append(size_of(seen, placed))
    assert max(sizes[:15]) < 0.85
    assert sizes[-1] == pytest.approx(1.1, abs=0.05)


def test_feet_that_jump_from_frame_to_frame_are_believed_less() -> None:
    """What they show is shrunk more towards what the network takes people to be."""
    rng = np.random.default_rng(0)
    ground, shares, uncertainty = floor(), [], []
    for scatter in (0.0, 0.12):
        standing, shown, said = ground.standing(), [], []
        for i in range(300):
            seen = person(ground, size=1.2 * float(np.exp(rng.normal(0, scatter))))
            (placed,) = standing.placed([seen], CAMERA, ground.up, i / 15)
            shown.append(np.log(size_of(seen, placed)))
            said.append(placed.uncertainty[0])
        shares.append(np.mean(shown[30:]) / np.log(1.2))
        uncertainty.append(np.mean(said[30:]))
    assert 0.4 < shares[1] < shares[0] - 0.1
    assert uncertainty[1] > uncertainty[0]


@pytest.mark.parametrize("height", [0.01, 0.3])
def test_a_camera_near_the_floor_hardly_tells_anything(height: float) -> None:
    ground = floor(height)
    seen = person(ground, size=1.3)
    (placed,) = ground.standing().placed_once([seen], CAMERA, ground.up)
    assert 1 <= size_of(seen, placed) < 1.2


def test_feet_above_the_horizon_are_on_no_floor() -> None:
    ground = floor(1.4)
    seen = person(ground, rise=2.0)
    (placed,) = ground.standing().placed_once([seen], CAMERA, ground.up)
    np.testing.assert_array_equal(placed.joints3d, seen.joints3d)
    assert ground.standing().placed([], CAMERA, ground.up, 0.0) == []


def test_uncertainty_that_is_unknown_stays_unknown() -> None:
    ground = floor()
    seen = person(ground, size=1.2)
    seen.uncertainty[:] = np.nan
    (placed,) = ground.standing().placed_once([seen], CAMERA, ground.up)
    assert size_of(seen, placed) > 1.1
    assert np.isnan(placed.uncertainty).all()


@pytest.mark.parametrize("engine", ["metrabs_base", "blazepose_full"])
def test_the_engines_have_feet(engine: str) -> None:
    Standing(load_spec(find_spec(engine)).skeleton, 0.1).check()


def test_ankles_will_do_and_without_them_it_is_said() -> None:
    ankles = Skeleton(("left_ankle", "right_ankle"), ())
    ground = floor()
    feet = person(ground, size=1.2)
    joints3d = feet.joints3d[4:6] + (0.095 - 0.053) / 1.2 * ground.up
    seen = TrackedPose(feet.box, 1.0, joints3d, CAMERA.project(joints3d)[0], feet.uncertainty[4:6], 1)
    (placed,) = ground.standing(ankles).placed_once([seen], CAMERA, ground.up)
    assert 1.14 < size_of(seen, placed) < 1.2
    with pytest.raises(InputError, match="need an engine whose joints include feet, heels or ankles"):
        Standing(Skeleton(("nose",), ()), 0.1).check()
