"""What was opened is closed where something after it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def closed_on_failure(close: Callable[[], object]) -> Iterator[None]:
    """Calls ``close`` where the body raises, whatever it is."""
    with ExitStack() as on_failure:
        on_failure.callback(close)
        yield
        on_failure.pop_all()
