"""Spinning a node so that a signal always ends it."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

_LONGEST_WAIT_S = 0.2


def spin(node: Node, executor: SingleThreadedExecutor, is_done: Callable[[], bool] = lambda: False) -> None:
    """Runs the node's callbacks until ``is_done()`` or the end of its context (SIGINT, SIGTERM).

    rclpy's own spin() can wait for ever: a signal first wakes it and then shuts its context down, and it may look at
    the context in between. Hence a wait with an end.
    """
    while node.context.ok() and not is_done():
        executor.spin_once(timeout_sec=_LONGEST_WAIT_S)
