"""What TensorRT says: its errors are kept for our sentences, its warnings go to the log."""

from __future__ import annotations

import logging
from typing import Any

_LOG = logging.getLogger(__name__)


def new_logger(trt: Any) -> Any:
    """A trt.ILogger with ``last_error``, a line or ""."""

    class Messages(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self.last_error = ""

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                # The first one says why, those that follow say where.
                self.last_error = self.last_error or " ".join(text.split())
            elif severity == trt.ILogger.WARNING:
                _LOG.info("%s", text)

    return Messages()
