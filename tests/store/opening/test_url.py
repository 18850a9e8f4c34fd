from __future__ import annotations

from pathlib import Path

import pytest

from kvspark.config.cache import CacheConfig
from kvspark.errors import SecretError, UsageError
from kvspark.store.cluster.cluster import ClusterStore
from kvspark.store.deadline import NEVER
from kvspark.store.embedded.embedded import EmbeddedStore
from kvspark.store.endpoint import Endpoint
from kvspark.store.hbase.hbase import Gateway, HBaseStore
from kvspark.store.memory.memory import MemoryStore
from kvspark.store.opening.url import open_store, resolved
from kvspark.store.redis.sentinel import Primary, SentinelStore
from kvspark.store.redis.server import RedisStore
from tests.store.calls import get_many, set_many


def config(url: str, **options) -> CacheConfig:
    return CacheConfig.checked(url=url, namespace="n", **options)


def endpoint(url: str, **options) -> Endpoint:
    store = open_store(config(url, **options))
    assert isinstance(store, RedisStore)
    return store.endpoint


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache.example", Endpoint("cache.example", 6379)),
        ("redis://cache.example:7000", Endpoint("cache.example", 7000)),
        ("redis://cache.example:7000/3", Endpoint("cache.example", 7000, db=3)),
        ("redis://cache.example/?db=4", Endpoint("cache.example", 6379, db=4)),
        ("redis://[::1]:7000", Endpoint("::1", 7000)),
        ("redis://", Endpoint("localhost", 6379)),
        ("rediss://cache.example/1", Endpoint("cache.example", 6379, db=1, is_tls=True)),
        ("unix:///run/redis/s.sock", Endpoint(socket_path="/run/redis/s.sock")),
        ("unix:///run/a%20b/s?db=2", Endpoint(socket_path="/run/a b/s", db=2)),
    ],
)
def test_a_url_names_a_server(url, expected):
    assert endpoint(url) == expected


def test_a_url_names_the_nodes_of_a_cluster():
    store = open_store(config("rediss+cluster://a:1,b,[::1]:3"))
    assert isinstance(store, ClusterStore)
    with store._router.turn(NEVER) as router:
        assert [router.nodes[each].line.endpoint for each in router._seeds] == [
            Endpoint("a", 1, is_tls=True),
            Endpoint("b", 6379, is_tls=True),
            Endpoint("::1", 3, is_tls=True),
        ]


def test_a_url_names_sentinels_and_their_service():
    store = open_store(config("redis+sentinel://a:1,b/my%20service/3"))
    assert isinstance(store, SentinelStore)
    with store._finder.turn(NEVER) as found:
        assert isinstance(found, Primary)
        assert found._sentinels == [Endpoint("a", 1), Endpoint("b", 26379)]
        assert (found._service, found._endpoint.db) == ("my service", 3)


def test_a_url_names_a_table_of_hbase():
    store = open_store(config("hbase://gateway/ns%3Atable?transport=framed"))
    assert isinstance(store, HBaseStore)
    assert store.gateway == Gateway("gateway", 9090, "ns:table", is_framed=True)


def test_a_password_for_hbase_is_a_usage_error():
    with pytest.raises(UsageError, match="takes neither"):
        open_store(config("hbase://gateway", username="u"))


def test_user_password_and_authority_come_from_beside_the_url(tmp_path, monkeypatch):
    monkeypatch.setenv("REDIS_PASSWORD", "hush")
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()
    options = {"username": "u", "password_env": "REDIS_PASSWORD", "tls_ca_file": str(ca_file)}
    found = endpoint("rediss://host", **options)
    assert (found.username, found.password) == ("u", b"hush")
    assert found.tls_ca_file == str(ca_file)


def test_a_named_store_in_memory_is_opened_twice_and_a_nameless_one_is_new():
    first = open_store(config("memory://again"))
    assert isinstance(first, MemoryStore)
    assert open_store(config("memory://again")) is first
    assert open_store(config("memory://")) is not open_store(config("memory://"))


def test_a_store_in_memory_may_be_bounded():
    store = open_store(config("memory://?max_bytes=100"))
    set_many(store, [(b"a", bytes(200))], ttl_s=None)
    assert get_many(store, [b"a"]) == [None]


def test_an_embedded_folder_is_absolute_once_it_is_resolved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/where/i/live")
    assert resolved(config("embedded:cache")).url == f"embedded:{tmp_path}/cache"
    assert resolved(config("embedded:~/c?max_bytes=5")).url == (
        "embedded:/where/i/live/c?max_bytes=5"
    )
    assert resolved(config("embedded:/a/b?c")).url == "embedded:/a/b?c"
    assert resolved(config("redis://x")).url == "redis://x"
    once = resolved(config("embedded:cache"))
    assert resolved(once) == once


def test_opening_an_embedded_store_makes_nothing_yet(tmp_path):
    store = open_store(config(f"embedded:{tmp_path}/new"))
    assert isinstance(store, EmbeddedStore)
    assert not (tmp_path / "new").exists()
    store.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+cluster://host/1", "no databases"),
        ("redis+sentinel://host", "no service"),
        ("redis+sentinel://host/name/x", "whole number"),
        ("redis+cluster://host:a,other", "HOST:PORT"),
        ("redis://host,other", "redis\\+cluster"),
        ("http://host", "redis://HOST:PORT"),
        ("redis://host/x", "whole number"),
        ("redis://host?socket_timeout=50", "socket_timeout"),
        ("redis://host?db=-1", "whole number"),
        ("redis://host#x", "fragment"),
        ("unix://run/s", "three slashes"),
        ("unix://", "three slashes"),
        ("hbase://host?transport=x", "buffered or framed"),
        ("memory://a?ttl=1", "ttl"),
        ("embedded:", "no folder"),
        ("embedded:?max_bytes=5", "no folder"),
    ],
)
def test_a_url_that_names_no_store_is_a_usage_error_that_says_what_to_write(url, said):
    with pytest.raises(UsageError, match=said):
        open_store(config(url))


def test_a_cold_tier_that_is_nowhere_is_a_usage_error():
    with pytest.raises(UsageError, match="file:///PATH"):
        open_store(config("memory://", cold="nowhere://x"))


@pytest.mark.parametrize("url", ["s3://key:hush@bucket", "s3://bucket?secret_key=hush", "folder"])
def test_a_cold_tier_with_a_secret_in_its_url_or_without_a_kind_is_refused(url):
    with pytest.raises(UsageError) as caught:
        config("memory://", cold=url)
    assert "hush" not in str(caught.value)


def test_entries_are_sealed_where_others_can_reach_the_cold_tier():
    assert not config("memory://").is_sealed
    assert config("memory://", cold="file:///cold").is_sealed


def test_an_authority_without_tls_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="rediss://"):
        open_store(config("redis://host", tls_ca_file=str(tmp_path)))


def test_an_authority_that_is_not_there_is_a_usage_error():
    with pytest.raises(UsageError, match="not there"):
        open_store(config("rediss://host", tls_ca_file="/nowhere/ca.pem"))


def test_a_password_that_cannot_be_read_is_a_secret_error():
    with pytest.raises(SecretError):
        open_store(config("redis://host", password_env="KVSPARK_TEST_IS_NOT_SET"))
    with pytest.raises(SecretError):
        open_store(config("redis://host", password_file=str(Path("/nowhere/password"))))
