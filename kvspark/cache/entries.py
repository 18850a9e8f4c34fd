"""What the rest of kvspark sees of a cache: the entries of a stage, and what gives a stage its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from kvspark.spec import Rows, TensorSpec

if TYPE_CHECKING:
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

    def leases(self) -> RowLeases | None:
        """Who computes which row; None where everybody computes what is missing."""
        ...


class KeySpaces(Protocol):
    """What gives a stage its entries: `kvspark.cache.cache.Cache`, or a wrapper of it."""

    def keyspace(
        self, identity: bytes, specs: tuple[TensorSpec, ...], *, codec: str = "raw"
    ) -> Entries:
        """The entries of the stage whose results `identity` names."""
        ...
