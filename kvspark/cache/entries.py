"""What the rest of kvspark sees of a cache: the entries of a stage, and what gives a stage its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from kvspark.spec import Rows, TensorSpec
from kvspark.stats import StageStats

if TYPE_CHECKING:
    from kvspark.cache.guard import Guard
    from kvspark.cache.keyspace import Lookup
    from kvspark.cache.lease import RowLeases


class Entries(Protocol):
    """The entries of one stage: `kvspark.cache.keyspace.KeySpace`, or a wrapper of it."""

    def digests(
        self, rows: Sequence[bytes], subjects: Sequence[bytes] | None = None
    ) -> list[bytes]:
        """The digest of each row's canonical bytes, bound to its subject where there are `subjects`."""
        ...

    def lookup(self, digests: Sequence[bytes]) -> Lookup:
        """What is known of the digests."""
        ...

    def insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        """Bytes that were written."""
        ...

    def flush(self) -> StageStats:
        """Waits for a while for what was inserted; what was written and no `insert` told."""
        ...

    def leases(self) -> RowLeases | None:
        """Who computes which row; None where everybody computes what is missing."""
        ...


class GuardedEntries(Entries, Protocol):
    """The entries of one stage as a store has them, before anything chooses among them."""

    def guarded_by(self, guard: Guard) -> GuardedEntries:
        """These entries, looked up through another guard and its store."""
        ...


class KeySpaces(Protocol):
    """What gives a stage its entries: `kvspark.cache.cache.Cache`, or a wrapper of it."""

    def keyspace(
        self, identity: bytes, specs: tuple[TensorSpec, ...], *, codec: str = "raw"
    ) -> GuardedEntries:
        """The entries of the stage whose results `identity` names."""
        ...


def insert_some(
    entries: Entries,
    which: npt.NDArray[np.bool_],
    digests: Sequence[bytes],
    columns: tuple[Rows, ...],
    *,
    cost_us: int,
) -> int:
    """As `entries.insert`, of the rows of which `which` is True."""
    places = np.flatnonzero(which).tolist()
    if not places:
        return 0
    if len(places) == len(digests):
        return entries.insert(digests, columns, cost_us=cost_us)
    kept: tuple[Rows, ...] = tuple(
        [rows[i] for i in places] if isinstance(rows, list) else rows[places] for rows in columns
    )
    return entries.insert([digests[i] for i in places], kept, cost_us=cost_us)
