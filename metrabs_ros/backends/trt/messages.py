"""What TensorRT says: its errors are kept for our sentences, its warnings go to the log."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import threading
from collections.abc import Iterator
from typing import Any

from metrabs_ros.backends.trt.device import DeviceError, OutOfMemoryError

_LOG = logging.getLogger(__name__)

# In the words of TensorRT and of CUDA. An "illegal memory access" is no full GPU.
_FULL = re.compile(r"out ?of ?memory|enough free memory|insufficient memory|memory allocation (of|fail)", re.IGNORECASE)


class Said:
    """The errors of some calls, in lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @property
    def reason(self) -> str:
        """The first line says why, those that follow say where; "" where there is none."""
        return self.lines[0] if self.lines else ""

    @property
    def is_full(self) -> bool:
        """Whether the GPU had no room."""
        return any(_FULL.search(line) for line in self.lines)

    def error(self, failure: str) -> DeviceError:
        """To be raised: OutOfMemoryError where the GPU had no room."""
        kind = OutOfMemoryError if self.is_full else DeviceError
        return kind(f"{failure} ({self.reason or 'no reason given'})")


@functools.cache
def logger_of(trt: Any) -> Any:
    """The process's trt.ILogger: within ``with logger.listening() as said`` the calls of this thread tell ``said``.

    There is one and it stays: of several TensorRT keeps the first, and does not keep it alive.
    """

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self._listeners: list[tuple[int, Said]] = []

        @contextlib.contextmanager
        def listening(self) -> Iterator[Said]:
            listener = (threading.get_ident(), Said())
            self._listeners.append(listener)
            try:
                yield listener[1]
            finally:
                self._listeners.remove(listener)

        def log(self, severity: Any, text: str) -> None:
            line = " ".join(text.split())
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self._tell(line)
            elif severity == trt.ILogger.WARNING:
                _LOG.info("%s", line)

        def _tell(self, line: str) -> None:
            here, listeners = threading.get_ident(), list(self._listeners)
            # What a thread of TensorRT's own says may be of anybody's call.
            said = [each for thread, each in listeners if thread == here] or [each for _, each in listeners]
            for each in said:
                each.lines.append(line)
            if not said:
                _LOG.warning("TensorRT: %s", line)

    return Logger()
