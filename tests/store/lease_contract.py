"""What every store with leases must do: subclassed like `StoreContract`."""

from __future__ import annotations

import time

from kvspark.store.base import Store
from kvspark.store.deadline import Deadline

TIMEOUT_S = 5.0


class LeaseContract:
    def test_a_key_is_leased_to_who_asks_first(self, store: Store, key):
        leases = store.leases()
        assert leases is not None
        keys = [key(b"{%02x}lease" % tag) for tag in range(64)]
        first = leases.claim_many(keys[:40], Deadline.after(TIMEOUT_S), ttl_s=60)
        second = leases.claim_many(keys, Deadline.after(TIMEOUT_S), ttl_s=60)
        assert first == [True] * 40
        assert second == [False] * 40 + [True] * 24
        assert leases.claim_many([], Deadline.after(TIMEOUT_S), ttl_s=60) == []

    def test_a_lease_ends_by_itself(self, store: Store, key):
        leases = store.leases()
        assert leases is not None
        for _ in range(2):
            assert leases.claim_many([key(b"brief")], Deadline.after(TIMEOUT_S), ttl_s=0.02) == [
                True
            ]
            time.sleep(0.1)
