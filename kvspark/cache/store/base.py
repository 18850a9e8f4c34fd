"""The contract of every store: bytes under keys, many at a time, nothing else.

A store knows no tensors, namespaces or digests. It is a place that may lose anything at any time
and must never give what was not put there.

- **Keys and values are bytes**, of any content. A key has at least one byte.
- **Plural only.** A list of keys is one call, in as few round trips as the server allows. The
  caller keeps one call to about 512 keys and 1 MiB; a store may split it further.
- **A missing key is None** at its place; the answer has the order and length of the keys, also
  where a key is named twice.
- **An entry is whole or absent.** A reader sees the old value, the new one or None. Of two entries
  with the same key in one call, the last stays.
- **`ttl_s` None** keeps an entry until it is evicted; otherwise it is gone after `ttl_s` seconds,
  rounded up to a millisecond. Writing again starts the time anew.
- **`timeout_s`** bounds the whole call, connecting and every reply included; None means the
  store's own bound. A store that never waits takes no notice of it.
- **Errors are StoreError subclasses and nothing else**: StoreUnavailableError (this call did not
  get through; a later one may), StoreFullError (reads go on, this write was not taken),
  StoreRefusedError (trying again cannot help). After an error some entries of the call may have
  been written, and the store can be used again.
- **A store of several parts** may do without one: what that part has is missing, what it should
  take is not taken, and `drain` counts why. It is an error only where no part answered.
- **After `fork`** both processes may go on with the store. After `close` the next call opens it
  again. A store is safe to share between threads, which take turns.
- **Not picklable**: what crosses to another process is the configuration.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NoReturn

from kvspark.cache.store.endpoint import Endpoint
from kvspark.cache.store.leases import Leases
from kvspark.cache.store.slab import Part
from kvspark.errors import StoreRefusedError


class Store(ABC):
    """Bytes under keys; see the module's text for the contract."""

    @abstractmethod
    def get_many(
        self, keys: Sequence[bytes], *, timeout_s: float | None = None
    ) -> list[bytes | None]:
        """The values of `keys` in their order, None where a key is missing.

        Raises:
            StoreError: nothing of this call is known.
        """

    def get_each(
        self,
        windows: Iterable[Sequence[bytes]],
        take: Callable[[Part], None],
        *,
        value_bytes: int,
        left_s: Callable[[], float],
    ) -> None:
        """As `get_many` of each window, whose values `take` is given in parts; see `Part`.

        windows: one key at least in each; asked for ahead of what is taken, where that is faster.
        value_bytes: what values have, as far as the caller knows; those that do may come as a Slab.
        left_s: the seconds that are left when it is called; raises when there are none.

        Raises:
            StoreError: nothing is known of what was not taken yet.
            Exception: what `take`, `windows` or `left_s` raise.
        """
        del value_bytes
        for window in windows:
            take(self.get_many(window, timeout_s=left_s()))

    @abstractmethod
    def set_many(
        self,
        entries: Sequence[tuple[bytes, bytes]],
        *,
        ttl_s: float | None,
        timeout_s: float | None = None,
    ) -> int:
        """How many of the (key, value) `entries` were taken.

        Raises:
            StoreError: at least one entry was not taken; others may have been.
        """

    def set_each(
        self,
        windows: Iterator[Sequence[tuple[bytes, bytes]]],
        took: Callable[[int], None],
        *,
        ttl_s: float | None,
        left_s: Callable[[], float],
    ) -> None:
        """As `set_many` of each window, of which `took` is told how many entries were taken, in their order.

        windows: one entry at least in each; asked for while the store takes those before, where it can.
        left_s: as for `get_each`.

        Raises:
            StoreError: at least one entry was not taken; of what `took` was not told, some may have been.
            Exception: what `windows`, `took` or `left_s` raise.
        """
        for window in windows:
            took(self.set_many(window, ttl_s=ttl_s, timeout_s=left_s()))

    @abstractmethod
    def delete_many(self, keys: Sequence[bytes], *, timeout_s: float | None = None) -> int:
        """How many of `keys` were there and are gone.

        Raises:
            StoreError: some may be gone.
        """

    def scan(self, prefix: bytes, *, timeout_s: float | None = None) -> Iterator[list[bytes]]:
        """The keys that begin with `prefix`, some at a time; for `kvspark purge`, never for a job.

        `timeout_s` bounds the wait for each part. A key that is there from beginning to end is
        named, maybe twice.

        Raises:
            StoreError: the rest is not known, or a store of this kind cannot be searched.
        """
        del prefix, timeout_s
        raise StoreRefusedError(f"a {type(self).__name__} cannot be searched for entries")

    @property
    def remembered_s(self) -> float:
        """Seconds that other processes may find what was deleted, and copy it back; 0 for most stores."""
        return 0.0

    @abstractmethod
    def ping(self, *, timeout_s: float | None = None) -> None:
        """Returns if the store answers.

        Raises:
            StoreError: it does not, or it refuses us.
        """

    def servers(self, *, timeout_s: float) -> list[Endpoint]:
        """The Redis servers that hold the entries; for `kvspark doctor`. Empty where there is none.

        Raises:
            StoreError: nobody says where they are.
        """
        del timeout_s
        return []

    def leases(self) -> Leases | None:
        """What gives a key to one process for a while; None where a store of this kind cannot."""
        return None

    def beside(self) -> Store:
        """This store for another thread: over a connection of its own, or in turns where there is none."""
        return self

    def drain(self) -> Mapping[str, int]:
        """By reason: calls since the last drain that had to do without a part of the store."""
        return {}

    @abstractmethod
    def close(self) -> None:
        """Lets go of connections and files; never raises, and may be called twice."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} holds a connection and cannot be pickled; "
            "send the cache's configuration and open it there"
        )
