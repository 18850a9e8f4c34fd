from __future__ import annotations

import socket
import ssl

import pytest
import redis

from kvspark.errors import StoreFullError, StoreRefusedError, StoreUnavailableError
from kvspark.store.endpoint import Endpoint
from kvspark.store.redis_error import store_error


def raised(exc: Exception, cause: BaseException | None = None) -> Exception:
    exc.__context__ = cause
    return exc


UNAVAILABLE, FULL, REFUSED = StoreUnavailableError, StoreFullError, StoreRefusedError

EXPECTED = {
    "AskError": REFUSED,
    "AuthenticationError": REFUSED,
    "AuthenticationWrongNumberOfArgsError": REFUSED,
    "AuthorizationError": REFUSED,
    "BusyLoadingError": UNAVAILABLE,
    "ChildDeadlockedError": UNAVAILABLE,
    "ClusterCrossSlotError": REFUSED,
    "ClusterDownError": UNAVAILABLE,
    "ClusterError": UNAVAILABLE,
    "ConnectionError": UNAVAILABLE,
    "CrossSlotTransactionError": UNAVAILABLE,
    "DataError": UNAVAILABLE,
    "ExecAbortError": UNAVAILABLE,
    "ExternalAuthProviderError": UNAVAILABLE,
    "IncorrectPolicyType": UNAVAILABLE,
    "InvalidPipelineStack": UNAVAILABLE,
    "InvalidResponse": UNAVAILABLE,
    "LockError": UNAVAILABLE,
    "LockNotOwnedError": UNAVAILABLE,
    "MasterDownError": UNAVAILABLE,
    "MaxConnectionsError": UNAVAILABLE,
    "ModuleError": UNAVAILABLE,
    "MovedError": REFUSED,
    "NoPermissionError": REFUSED,
    "NoScriptError": UNAVAILABLE,
    "NoSuchFieldsetError": UNAVAILABLE,
    "OutOfMemoryError": FULL,
    "PubSubError": UNAVAILABLE,
    "ReadOnlyError": FULL,
    "RedisClusterException": UNAVAILABLE,
    "RedisError": UNAVAILABLE,
    "ResponseError": UNAVAILABLE,
    "SlotNotCoveredError": UNAVAILABLE,
    "TimeoutError": UNAVAILABLE,
    "TryAgainError": UNAVAILABLE,
    "WatchError": UNAVAILABLE,
}
"""A class that a new version of redis-py brings fails the test until it has its row."""


def redis_error_classes():
    return [
        each
        for each in vars(redis.exceptions).values()
        if isinstance(each, type) and issubclass(each, Exception)
    ]


@pytest.mark.parametrize("kind", redis_error_classes(), ids=lambda kind: kind.__name__)
def test_every_error_of_redis_py_has_its_meaning(kind):
    exc = kind("1 127.0.0.1:7000") if issubclass(kind, redis.exceptions.AskError) else kind("said")
    meant = store_error(exc, "redis://host:1")
    assert type(meant) is EXPECTED[kind.__name__]
    assert "redis://host:1" in str(meant)


def test_all_classes_of_the_table_exist():
    assert {kind.__name__ for kind in redis_error_classes()} >= set(EXPECTED)


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (redis.ResponseError("MISCONF Redis is configured to save"), FULL),
        (redis.ResponseError("NOREPLICAS Not enough good replicas"), FULL),
        (redis.ResponseError("BUSY Redis is busy running a script"), UNAVAILABLE),
        (redis.ResponseError("WRONGTYPE Operation against a key"), REFUSED),
        (redis.ResponseError("unknown command 'X', with args beginning with: 'key'"), REFUSED),
        (redis.ConnectionError("max number of clients reached"), UNAVAILABLE),
        (raised(redis.ConnectionError("x"), ssl.SSLCertVerificationError("verify")), REFUSED),
        (raised(redis.ConnectionError("x"), ssl.SSLError("wrong version number")), REFUSED),
        (raised(redis.ConnectionError("x"), ssl.SSLEOFError("eof")), UNAVAILABLE),
        (raised(redis.ConnectionError("x"), ConnectionResetError()), UNAVAILABLE),
        (ssl.SSLCertVerificationError("verify"), REFUSED),
        (OSError("no route"), UNAVAILABLE),
        (socket.gaierror("no such host"), UNAVAILABLE),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), UNAVAILABLE),
        (RuntimeError("anything else"), UNAVAILABLE),
    ],
)
def test_errors_without_a_class_of_their_own_are_told_by_text_and_cause(exc, kind):
    assert type(store_error(exc, "there")) is kind


def test_no_argument_of_a_command_gets_into_a_message():
    exc = redis.ResponseError("unknown command 'MGET', with args beginning with: 'secret-row'")
    assert "secret-row" not in str(store_error(exc, "there"))


def test_a_password_is_in_no_text_about_an_endpoint():
    endpoint = Endpoint("host", password=b"hush")
    assert "hush" not in repr(endpoint) + str(endpoint)
