"""A stage's cache that is left alone while its `Worth` says that it costs more than it saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import numpy as np

from kvspark.cache.stage.stage_cache import Digester, Lookup, Reader, StageCache, Writer, joined
from kvspark.cache.stage.worth import FEW_ROWS, Worth
from kvspark.fingerprint import DIGEST_BYTES
from kvspark.spec import Rows
from kvspark.store.windows import WINDOW_KEYS

_ASKED_BACK = 32
"""Rows of an insert that are looked up before a later one: 0.2 ms."""

_EARLY = 4
"""Inserts each of which is asked back: of a first batch two small ones at once, and the rest when a while has passed."""

_LATER = 16
"""Inserts between two such look-ups; the first ones are closer together."""


def watched(cache: StageCache, worth: Worth | None) -> StageCache:
    """`cache`, left alone while `worth` says so; without it, as it is, and so where workers lease its rows."""
    if worth is None or cache.leases is not None:
        return cache
    return replace(
        cache,
        digester=_WatchedDigester(cache.digester, worth),
        reader=_WatchedReader(cache.reader, worth),
        writer=_WatchedWriter(cache.writer, cache.reader, worth),
        watch=worth,
    )


@final
class _WatchedDigester:
    """Names rows by their digests, and where the stage rests by themselves: hashing takes as long as a small stage."""

    def __init__(self, digester: Digester, worth: Worth) -> None:
        self._digester = digester
        self._worth = worth

    def of(self, rows: Sequence[bytes], subjects: Sequence[bytes] | None = None) -> list[bytes]:
        """A name for each row, equal for equal rows only."""
        if not self._worth.rests(len(rows)):
            started = self._worth.clock()
            digests = self._digester.of(rows, subjects)
            self._worth.hashed(self._worth.clock() - started, rows=len(rows))
            return digests
        if subjects is None:
            return [_undigested(row) for row in rows]
        pairs = zip(subjects, rows, strict=True)
        return [_undigested(len(who).to_bytes(8, "little") + who + row) for who, row in pairs]


def _undigested(row: bytes) -> bytes:
    """A name of `row` that is no digest: it has another length. Its end tells rows of two lengths apart."""
    return row + b"\0" if len(row) != DIGEST_BYTES - 1 else row + b"\1\1"


def _are_digests(names: Sequence[bytes]) -> bool:
    """False if some rows were named while the stage rested; they may meet others in one window."""
    return all(len(name) == DIGEST_BYTES for name in names)


def _pieces(count: int, *, is_known: bool) -> list[slice]:
    """The pieces of `count` rows that are asked for one after the other: two small ones tell what the rest will cost."""
    if is_known or count <= FEW_ROWS:
        return [slice(None)]
    return [
        slice(0, WINDOW_KEYS),
        slice(WINDOW_KEYS, 2 * WINDOW_KEYS),
        slice(2 * WINDOW_KEYS, None),
    ]


@final
class _WatchedReader:
    """Looks rows up where that pays."""

    def __init__(self, reader: Reader, worth: Worth) -> None:
        self._reader = reader
        self._worth = worth

    def lookup(self, digests: Sequence[bytes]) -> Lookup:
        """What is known of the digests."""
        pieces = _pieces(len(digests), is_known=self._worth.knows_lookups)
        return joined([self._lookup(digests[piece]) for piece in pieces])

    def _lookup(self, digests: Sequence[bytes]) -> Lookup:
        if self._worth.rests(len(digests)) or not _are_digests(digests):
            nothing = self._reader.lookup([])
            found = np.zeros(len(digests), dtype=bool)
            return replace(nothing, found=found, rested=len(digests))
        started = self._worth.clock()
        lookup = self._reader.lookup(digests)
        self._worth.looked_up(
            self._worth.clock() - started,
            rows=len(digests),
            size_bytes=lookup.size_bytes,
            is_answered=lookup.is_answered,
            hits=int(lookup.found.sum()),
            saved_s=lookup.saved_us / 1e6,
        )
        return lookup


@final
class _WatchedWriter:
    """Inserts rows where that pays."""

    def __init__(self, writer: Writer, reader: Reader, worth: Worth) -> None:
        self._writer = writer
        self._reader = reader
        self._worth = worth
        self._inserts = 0
        self._inserted: Sequence[bytes] = ()
        """Some digests of an insert, to be asked back before a later one."""

    def insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        """Bytes that were written."""
        return sum(
            self._insert(digests[piece], tuple(rows[piece] for rows in columns), cost_us=cost_us)
            for piece in _pieces(len(digests), is_known=self._worth.knows_inserts)
        )

    def _insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        if self._worth.rests() or not _are_digests(digests):
            return 0
        self._ask_back()
        started = self._worth.clock()
        written = self._writer.insert(digests, columns, cost_us=cost_us)
        self._worth.inserted(
            self._worth.clock() - started,
            rows=len(digests),
            size_bytes=written,
            row_s=cost_us / 1e6,
        )
        self._inserts += 1
        is_early = self._inserts <= _EARLY or self._inserts.bit_count() == 1
        is_asked = is_early or self._inserts % _LATER == 0
        is_asked |= self._worth.is_forgotten  # it may keep them by now
        if written and is_asked and len(digests) >= _ASKED_BACK:
            self._inserted = digests[:_ASKED_BACK]
        return written

    def _ask_back(self) -> None:
        """Looks up what an insert before has left, where it was chosen for that."""
        digests, self._inserted = self._inserted, ()
        if not digests:
            return
        started = self._worth.clock()
        lookup = self._reader.lookup(digests)
        if lookup.is_answered:
            kept = int(lookup.found.sum())
            seconds = self._worth.clock() - started
            self._worth.asked_back(seconds, rows=len(digests), kept=kept)
