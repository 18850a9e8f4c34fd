"""`Cache.connect` takes every key of the conf's `cache` section, under the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvspark.cache.cache import Cache
from kvspark.config.cache import CacheConfig
from kvspark.config.reading.cache_options import CacheOptions, cache_config
from kvspark.config.sealing import SealingConfig
from kvspark.config.section.removed import REMOVED
from kvspark.errors import UsageError

GIVEN: dict[str, Any] = {
    "ttl_s": 60.0,
    "budget_bytes": 10**6,
    "l1_bytes": 4096,
    "cold": "file:///tmp/cold",
    "timeout_ms": 5,
    "overlap_bytes": 4096,
    "lease_from_ms": 50.0,
    "username": "job",
    "password_env": "A",
    "password_file": None,
    "secret_env": "B",
    "secret_file": None,
    "tenant": "t",
    "subject": "customer",
    "sealed": False,
    "sealing": {"key_env": "C"},
    "tls_ca_file": "ca.pem",
    "required": True,
}
"""A value for each key that is not its default, but for the second of a pair."""


def test_every_key_of_the_section_is_an_option_and_means_the_same():
    short = set(SealingConfig.model_fields)
    assert set(CacheOptions.__annotations__) - short == {*CacheConfig.model_fields} - {
        "url",
        "namespace",
    }
    assert set(GIVEN) == set(CacheOptions.__annotations__) - short
    made = cache_config("redis://h", "n", GIVEN)
    assert made == CacheConfig.checked(url="redis://h", namespace="n", **GIVEN)
    for name, value in GIVEN.items():
        if value is not None:
            assert getattr(made, name) != CacheConfig.model_fields[name].default, name


def test_keys_of_sealing_are_options_too_and_paths_may_be_paths():
    made = cache_config("redis://h", "n", {"key_file": Path("ring"), "key_env": None})
    assert made.sealing == SealingConfig(key_file="ring")
    assert cache_config("redis://h", "n", {"tls_ca_file": Path("a")}).tls_ca_file == "a"
    made = cache_config("redis://h", "n", {"key_command": ("print-keys", "x")})
    assert made.sealing.key_command == ("print-keys", "x")
    assert cache_config("redis://h", "n", {"sealing": SealingConfig(key_env="E")}) == cache_config(
        "redis://h", "n", {"key_env": "E"}
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ttl": 1}, "Cache.connect takes no ttl; did you mean ttl_s?"),
        ({"keyfile": "x"}, "Cache.connect takes no keyfile; did you mean key_file?"),
        ({"zzz": 1}, "Cache.connect takes no zzz; docs/conf.md lists the keys of cache"),
        ({"ttl_s": "1h"}, "ttl_s: expected a number, got text; write it without quotes or units"),
        ({"key_file": "x", "sealing": {}}, "sealing and key_file are both given; keep one"),
        ({"key_file": "x", "key_env": "Y"}, "key_file, key_env and key_command: keep one"),
        ({"doorkeeper_bytes": 65536}, "doorkeeper_bytes is gone: remove it; where most rows come"),
    ],
)
def test_an_option_that_is_wrong_is_told_in_one_line(options: dict[str, Any], said: str):
    with pytest.raises(UsageError) as caught:
        Cache.connect("memory://", namespace="n", **options)
    assert str(caught.value).startswith(said)
    assert caught.value.exit_code == 64


@pytest.mark.parametrize("key", [key for key in REMOVED if key.startswith("cache.")])
def test_what_is_gone_from_the_conf_is_gone_here(key: str):
    name = key.removeprefix("cache.")
    gone: Any = {name: 1}
    with pytest.raises(UsageError, match=f"^{name} is gone"):
        Cache.connect("memory://", namespace="n", **gone)
