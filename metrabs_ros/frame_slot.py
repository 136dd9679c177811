"""Which frame is worked on: images meet their camera_info, and only the newest pair waits."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, Image

Item = TypeVar("Item")


class NewestSlot(Generic[Item]):
    """A slot for one item between threads: a newer one replaces what still waits, which counts as dropped."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._closed = False
        self.dropped = 0

    def put(self, item: Item) -> None:
        with self._changed:
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify()

    def take(self) -> Item | None:
        """Waits for an item; None once the slot is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return None if self._closed else item

    def clear(self) -> None:
        with self._changed:
            self._item = None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class StampPairing:
    """Images and camera_infos of the same stamp, whichever comes first; at most ``depth`` of each wait.

    Once a pair is made, what came before it no longer waits: a pair older than the last one is never made.
    """

    def __init__(self, depth: int = 8) -> None:
        self._depth = depth
        self._images: OrderedDict[tuple[int, int], Image] = OrderedDict()
        self._infos: OrderedDict[tuple[int, int], CameraInfo] = OrderedDict()

    def with_image(self, image: Image) -> tuple[Image, CameraInfo] | None:
        """The pair that ``image`` completes, if it does."""
        key = _key(image.header.stamp)
        if key not in self._infos:
            _kept(self._images, key, image, self._depth)
            return None
        info = _taken(self._infos, key)
        self._images.clear()
        return image, info

    def with_info(self, info: CameraInfo) -> tuple[Image, CameraInfo] | None:
        """The pair that ``info`` completes, if it does."""
        key = _key(info.header.stamp)
        if key not in self._images:
            _kept(self._infos, key, info, self._depth)
            return None
        image = _taken(self._images, key)
        self._infos.clear()
        return image, info


def _key(stamp: Time) -> tuple[int, int]:
    return stamp.sec, stamp.nanosec


def _kept(waiting: OrderedDict[tuple[int, int], Item], key: tuple[int, int], item: Item, depth: int) -> None:
    waiting[key] = item
    while len(waiting) > depth:
        waiting.popitem(last=False)


def _taken(waiting: OrderedDict[tuple[int, int], Item], key: tuple[int, int]) -> Item:
    """The item at ``key``, which leaves together with all that came before it."""
    while True:
        oldest, item = waiting.popitem(last=False)
        if oldest == key:
            return item
