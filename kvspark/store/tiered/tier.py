"""One store of several: what it is to the others, and what its trouble costs them."""

from __future__ import annotations

from typing import final

from kvspark.errors import StoreError, StoreUnavailableError
from kvspark.store.base import Entries, Keys, Store
from kvspark.store.breaker import Breaker
from kvspark.store.deadline import Deadline
from kvspark.store.many import get_many, set_many
from kvspark.store.trouble import FULL, REFUSED, reason_of


@final
class Tier:
    """A store that adds its trouble to a list, and is left alone for a while when there is much.

    store: what others see too where `is_shared`, else memory of this process.
    copy_ttl_s: seconds that an entry which was found further down is kept here: a store does not
        say how long one has to live.
    least_life_s: entries that have less to live when they are written are not kept here.

    Threads may count a failure twice between them, and nothing worse.
    """

    def __init__(
        self,
        store: Store,
        *,
        copy_ttl_s: float,
        is_shared: bool = True,
        least_life_s: float = 0.0,
    ) -> None:
        self.store = store
        self.copy_ttl_s = copy_ttl_s
        self.is_shared = is_shared
        self._least_life_s = least_life_s
        self._link = Breaker()
        self._writes = Breaker()

    def get_many(
        self, keys: Keys, deadline: Deadline, trouble: list[StoreError]
    ) -> list[bytes | None] | None:
        """As the store's; None if it could not be asked."""
        if not self._allows(self._link, trouble):
            return None
        try:
            values = get_many(self.store, keys, deadline)
        except StoreError as exc:
            trouble.append(exc)
            self._failed(self._link, exc)
            return None
        self._link.succeeded()
        return values

    def set_many(
        self,
        entries: Entries,
        ttl_s: float | None,
        deadline: Deadline,
        trouble: list[StoreError],
    ) -> int:
        """As the store's; 0 if it could not be asked, or the entries live too short."""
        if ttl_s is not None and ttl_s < self._least_life_s:
            return 0
        if not (self._allows(self._writes, trouble) and self._allows(self._link, trouble)):
            return 0
        try:
            taken = set_many(self.store, entries, deadline, ttl_s=ttl_s)
        except StoreError as exc:
            trouble.append(exc)
            self._failed(self._writes, exc)
            return 0
        self._link.succeeded()
        self._writes.succeeded()
        return taken

    def _allows(self, breaker: Breaker, trouble: list[StoreError]) -> bool:
        reason = breaker.reason
        if breaker.allows():
            return True
        trouble.append(StoreUnavailableError(f"a tier is left alone for now ({reason})"))
        return False

    def _failed(self, breaker: Breaker, exc: StoreError) -> None:
        reason = reason_of(exc)
        if reason == FULL:
            breaker.trip(reason)
        elif reason == REFUSED:
            breaker.trip(reason, for_good=True)
        else:
            # Whether it was read or written: it did not answer.
            self._link.failed(reason)
