"""What every store with leases must do: subclassed like `StoreContract`."""

from __future__ import annotations

import time

from kvspark.cache.store.base import Store

TIMEOUT_S = 5.0


class LeaseContract:
    def test_a_key_is_leased_to_who_asks_first(self, store: Store, key):
        leases = store.leases()
        assert leases is not None
        keys = [key(b"{%02x}lease" % tag) for tag in range(64)]
        first = leases.claim_many(keys[:40], ttl_s=60, timeout_s=TIMEOUT_S)
        second = leases.claim_many(keys, ttl_s=60, timeout_s=TIMEOUT_S)
        assert first == [True] * 40
        assert second == [False] * 40 + [True] * 24
        assert leases.claim_many([], ttl_s=60, timeout_s=TIMEOUT_S) == []

    def test_a_lease_ends_by_itself(self, store: Store, key):
        leases = store.leases()
        assert leases is not None
        for _ in range(2):
            assert leases.claim_many([key(b"brief")], ttl_s=0.02, timeout_s=TIMEOUT_S) == [True]
            time.sleep(0.1)
