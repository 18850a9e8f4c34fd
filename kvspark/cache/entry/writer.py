"""Rows on their way into entries: a window at a time, so that a store takes one while the next is sealed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone

import numpy as np
import numpy.typing as npt

from kvspark.cache.entry.format import EntryFormat
from kvspark.cache.key.key import StageKeys, is_erased
from kvspark.spec import Rows
from kvspark.store.windows import even_windows, windows_of

ERASED = "erased"
"""Counted by rows that were not stored because they had been erased."""

TOO_LARGE = "too_large"
"""Counted by rows whose entry would be above the limit, and was not stored."""


def sealed_windows(
    entry_format: EntryFormat,
    keys: StageKeys,
    digests: Sequence[bytes],
    columns: tuple[Rows, ...],
    *,
    cost_us: int,
    erased: frozenset[bytes],
    count: Callable[[Mapping[str, int]], None],
) -> Iterator[list[tuple[bytes, bytes]]]:
    """The entries of the rows, each window made when it is asked for; none of digests in `erased`.

    `count` is told of rows that have none.

    Raises:
        UsageError: the columns are not such as the stage has.
    """
    created_s = int(datetime.now(timezone.utc).timestamp())
    for place in _places(entry_format, digests, columns):
        some = digests[place]
        entries = entry_format.encode_many(
            some, [rows[place] for rows in columns], created_s=created_s, cost_us=cost_us
        )
        pairs = [
            (key, entry)
            for key, entry in zip(keys.of(some), entries, strict=True)
            if entry is not None
        ]
        if len(pairs) < len(entries):
            count({TOO_LARGE: len(entries) - len(pairs)})
        if erased:
            gone = set(keys.of([each for each in some if is_erased(each, erased)]))
            kept = [pair for pair in pairs if pair[0] not in gone]
            if len(kept) < len(pairs):
                count({ERASED: len(pairs) - len(kept)})
            pairs = kept
        if pairs:
            yield pairs


def _places(
    entry_format: EntryFormat, digests: Sequence[bytes], columns: Sequence[Rows]
) -> Iterator[slice]:
    """Where each window is; all rows in one where the columns have not as many, for the format to refuse."""
    count = len(digests)
    if any(len(rows) != count for rows in columns):
        return iter([slice(None)])
    if entry_format.is_fixed:
        return even_windows(count, entry_format.entry_bytes)
    return windows_of(
        sum((row_sizes(rows) for rows in columns), np.full(count, entry_format.entry_bytes))
    )


def row_sizes(rows: Rows) -> npt.NDArray[np.int64]:
    """Bytes of each row."""
    if isinstance(rows, np.ndarray):
        return np.full(len(rows), rows.nbytes // max(1, len(rows)))
    return np.fromiter((row.nbytes for row in rows), dtype=np.int64, count=len(rows))
