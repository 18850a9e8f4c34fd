"""The contract of every store: bytes under keys, many at a time, nothing else.

A store knows no tensors, namespaces or digests. It is a place that may lose anything at any time
and must never give what was not put there.

- **Keys and values are bytes**, of any content. A key has at least one byte.
- **Plural only.** A call has windows of about 512 keys and 1 MiB each, made by the caller; a store may
  split or join them, and ask for some ahead of what was taken, where that is faster.
- **Answers are yielded** window by window, while the next ones are on their way: what the caller does
  between two of them is the caller's, its errors as well. A call that is not taken to its end is closed
  (`contextlib.closing`), and leaves nothing for the next one. Until then it may keep other threads waiting.
- **A missing key is None** at its place; the answer has the order and length of the keys, also
  where a key is named twice.
- **An entry is whole or absent.** A reader sees the old value, the new one or None. Of two entries
  with the same key in one call, the last stays.
- **`ttl_s` None** keeps an entry until it is evicted; otherwise it is gone after `ttl_s` seconds,
  rounded up to a millisecond. Writing again starts the time anew.
- **A `Deadline`** bounds all waiting of a call, connecting and every reply included. A store that never
  waits takes no notice of it.
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
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import NoReturn, TypeAlias

from kvspark.errors import StoreRefusedError
from kvspark.store.deadline import Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.leases import Leases
from kvspark.store.value_table import Part

Keys: TypeAlias = "Sequence[bytes]"
Entries: TypeAlias = "Sequence[tuple[bytes, bytes]]"
Parts: TypeAlias = "Generator[Part, None, None]"
Counts: TypeAlias = "Generator[int, None, None]"


class Store(ABC):
    """Bytes under keys; see the module's text for the contract."""

    @abstractmethod
    def read(self, windows: Iterable[Keys], deadline: Deadline, *, value_bytes: int = 0) -> Parts:
        """The values of the keys of `windows`, one part a window or more; see `Part`.

        windows: one key at least in each.
        value_bytes: what values have, as far as the caller knows; those that do may come as a Slab.

        Raises:
            StoreError: nothing is known of what was not yielded yet.
        """

    @abstractmethod
    def write(
        self, windows: Iterable[Entries], deadline: Deadline, *, ttl_s: float | None
    ) -> Counts:
        """How many (key, value) entries were taken of each of `windows`, in their order.

        windows: one entry at least in each; asked for while the store takes those before, where it can.

        Raises:
            StoreError: at least one entry was not taken; of what was not yielded yet, some may have been.
        """

    @abstractmethod
    def delete(self, keys: Keys, deadline: Deadline) -> int:
        """How many of `keys` were there and are gone.

        Raises:
            StoreError: some may be gone.
        """

    def scan(self, prefix: bytes, *, each_s: float) -> Iterator[list[bytes]]:
        """The keys that begin with `prefix`, some at a time; for `kvspark purge`, never for a job.

        `each_s` bounds the wait for each part. A key that is there from beginning to end is
        named, maybe twice.

        Raises:
            StoreError: the rest is not known, or a store of this kind cannot be searched.
        """
        del prefix, each_s
        raise StoreRefusedError(f"a {type(self).__name__} cannot be searched for entries")

    @property
    def remembered_s(self) -> float:
        """Seconds that other processes may find what was deleted, and copy it back; 0 for most stores."""
        return 0.0

    @abstractmethod
    def ping(self, deadline: Deadline) -> None:
        """Returns if the store answers.

        Raises:
            StoreError: it does not, or it refuses us.
        """

    def servers(self, deadline: Deadline) -> list[Endpoint]:
        """The Redis servers that hold the entries; for `kvspark doctor`. Empty where there is none.

        Raises:
            StoreError: nobody says where they are.
        """
        del deadline
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
