"""How many entries one exchange with a store holds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

WINDOW_KEYS = 512
WINDOW_BYTES = 2**20 + 2**16
"""A MiB of tensors with their headers: 16 values of 64 KB, not 15. Replies of 0.1 to 1 MiB are the fastest, and
larger ones make other clients wait."""


def rows_at_once(each_bytes: int) -> int:
    """How many entries of `each_bytes` make a window."""
    return max(1, min(WINDOW_KEYS, WINDOW_BYTES // max(1, each_bytes)))


def even_windows(count: int, each_bytes: int) -> Iterator[slice]:
    """The windows of `count` entries of `each_bytes`, in their order."""
    step = rows_at_once(each_bytes)
    for at in range(0, count, step):
        yield slice(at, min(at + step, count))


def windows_of(sizes: npt.NDArray[np.int64]) -> Iterator[slice]:
    """The windows of entries of so many bytes each, in their order."""
    ends = np.cumsum(sizes)
    at = 0
    while at < len(sizes):
        most = (int(ends[at - 1]) if at else 0) + WINDOW_BYTES
        fit = int(np.searchsorted(ends, most, side="right"))
        stop = min(max(fit, at + 1), at + WINDOW_KEYS, len(sizes))
        yield slice(at, stop)
        at = stop
