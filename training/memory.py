"""What the C library does with memory that was freed."""

from __future__ import annotations

import contextlib
import ctypes

# glibc's names in malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> None:
    """On CPUs, glibc would hand every activation back to the kernel and fetch it again: half of a step's time."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
