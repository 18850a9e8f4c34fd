"""How long entries are kept."""

from __future__ import annotations

import numpy as np
import pytest
from redis import Redis

from kvspark.cache.cache import Cache
from kvspark.spec import TensorSpec
from tests.redis_server import PATIENT_MS, running_redis


@pytest.mark.redis
def test_what_one_night_wrote_does_not_expire_in_one_moment() -> None:
    with running_redis() as server, Redis.from_url(server.url) as client:
        cache = Cache.connect(server.url, namespace="ttl", ttl_s=1000, timeout_ms=PATIENT_MS)
        space = cache.keyspace(b"stage", (TensorSpec("x", "float32"),))
        for batch in range(40):
            digests = space.digests([bytes([batch])])
            space.insert(digests, (np.zeros(1, np.float32),), cost_us=1)
        lives_s = [client.pttl(key) / 1000 for key in client.scan_iter()]
        cache.close()
    assert len(lives_s) == 40
    assert all(880 < life <= 1100 for life in lives_s)
    assert max(lives_s) - min(lives_s) > 50
