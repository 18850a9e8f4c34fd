from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvspark.config.cache import CacheConfig
from kvspark.errors import StoreError, StoreRefusedError
from kvspark.store.cluster.cluster import ClusterStore
from kvspark.store.endpoint import Endpoint
from kvspark.store.opening.url import open_store
from kvspark.store.redis.server import RedisStore
from tests.faults.matrix import covers
from tests.redis_cluster import running_cluster
from tests.redis_server import PATIENT_MS, RedisAddress, has_tls, redis_binary, running_redis
from tests.store.calls import get_many, ping, set_many

pytestmark = [
    pytest.mark.redis,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates"),
]


def certificate(folder: Path, name: str, *, host: str) -> Path:
    """A certificate (and key) of its own authority for `host`."""
    pem = folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName={host}"]
    command += ["-keyout", str(folder / f"{name}.key"), "-out", str(pem)]
    subprocess.run(command, check=True, capture_output=True)
    return pem


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("tls")
    certificate(folder, "right", host="IP:127.0.0.1")
    certificate(folder, "elsewhere", host="DNS:elsewhere.example")
    return folder


@pytest.fixture(params=["right", "elsewhere"])
def tls_server(request, folder) -> Iterator[tuple[RedisAddress, str]]:
    pem, key = folder / f"{request.param}.pem", folder / f"{request.param}.key"
    options = ["--tls-cert-file", str(pem), "--tls-key-file", str(key)]
    options += ["--tls-ca-cert-file", str(pem), "--tls-auth-clients", "no"]
    with running_redis(*options, with_tls=True) as server:
        yield server, request.param


@covers("F27")
def test_a_certificate_is_trusted_only_from_its_authority_and_for_its_host(tls_server, folder):
    server, name = tls_server

    def get(ca_file: str | None, *, host: str = "127.0.0.1") -> None:
        endpoint = Endpoint(host, server.port, is_tls=True, tls_ca_file=ca_file)
        get_many(RedisStore(endpoint), [b"a"])

    own = str(folder / f"{name}.pem")
    other = str(folder / ("elsewhere.pem" if name == "right" else "right.pem"))
    for ca_file in (None, other):
        with pytest.raises(StoreRefusedError, match=r"(?i)certificate"):
            get(ca_file)
    if name == "right":
        get(own)
        assert server.count("mget") == 1
    else:
        with pytest.raises(StoreRefusedError, match=r"(?i)certificate"):
            get(own)
        assert server.count("mget") == 0


@covers("F27")
def test_a_tls_port_is_never_spoken_to_in_plain(tls_server):
    server, _ = tls_server
    with pytest.raises(StoreError):
        get_many(RedisStore(Endpoint("127.0.0.1", server.port)), [b"a"], timeout_s=0.3)
    assert server.count("mget") == 0


def test_every_node_of_a_cluster_is_checked(folder):
    if not has_tls(redis_binary()):
        pytest.skip("this redis-server was built without TLS, and nodes name their own ports")
    pem, key = folder / "right.pem", folder / "right.key"
    options = ["--tls-cert-file", str(pem), "--tls-key-file", str(key), "--tls-cluster", "yes"]
    options += ["--tls-ca-cert-file", str(pem), "--tls-auth-clients", "no"]
    with running_cluster(3, *options, with_tls=True) as cluster:

        def connect(ca_file: str) -> ClusterStore:
            config = CacheConfig.checked(
                url=cluster.url, namespace="n", tls_ca_file=ca_file, timeout_ms=PATIENT_MS
            )
            store = open_store(config)
            assert isinstance(store, ClusterStore)
            return store

        entries = [(b"%d" % row, b"x" * row) for row in range(300)]
        store = connect(str(pem))
        assert set_many(store, entries, ttl_s=60, timeout_s=5) == 300
        assert get_many(store, [name for name, _ in entries]) == [value for _, value in entries]
        assert all(node.count("mget") for node in cluster.nodes)
        with pytest.raises(StoreRefusedError, match=r"(?i)certificate"):
            ping(connect(str(folder / "elsewhere.pem")), timeout_s=5)
