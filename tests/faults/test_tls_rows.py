"""TLS that cannot be trusted stops a run before it begins, and is never left for plain text."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kvspark.cache.cache import Cache
from kvspark.errors import SecretError
from tests.faults.conftest import Fired
from tests.faults.matrix import covers
from tests.redis_server import RedisAddress, running_redis

pytestmark = pytest.mark.redis

HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
ELSEWHERE = x509.DNSName("elsewhere.example")


def certificate(folder: Path, name: str, host: x509.GeneralName, *, days: int) -> Path:
    """A certificate, and its key beside it, that is its own authority and ends in `days`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / f"{name}.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem.with_suffix(".key").write_bytes(private)
    return pem


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    certificate(folder, "right", HERE, days=1)
    certificate(folder, "other", HERE, days=1)
    certificate(folder, "elsewhere", ELSEWHERE, days=1)
    certificate(folder, "expired", HERE, days=-1)
    return folder


def check(server: RedisAddress, ca_file: Path | None) -> None:
    """Checks the store as a run does before it begins."""
    url = f"rediss://127.0.0.1:{server.port}"
    trusted = None if ca_file is None else str(ca_file)
    cache = Cache.connect(url, namespace="faults", tls_ca_file=trusted, timeout_ms=3_000)
    try:
        assert cache.check() is None
    finally:
        cache.close()


@covers("F27")
@pytest.mark.parametrize(
    ("served", "trusted", "message"),
    [
        ("right", None, "certificate"),
        ("right", "other", "certificate"),
        ("elsewhere", "elsewhere", "certificate"),
        ("expired", "expired", "certificate"),
        (None, "right", "speaks no TLS"),
    ],
    ids=["no authority", "another authority", "another host", "expired", "a port without TLS"],
)
def test_what_is_not_trusted_stops_the_run(
    folder: Path, fired: Fired, served: str | None, trusted: str | None, message: str
) -> None:
    options: list[str] = []
    if served is not None:
        pem = folder / f"{served}.pem"
        options = ["--tls-cert-file", str(pem), "--tls-key-file", str(pem.with_suffix(".key"))]
        options += ["--tls-ca-cert-file", str(pem), "--tls-auth-clients", "no"]
    with running_redis(*options, with_tls=served is not None) as server:
        with pytest.raises(SecretError, match=f"(?i){message}"):
            check(server, None if trusted is None else folder / f"{trusted}.pem")
        fired("F27", 1)
        assert server.count("mget") == server.count("set") == 0
        if served == "right":
            check(server, folder / "right.pem")
            assert server.count("set") == 1
