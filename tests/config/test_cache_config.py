"""The cache section holds references to secrets and no secret."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kvspark.config.cache import CacheConfig
from kvspark.errors import SecretError, UsageError


def checked(**values: Any) -> CacheConfig:
    return CacheConfig.checked(**{"url": "redis://localhost", "namespace": "n", **values})


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://10.0.0.1:6380/2?protocol=3",
        "rediss://cache.example:6379?ssl_cert_reqs=required",
        "unix:///run/redis.sock",
        "memory://",
        "embedded:build/cache",
        "embedded:/tmp/a@b",
        "redis+cluster://a:1,b:2",
    ],
)
def test_a_url_without_credentials_is_taken(url: str) -> None:
    assert checked(url=url).url == url


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@localhost",
        "redis://user:hunter2@localhost:6379/0",
        "redis://hunter2@localhost",
        "redis://:12/hunter2@localhost",
        "redis://:hun#ter2@localhost",
        "redis://:hun?ter2@localhost",
        "rediss://localhost?password=hunter2",
        "redis://localhost?Username=hunter2",
        "unix://user:hunter2@/run/redis.sock",
        "redis+sentinel://:hunter2@a:1,b:2/main",
    ],
)
def test_a_url_with_credentials_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked(url=url)
    assert "hunter2" not in str(caught.value)
    assert "hun" not in str(caught.value).replace("hundred", "")
    assert caught.value.exit_code == 64


@pytest.mark.parametrize(
    "query", ["ssl_cert_reqs=none", "ssl_cert_reqs=optional", "ssl_check_hostname=false"]
)
def test_tls_that_checks_nothing_is_refused(query: str) -> None:
    with pytest.raises(UsageError, match="TLS without checking the certificate"):
        checked(url=f"rediss://localhost?{query}")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"doorkeeper_bytes": 2**20},
            "cache.doorkeeper_bytes is gone: remove it; where most rows come once, set maxmemory-policy allkeys-lfu",
        ),
        ({"url": "localhost"}, "url: a URL starts with its kind"),
        ({"url": "http://h:1"}, "url: http: is no store; write redis://HOST:PORT, rediss"),
        ({"url": "valkey://h"}, "valkey: is no store; write redis://HOST:PORT"),
        ({"url": "redis:/h"}, "url: two slashes are missing; write redis://..."),
        ({"url": "unix:/run/redis.sock"}, "url: two slashes are missing; write unix://..."),
        ({"url": "redis://localhost:abc"}, "url: this is not a URL"),
        ({"url": "redis://[::1"}, "url: this is not a URL"),
        ({"url": ""}, "url: expected something that is not empty, got text"),
        ({"namespace": ""}, "namespace: expected something that is not empty, got text"),
        ({"namespace": None}, "namespace: expected text, got nothing"),
        ({"ttl_s": 0}, "ttl_s: expected more than 0, got 0"),
        ({"ttl_s": "1h"}, "ttl_s: expected a number, got text; write it without quotes or units"),
        ({"ttl_s": float("inf")}, "ttl_s: expected at most 1e+10, got inf"),
        ({"ttl_s": 10**400}, "ttl_s: expected a number, got a larger number"),
        ({"timeout_ms": 2**62}, "timeout_ms: expected at most 8.64e+07, got 4.61169e+18"),
        (
            {"budget_bytes": 10**400},
            "budget_bytes: expected at most 9,223,372,036,854,775,807, got",
        ),
        ({"timeout_ms": 0.5}, "timeout_ms: expected a whole number, got 0.5"),
        ({"timeout_ms": True}, "timeout_ms: expected a whole number, got true or false"),
        ({"required": "no"}, "required: expected true or false, got text"),
        ({"tttl": 1}, "unknown key tttl; did you mean ttl_s?"),
        ({"password_env": "A", "password_file": "b"}, "password_env and password_file are both"),
        ({"secret_env": "A", "secret_file": "b"}, "secret_env and secret_file are both"),
    ],
)
def test_a_wrong_value_is_told_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked(**values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_constructor_of_pydantic_never_repeats_the_value() -> None:
    with pytest.raises(ValidationError) as caught:
        CacheConfig(url="redis://:hunter2@localhost", namespace="n")
    assert "hunter2" not in str(caught.value)


def test_a_cache_config_is_frozen_and_survives_pickle() -> None:
    config = checked(password_env="PW")
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(ValidationError):
        config.url = "redis://elsewhere"  # type: ignore[misc] # That is what is tested.


def test_secrets_are_read_when_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_text("of-the-namespace\n")
    file.chmod(0o600)
    config = checked(password_env="KVSPARK_TEST_PW", secret_file=str(file))
    with pytest.raises(SecretError, match="KVSPARK_TEST_PW"):
        config.password()
    monkeypatch.setenv("KVSPARK_TEST_PW", "hunter2")
    assert config.password() == b"hunter2"
    assert config.secret() == b"of-the-namespace"
    assert "hunter2" not in repr(config)
    assert b"hunter2" not in pickle.dumps(config)


def test_no_secret_is_named_by_default() -> None:
    assert checked().password() is None
    assert checked().secret() is None
