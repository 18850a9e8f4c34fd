"""Leases: a key belongs for a while to the one who asked for it first.

Some stores can give them (`Store.leases`). A lease is no lock: it ends by itself, a store may lose it,
and two may have it then. Who builds on it must be right without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from kvspark.store.deadline import Deadline


class Leases(ABC):
    """The leases of one store."""

    @abstractmethod
    def claim_many(self, keys: Sequence[bytes], deadline: Deadline, *, ttl_s: float) -> list[bool]:
        """For each of `keys` whether nobody had it, so that the caller has it for `ttl_s` now.

        True as well for a key that could not be asked for, where others could.

        Raises:
            StoreError: nothing of this call is known; some may be the caller's.
        """
