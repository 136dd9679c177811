"""Memory that images have left stays in the process, for the next ones."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

# glibc's names, malloc.h: blocks of this size and more are mapped one by one (33,554,432 is the most it takes), and
# free memory at a heap's end is given back beyond this.
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_MAPPED_FROM = 32 << 20
_KEPT = 256 << 20


def keep_freed_memory() -> None:
    """What is freed is no longer given back to the system at once, where the C library is glibc.

    Each copy of an image of several megabytes is otherwise mapped, filled with zeros page by page, and unmapped: 60,000
    page faults a second for a publisher of 1768x994 at 15 Hz, a third of its time. Costs at most 256 MiB a thread.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)


def give_freed_memory_back() -> None:
    """What has been freed goes to the system all the same, as where the next image may be long in coming."""
    malloc_trim = _of_glibc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of glibc; None where the C library is another one, as on Alpine Linux (musl)."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
