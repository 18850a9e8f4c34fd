from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvspark.cache.cache import Cache
from kvspark.cache.entry.writer import ERASED
from kvspark.cache.key.key import RowDigests, StageKeys, namespace_prefix
from kvspark.cache.namespace.purge import Purge
from kvspark.cache.stage.tombstones import IDENTITY, REFRESH_S
from kvspark.config.cache import CacheConfig
from kvspark.errors import CacheRequiredError, SecretError
from kvspark.spec import TensorSpec
from tests.hbase_server import HBaseAddress, running_hbase
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis
from tests.store.calls import get_many, scanned, set_many

pytestmark = pytest.mark.redis

EMBEDDING = (TensorSpec("embedding", "float32", (4,)),)
FINGERPRINTS = [b"\x01" * 32, b"\x02" * 32]
HERE, ELSEWHERE = b"\xaa" * 32, b"\xbb" * 32
ROWS = [b"row %d" % row for row in range(600)]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisAddress]:
    with running_redis() as running:
        yield running


@pytest.fixture(scope="module")
def hbase() -> Iterator[HBaseAddress]:
    with running_hbase() as running:
        yield running


@pytest.fixture
def cache(server: RedisAddress) -> Iterator[Cache]:
    server.ask("FLUSHALL")
    with closing(Cache.connect(server.url, namespace="n", timeout_ms=5_000)) as cache:
        yield cache


@pytest.fixture(params=["Redis", "Redis before files", "HBase"])
def any_cache(
    request: pytest.FixtureRequest, server: RedisAddress, hbase: HBaseAddress, tmp_path: Path
) -> Iterator[Cache]:
    """The cache of every kind of store that more than one machine shares."""
    server.ask("FLUSHALL")
    conf: dict[str, Any] = {"url": server.url}
    if request.param == "HBase":
        conf["url"] = f"hbase://127.0.0.1:{hbase.port}/kvspark"
    if request.param == "Redis before files":
        conf["cold"] = (tmp_path / "cold").as_uri()
    # A gateway cannot be emptied: each test has a namespace of its own.
    config = CacheConfig.checked(namespace=tmp_path.name, timeout_ms=PATIENT_MS, **conf)
    with closing(Cache.from_config(config)) as cache:
        yield cache


def filled(cache: Cache, *identities: bytes) -> None:
    for identity in identities:
        space = cache.keyspace(identity, EMBEDDING)
        values = np.ones((len(ROWS), 4), dtype="<f4")
        assert space.insert(space.digests(ROWS), (values,), cost_us=1)
    assert cache.store.drain() == {}  # What there is for files is written.


def found(cache: Cache, identity: bytes, rows=ROWS) -> int:
    cache.close()  # What it knew of files is older than the purge.
    space = cache.keyspace(identity, EMBEDDING)
    return int(space.lookup(space.digests(rows)).found.sum())


def unhurried(cache: Cache) -> Purge:
    """A purge that does not wait: nobody else is there."""
    return cache.purge(sleep=lambda _: None)


def test_all_entries_of_a_stage_are_removed_whatever_computed_them_and_no_others(any_cache):
    mine = [FINGERPRINTS[0] + HERE, FINGERPRINTS[0] + ELSEWHERE]
    filled(any_cache, *mine, FINGERPRINTS[1] + HERE)
    done = unhurried(any_cache).stages(FINGERPRINTS[:1])
    assert (done.entries, done.left) == (1_200, 0)
    assert [found(any_cache, identity) for identity in mine] == [0, 0]
    assert found(any_cache, FINGERPRINTS[1] + HERE) == 600


def test_entries_of_another_namespace_or_tenant_are_kept(server, cache):
    others = [
        Cache.connect(server.url, namespace="other", timeout_ms=5_000),
        Cache.connect(server.url, namespace="n", tenant="t", timeout_ms=5_000),
    ]
    for each in (cache, *others):
        filled(each, FINGERPRINTS[0] + HERE)
    unhurried(cache).stages(FINGERPRINTS)
    unhurried(cache).older_than(2**32 - 1)
    assert [found(each, FINGERPRINTS[0] + HERE) for each in others] == [600, 600]


def test_old_entries_are_removed_and_new_ones_are_kept(any_cache):
    filled(any_cache, FINGERPRINTS[0] + HERE)
    assert unhurried(any_cache).older_than(1_000_000_000).entries == 0
    assert found(any_cache, FINGERPRINTS[0] + HERE) == 600
    done = unhurried(any_cache).older_than(2**32 - 1)
    assert done.entries >= 600
    assert done.left == 0
    assert found(any_cache, FINGERPRINTS[0] + HERE) == 0


def test_rows_are_erased_at_every_stage_and_other_rows_still_hit(any_cache):
    identities = [fingerprint + HERE for fingerprint in FINGERPRINTS]
    filled(any_cache, *identities)
    erased = [ROWS[3], ROWS[5]]
    done = unhurried(any_cache).rows(dict.fromkeys(identities, erased))
    assert (done.entries, done.of_others, done.left) == (4, 0, 0)
    for identity in identities:
        assert found(any_cache, identity, erased) == 0
        assert found(any_cache, identity) == 598


def test_entries_that_may_be_the_row_s_by_other_arithmetic_go_too(any_cache):
    filled(any_cache, FINGERPRINTS[0] + HERE, FINGERPRINTS[0] + ELSEWHERE)
    done = unhurried(any_cache).rows({FINGERPRINTS[0] + HERE: [ROWS[0]]})
    assert (done.entries, done.of_others) == (601, 600)
    assert found(any_cache, FINGERPRINTS[0] + ELSEWHERE) == 0
    assert found(any_cache, FINGERPRINTS[0] + HERE) == 599


def test_nothing_that_is_left_in_the_store_opens_as_an_erased_row(any_cache):
    identity = FINGERPRINTS[0] + HERE
    filled(any_cache, identity)
    unhurried(any_cache).rows({identity: [ROWS[7]]})
    any_cache.close()
    (digest,) = RowDigests(any_cache.key, identity).of([ROWS[7]])
    entry_format = any_cache.keyspace(identity, EMBEDDING).reader.format
    keys = scanned(any_cache.store, b"")
    values = [value for value in get_many(any_cache.store, keys) if value is not None]
    assert len(values) >= 599
    assert not entry_format.decode_many(values, [digest] * len(values)).found.any()
    assert StageKeys(any_cache.key, identity).of([digest])[0] not in keys


def test_a_run_that_is_under_way_cannot_bring_a_row_back(server, cache):
    identity = FINGERPRINTS[0] + HERE
    filled(cache, identity)
    now = [0.0]
    config = CacheConfig.checked(url=server.url, namespace="n", timeout_ms=5_000)
    running = Cache(config, clock=lambda: now[0])
    filled(running, identity)

    def meanwhile(seconds: float) -> None:
        # What was computed before the list was written may still come, for a moment.
        filled(running, identity)
        assert found(cache, identity) == 600
        assert seconds > REFRESH_S
        now[0] += seconds

    purge = cache.purge(sleep=meanwhile)
    assert purge.rows({identity: [ROWS[0], ROWS[1]]}).left == 0
    filled(running, identity)
    assert found(cache, identity, ROWS[:2]) == 0
    assert found(cache, identity) == 598
    assert running.drain().errors == {ERASED: 2}


def test_where_the_list_cannot_be_read_nothing_is_inserted(server, cache):
    identity = FINGERPRINTS[0] + HERE
    space = cache.keyspace(identity, EMBEDDING)
    values = np.ones((1, 4), dtype="<f4")
    with running_redis() as away:
        now = [0.0]
        config = CacheConfig.checked(url=away.url, namespace="n", timeout_ms=500)
        lost = Cache(config, clock=lambda: now[0])
        apart = lost.keyspace(identity, EMBEDDING)
        digests = apart.digests(ROWS[:1])
        assert apart.insert(digests, (values,), cost_us=1)
        now[0] = REFRESH_S
    assert lost.tombstones.erased() is None
    assert apart.insert(digests, (values,), cost_us=1) == 0
    with pytest.raises(CacheRequiredError, match="nothing was removed"):
        lost.purge().rows({identity: ROWS[:1]})
    assert space.insert(digests, (values,), cost_us=1)


def test_a_label_that_looks_like_a_pattern_is_found_as_it_is(server, cache):
    for name in (b"*", b"?", b"[a]", b"\\", b"plain"):
        set_many(cache.store, [(b"k1x" + name + b"1", b"")], ttl_s=60.0)
    for name in (b"*", b"?", b"[a]", b"\\"):
        keys = scanned(cache.store, b"k1x" + name)
        assert keys == [b"k1x" + name + b"1"]


def test_a_user_who_may_not_look_for_entries_is_told_so(server, cache, monkeypatch):
    server.ask("ACL", "SETUSER", "job", "on", ">pw", "~k1*", "-@all", "+mget", "+set", "+ping")
    server.ask("ACL", "SETUSER", "job", "+hello", "+auth", "+select")
    monkeypatch.setenv("JOB_PASSWORD", "pw")
    job = Cache.connect(
        server.url,
        namespace="n",
        username="job",
        password_env="JOB_PASSWORD",
        timeout_ms=PATIENT_MS,
    )
    with pytest.raises(SecretError, match="SCAN and UNLINK"):
        job.purge().stages(FINGERPRINTS)


def test_the_list_lies_in_the_namespace(cache):
    prefix = StageKeys(cache.key, IDENTITY).prefix
    assert prefix.startswith(namespace_prefix(cache.key))
