"""What glibc does with memory that a worker has freed: kept for torch, returned when it was a copy of weights.

Source: mallopt(3), malloc_trim(3).
"""

from __future__ import annotations

import ctypes
import sys

_GIB = 1 << 30
# glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> None:
    """Makes glibc keep what torch frees, before torch is there.

    By default each large tensor is mapped and unmapped again, and the kernel clears its pages every
    time: 10 % of the first seconds of a CPU run (MiniLM, 2 cores).
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _GIB)
        libc.mallopt(_M_TRIM_THRESHOLD, _GIB)


def return_freed_memory() -> None:
    """Gives all that is free now back to the system: the weights that went through to a file."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
