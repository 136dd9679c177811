"""Which frames are worked on."""

from __future__ import annotations

import threading
import time

import pytest
from ros_support import header_at
from std_msgs.msg import Header

from metrabs_ros.frame_slot import FrameSlots, StampMatching

pytestmark = pytest.mark.ros


class Message:
    def __init__(self, stamp_s: float) -> None:
        self.header: Header = header_at(stamp_s)
        self.stamp_s = stamp_s


# --- messages of one stamp --------------------------------------------------------------------------------------------


def test_a_set_is_whole_whichever_message_comes_last() -> None:
    for order in (("image", "info", "boxes"), ("boxes", "image", "info"), ("info", "boxes", "image")):
        matching = StampMatching(["image", "info", "boxes"])
        messages = {kind: Message(1.0) for kind in order}
        sets = [matching.with_message(kind, messages[kind], 1.0) for kind in order]
        assert sets[:2] == [None, None]
        assert sets[2] == messages


def test_one_kind_needs_no_other() -> None:
    message = Message(5.0)
    assert StampMatching(["image"]).with_message("image", message, 0.0) == {"image": message}


def test_a_set_older_than_the_last_one_is_never_made() -> None:
    matching = StampMatching(["image", "boxes"])
    for stamp in (1.0, 1.1, 1.2):
        assert matching.with_message("image", Message(stamp), 1.0) is None
    assert matching.with_message("boxes", Message(1.1), 1.0) is not None, "the detector left one out"
    assert matching.with_message("boxes", Message(1.0), 1.0) is None
    assert matching.with_message("boxes", Message(1.2), 1.0) is not None
    assert matching.given_up("image") == 0, "who was overtaken did not wait in vain"
    assert (matching.overtaken("image"), matching.overtaken("boxes")) == (1, 1)


def test_waiting_ends_with_time_and_is_counted() -> None:
    matching = StampMatching(["image", "boxes"])
    matching.with_message("image", Message(1.0), 0.5)
    matching.with_message("image", Message(1.4), 0.5)
    assert matching.lacking("image") == ["boxes"]
    matching.with_message("image", Message(1.6), 0.5)
    assert matching.given_up("image") == 1
    assert matching.with_message("boxes", Message(1.0), 0.5) is None
    assert matching.with_message("boxes", Message(1.4), 0.5) is not None


def test_waiting_has_a_bound_in_messages() -> None:
    matching = StampMatching(["image", "boxes"], depth=4)
    for index in range(10):
        matching.with_message("image", Message(index * 1e-3), 1e3)
    assert matching.given_up("image") == 6
    assert matching.with_message("boxes", Message(5e-3), 1e3) is None
    assert matching.with_message("boxes", Message(6e-3), 1e3) is not None


def test_after_time_went_back_sets_are_made_again() -> None:
    matching = StampMatching(["image", "boxes"])
    matching.with_message("image", Message(100.0), 0.5)
    matching.with_message("boxes", Message(101.0), 0.5)
    assert matching.with_message("image", Message(1.0), 0.5) is None
    whole = matching.with_message("boxes", Message(1.0), 0.5)
    assert whole is not None
    assert whole["image"].stamp_s == 1.0


def test_what_was_under_way_when_time_went_back_still_meets() -> None:
    """Topics are not in step: the image after the leap may come before the boxes of the one before it."""
    matching = StampMatching(["image", "boxes"])
    matching.with_message("image", Message(100.0), 0.5)
    matching.with_message("image", Message(1.0), 0.5)
    assert matching.with_message("boxes", Message(100.0), 0.5) is not None
    assert matching.with_message("boxes", Message(1.0), 0.5) is not None
    assert matching.given_up("image") == 0


def test_a_stamp_that_repeats_replaces_its_message() -> None:
    matching = StampMatching(["image", "boxes"])
    first, second = Message(1.0), Message(1.0)
    matching.with_message("image", first, 1.0)
    matching.with_message("image", second, 1.0)
    whole = matching.with_message("boxes", Message(1.0), 1.0)
    assert whole is not None
    assert whole["image"] is second


# --- slots ------------------------------------------------------------------------------------------------------------


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_newest_frame_of_each_camera_is_taken_and_older_ones_are_counted() -> None:
    slots: FrameSlots[str] = FrameSlots(2)
    for camera, item in [(0, "a"), (0, "b"), (1, "c"), (0, "d")]:
        slots.put(camera, item)
    assert slots.take(0.0) == {0: "d", 1: "c"}
    assert (slots.dropped(0), slots.dropped(1)) == (2, 0)


def test_a_frame_waits_for_the_other_camera_but_no_longer_than_told() -> None:
    slots: FrameSlots[str] = FrameSlots(2)
    slots.put(0, "a")
    slots.put(1, "b")
    slots.take(10.0)
    slots.put(0, "c")
    timer = threading.Timer(0.05, slots.put, (1, "d"))
    timer.start()
    assert slots.take(30.0) == {0: "c", 1: "d"}
    timer.join()
    slots.put(0, "e")
    start = time.monotonic()
    assert slots.take(0.1) == {0: "e"}
    assert 0.09 < time.monotonic() - start < 0.9


def test_a_frame_that_waited_while_others_were_worked_on_does_not_wait_again() -> None:
    clock = FakeClock()
    slots: FrameSlots[str] = FrameSlots(2, clock)
    slots.put(1, "before")
    slots.take(0.0)
    slots.put(0, "a")
    clock.now += 0.5
    start = time.monotonic()
    assert slots.take(0.4) == {0: "a"}
    assert time.monotonic() - start < 0.3


def test_a_camera_that_fell_silent_holds_nobody() -> None:
    clock = FakeClock()
    slots: FrameSlots[str] = FrameSlots(3, clock)
    for camera in range(3):
        slots.put(camera, "first")
    slots.take(0.0)
    clock.now += 1.5
    slots.put(0, "a")
    start = time.monotonic()
    assert slots.take(30.0) == {0: "a"}, "cameras 1 and 2 gave nothing for 1.5 s"
    assert time.monotonic() - start < 5


def test_closing_wakes_who_waits_and_clearing_forgets() -> None:
    slots: FrameSlots[str] = FrameSlots(1)
    slots.put(0, "a")
    slots.clear()
    timer = threading.Timer(0.05, slots.close)
    timer.start()
    assert slots.take(0.0) is None
    timer.join()
    assert slots.dropped(0) == 0
