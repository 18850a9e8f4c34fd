"""What the rest of kvspark sees of a cache: what it does for one stage, composed of parts.

Who changes one of them (a share of the rows alone is stored, nothing is written, rows are inserted
behind) replaces that part with `dataclasses.replace`; the others stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
import numpy.typing as npt

from kvspark.cache.stage.lease import RowLeases
from kvspark.spec import Rows, end_to_end
from kvspark.stats import Rest


@final
@dataclass(frozen=True, slots=True)
class Lookup:
    """What is known of n digests."""

    found: npt.NDArray[np.bool_]
    """(n,): True where the row's tensors were found."""
    columns: tuple[Rows, ...]
    """The found rows in their order, for each tensor of the stage; the caller may write to them."""
    size_bytes: int
    """Bytes that were read from the store."""
    is_answered: bool = True
    """False if the store could not be asked for all of them."""
    saved_us: int = 0
    """Microseconds that the found rows took to compute, as their entries say."""
    rested: int = 0
    """Rows that were not looked up, because computing them costs less."""


def joined(parts: Sequence[Lookup]) -> Lookup:
    """What is known of the digests of `parts`, of which there is at least one, laid end to end."""
    return Lookup(
        np.concatenate([part.found for part in parts]),
        tuple(end_to_end(rows) for rows in zip(*(part.columns for part in parts), strict=True)),
        sum(part.size_bytes for part in parts),
        all(part.is_answered for part in parts),
        sum(part.saved_us for part in parts),
        sum(part.rested for part in parts),
    )


class Digester(Protocol):
    """Names rows."""

    def of(self, rows: Sequence[bytes], subjects: Sequence[bytes] | None = None) -> list[bytes]:
        """The digest, 32 bytes, of each row's canonical bytes: equal for equal rows only.

        With `subjects`, the canonical bytes of whose row each is: equal for equal rows of one subject only.
        """
        ...


class Reader(Protocol):
    """Looks rows up."""

    def lookup(self, digests: Sequence[bytes]) -> Lookup:
        """What is known of the digests; whatever goes wrong is a miss."""
        ...


class Writer(Protocol):
    """Stores rows."""

    def insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        """Bytes that were written; rows that could not be stored are computed again some day.

        columns: an array (n, *shape) or a list of n arrays for each tensor of the stage.
        `cost_us` is what computing one row took, in microseconds.
        """
        ...


class Watch(Protocol):
    """Leaves the store of a stage alone while that costs less."""

    def rests(self, rows: int = 0) -> bool:
        """True while nothing is looked up or inserted; `rows` are what would be looked up now."""
        ...

    def rest(self) -> Rest | None:
        """Since when and why it did rest, since this was called before; None where it did not."""
        ...


@final
@dataclass(frozen=True, slots=True)
class StageCache:
    """The entries of one stage; made by `Cache.keyspace`."""

    digester: Digester
    reader: Reader
    writer: Writer
    leases: RowLeases | None = None
    """Who computes which row; None where everybody computes what is missing."""
    ahead: Reader | None = None
    """The reader for the thread that looks up ahead; None where nobody does."""
    watch: Watch | None = None
    """Whether the store is left alone because computing costs less; None where nobody looks at what it costs."""

    def digests(
        self, rows: Sequence[bytes], subjects: Sequence[bytes] | None = None
    ) -> list[bytes]:
        """As `digester.of`."""
        return self.digester.of(rows, subjects)

    def lookup(self, digests: Sequence[bytes]) -> Lookup:
        """As `reader.lookup`."""
        return self.reader.lookup(digests)

    def insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        """As `writer.insert`."""
        return self.writer.insert(digests, columns, cost_us=cost_us)


@final
class NoWriter:
    """Stores nothing."""

    def insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        """0."""
        del digests, columns, cost_us
        return 0
