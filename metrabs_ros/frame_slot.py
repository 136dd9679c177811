"""Which frames are worked on: messages of one stamp meet, and only the newest frame of each camera waits."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from builtin_interfaces.msg import Time

Item = TypeVar("Item")

# A camera that gave nothing for so long is not waited for.
_SILENT_S = 1.0


class FrameSlots(Generic[Item]):
    """A slot per camera between threads: a newer item replaces the one that still waits, which counts as dropped."""

    def __init__(self, cameras: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._changed = threading.Condition()
        self._clock = clock
        self._items: list[Item | None] = [None] * cameras
        self._put_at = [float("-inf")] * cameras
        self._dropped = [0] * cameras
        self._closed = False

    def put(self, camera: int, item: Item) -> None:
        with self._changed:
            self._dropped[camera] += self._items[camera] is not None
            self._items[camera] = item
            self._put_at[camera] = self._clock()
            self._changed.notify()

    def take(self, wait_s: float = 0.0) -> dict[int, Item] | None:
        """Waits for an item, and up to ``wait_s`` from when it came for those of the other cameras that are not silent.

        None once the slots are closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or any(item is not None for item in self._items))
            while not self._closed and self._others_to_come():
                came_at = min(at for at, item in zip(self._put_at, self._items, strict=True) if item is not None)
                left_s = came_at + wait_s - self._clock()
                if left_s <= 0:
                    break
                self._changed.wait(left_s)
            if self._closed:
                return None
            taken = {camera: item for camera, item in enumerate(self._items) if item is not None}
            self._items = [None] * len(self._items)
            return taken

    def dropped(self, camera: int) -> int:
        return self._dropped[camera]

    def clear(self) -> None:
        with self._changed:
            self._items = [None] * len(self._items)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _others_to_come(self) -> bool:
        now = self._clock()
        return any(
            item is None and now - at < _SILENT_S for item, at in zip(self._items, self._put_at, strict=True)
        ) and any(item is not None for item in self._items)


class StampMatching:
    """Messages of several kinds that carry the same stamp, whichever comes first.

    Once a set is whole, what came before it no longer waits: a set older than the last one is never made.
    """

    def __init__(self, kinds: Sequence[str], depth: int = 32) -> None:
        """At most ``depth`` messages of each kind wait."""
        self._depth = depth
        self._waiting: dict[str, OrderedDict[int, Any]] = {kind: OrderedDict() for kind in kinds}
        self._given_up = dict.fromkeys(kinds, 0)
        self._overtaken = dict.fromkeys(kinds, 0)

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self._waiting)

    def given_up(self, kind: str) -> int:
        """How many messages of a kind waited in vain; those that a whole set overtook are not counted."""
        return self._given_up[kind]

    def overtaken(self, kind: str) -> int:
        """How many messages of a kind still waited when a newer set was whole, as of images that a slow detector left
        out."""
        return self._overtaken[kind]

    def lacking(self, kind: str) -> list[str]:
        """What the message of a kind that waits longest still waits for."""
        oldest = next(iter(self._waiting[kind]), None)
        return [other for other, waiting in self._waiting.items() if oldest is not None and oldest not in waiting]

    def with_message(self, kind: str, message: Any, wait_s: float) -> dict[str, Any] | None:
        """The set that ``message`` completes, if it does; else those of its kind that are more than ``wait_s`` s older
        no longer wait.

        Where time went back, those before wait on: what belongs to them may be under way on another topic.
        """
        key = _nanoseconds(message.header.stamp)
        waiting = self._waiting[kind]
        waiting.pop(key, None)
        waiting[key] = message
        if all(key in others for others in self._waiting.values()):
            return {each: self._taken(each, key) for each in self._waiting}
        late = [other for other in waiting if key - other > wait_s * 1e9]
        for other in late:
            del waiting[other]
        too_many = list(waiting)[: -self._depth]
        for other in too_many:
            del waiting[other]
        self._given_up[kind] += len(late) + len(too_many)
        return None

    def _taken(self, kind: str, key: int) -> Any:
        """The message at ``key``, which leaves together with all that came before it."""
        waiting = self._waiting[kind]
        while True:
            oldest, message = waiting.popitem(last=False)
            if oldest == key:
                return message
            self._overtaken[kind] += 1


def _nanoseconds(stamp: Time) -> int:
    return stamp.sec * 10**9 + stamp.nanosec
