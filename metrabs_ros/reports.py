"""What a node says about frames that it cannot use: a sentence per kind of trouble, not one per frame."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable

from rclpy.impl.rcutils_logger import RcutilsLogger

from metrabs_ros.errors import InputError


class Reports:
    """Logs each kind of trouble at once and then at most every ``period_s``, with the count of what was held back."""

    def __init__(
        self, logger: RcutilsLogger, period_s: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._period_s = period_s
        self._clock = clock
        self._said_at: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def warning(self, kind: str, sentence: str) -> None:
        """A sentence of a ``kind`` that does not change with the numbers in it."""
        if (text := self._due(kind, sentence)) is not None:
            self._logger.warning(text)

    def input_error(self, error: InputError) -> None:
        """A warning with the error's sentence; its kind is the place that raised it."""
        self.warning(_origin(error), str(error))

    def failure(self, error: Exception) -> None:
        """An error with its traceback."""
        text = "".join(traceback.format_exception(error))
        if (due := self._due(_origin(error), f"This frame failed, going on with the next one: {text}")) is not None:
            self._logger.error(due)

    def _due(self, kind: str, text: str) -> str | None:
        now = self._clock()
        if now - self._said_at.get(kind, float("-inf")) < self._period_s:
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return None
        self._said_at[kind] = now
        more = self._held_back.pop(kind, 0)
        return f"{text} ({more} more since this was last said)" if more else text


def _origin(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else type(error).__name__
