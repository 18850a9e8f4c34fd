"""The server's conf and users that are shipped: enough for a job, and for nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import redis

from kvspark.cache.cache import Cache
from kvspark.config.cache import CacheConfig
from kvspark.errors import SecretError
from kvspark.spec import TensorSpec
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis

pytestmark = pytest.mark.redis

CONF = Path(__file__).parents[3] / "conf/redis"
PASSWORDS = {"kvspark": "first", "kvspark-purge": "second"}
EMBEDDING = (TensorSpec("embedding", "float32", (4,)),)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[RedisAddress]:
    """A server with the shipped conf, and the shipped users with a password each."""
    users = tmp_path_factory.mktemp("users") / "users.acl"
    lines = []
    for line in (CONF / "users.acl").read_text().splitlines():
        password = PASSWORDS.get(line.split()[1])
        digest = "" if password is None else f"#{sha256(password.encode()).hexdigest()}"
        lines.append(line.replace(" on resetpass ", f" on resetpass {digest} "))
    # Somebody who may come in and ask whether the server is there.
    lines.append(
        f"user kvspark-looker on #{sha256(b'third').hexdigest()} ~k1* +ping +client +hello +select"
    )
    users.write_text("\n".join(lines) + "\n")
    with running_redis("--include", str(CONF / "redis.conf"), "--aclfile", str(users)) as running:
        yield running


def test_a_job_works_with_the_shipped_user_and_asks_for_nothing_more(server, monkeypatch):
    monkeypatch.setenv("PASSWORD", "first")
    config = CacheConfig.checked(
        url=server.url,
        namespace="n",
        username="kvspark",
        password_env="PASSWORD",
        timeout_ms=PATIENT_MS,
        lease_from_ms=50.0,
    )
    cache = Cache.from_config(config)
    assert cache.check() is None
    space = cache.keyspace(b"stage", EMBEDDING)
    digests = space.digests([b"a", b"b"])
    space.insert(digests, (np.ones((2, 4), dtype="<f4"),), cost_us=1)
    assert space.lookup(digests).found.all()
    leases = space.leases
    assert leases is not None
    assert leases.claim(digests[:1], ttl_s=60).tolist() == [True]
    assert leases.claim(digests, ttl_s=60).tolist() == [False, True]
    assert cache.drain().errors == {}


@pytest.mark.parametrize("username", list(PASSWORDS))
@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL",
        "KEYS *",
        "CONFIG GET maxmemory",
        "EVAL return(1) 0",
        "DUMP k1",
        "MONITOR",
        "REPLICAOF NO ONE",
        "CLIENT LIST",
        "ACL LIST",
        "GET k1",
        "MGET other",
        "SET other 1",
    ],
)
def test_the_shipped_users_may_do_nothing_else(server, username, command):
    client = redis.Redis(port=server.port, username=username, password=PASSWORDS[username])
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())


def test_a_job_s_user_cannot_look_for_entries_or_remove_them(server):
    client = redis.Redis(port=server.port, username="kvspark", password="first")
    for command in (("SCAN", "0"), ("UNLINK", "k1")):
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)


def test_nobody_comes_in_without_a_name(server):
    with pytest.raises(SecretError, match="refuses us"):
        Cache.connect(server.url, namespace="n", timeout_ms=PATIENT_MS).check()


@pytest.mark.parametrize(
    ("user", "password", "said"),
    [
        (None, None, r"it wants a password and was given none; name .*password_env, password_file"),
        ("kvspark", "wrong", r"it does not know this user with this password; check username"),
        ("nobody", "first", r"it does not know this user with this password; check username"),
        ("kvspark-looker", "third", r"its user may not run mget; allow it as .* \(\+mget\)"),
    ],
    ids=["none", "wrong", "unknown", "may-not"],
)
def test_what_a_user_lacks_is_said_in_words(server, monkeypatch, user, password, said):
    if password is not None:
        monkeypatch.setenv("PASSWORD", password)
    given = {} if password is None else {"username": user, "password_env": "PASSWORD"}
    cache = Cache.connect(server.url, namespace="n", timeout_ms=PATIENT_MS, sealed=False, **given)
    with pytest.raises(SecretError, match=said) as caught:
        cache.check()
    assert len(caught.value.line()) <= 400


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://HERE/99", "it has no database of that number"),
        ("redis+cluster://HERE", "it is no node of a cluster; write redis://"),
        ("redis+sentinel://HERE/main", "it is no sentinel; name the sentinels' port"),
    ],
    ids=["database", "cluster", "sentinel"],
)
def test_a_url_of_another_kind_of_server_is_told_in_words(url, said):
    with running_redis() as redis:
        place = redis.url.removeprefix("redis://")
        cache = Cache.connect(
            url.replace("HERE", place), namespace="n", timeout_ms=PATIENT_MS, sealed=False
        )
        with pytest.raises(SecretError, match=said):
            cache.check()
