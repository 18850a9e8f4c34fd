"""What Spark's exceptions mean."""

from __future__ import annotations

from typing import Any

import pytest

from kvspark import errors
from kvspark.config.job import JobConfig
from kvspark.errors import DataError, KvsparkError, OutputError
from kvspark.spark.session.failure import explained, expressions_of

OURS = [
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, KvsparkError)
]


@pytest.mark.parametrize("name", OURS)
def test_an_error_of_ours_survives_the_way_from_a_worker(name: str) -> None:
    text = f"Job aborted\nTraceback:\n  File x\nkvspark.errors.{name}: what: 1\n"
    error = explained(RuntimeError(text))
    assert type(error) is getattr(errors, name)
    assert str(error) == "what: 1"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("java.io.IOException: No space left on device", OutputError, "make room"),
        ("java.io.IOException: File too large", OutputError, "file too large while the output"),
        (
            "[FAILED_READ_FILE.NO_HINT] Encountered error while reading file file:/d/1.parquet. ...",
            DataError,
            "/d/1.parquet cannot be read",
        ),
        (
            "[FAILED_READ_FILE.NO_HINT] Encountered error while reading file file:///a%20b/1.csv.gz.  SQLSTATE: KD001",
            DataError,
            "/a b/1.csv.gz cannot be read",
        ),
        (
            "while reading file file:///d/1:2.csv. .. Relative path in absolute URI: .1:2.csv.crc",
            DataError,
            "/d/1:2.csv has a colon in its name",
        ),
        ("Python worker exited unexpectedly (crashed): EOF", KvsparkError, "worker died"),
        (
            "Task 3 in stage 5.0 failed 4 times, ... Python worker exited unexpectedly (crashed)",
            KvsparkError,
            "died in every attempt (4) of partition 3",
        ),
        (
            "[INVALID_ARRAY_INDEX_IN_ELEMENT_AT] The index 7 is out of bounds. SQLSTATE: 22003",
            DataError,
            "has no value for a row (INVALID_ARRAY_INDEX_IN_ELEMENT_AT)",
        ),
        (
            "[CANNOT_PARSE_TIMESTAMP] Text 'a name' could not be parsed. SQLSTATE: 22007",
            DataError,
            "has no value for a row (CANNOT_PARSE_TIMESTAMP)",
        ),
        (
            "[USER_RAISED_EXCEPTION] a name SQLSTATE: P0001",
            DataError,
            "has no value for a row (USER_RAISED_EXCEPTION)",
        ),
        (
            "Python worker process terminated due to idle timeout (timeout: 600 seconds):",
            KvsparkError,
            "said nothing for 600 s",
        ),
    ],
    ids=[
        "full",
        "limit",
        "page",
        "cut off",
        "colon",
        "crash",
        "crash of a task",
        "index",
        "time",
        "raised",
        "silence",
    ],
)
def test_what_spark_says_is_told_in_one_line(
    text: str, error: type[KvsparkError], message: str
) -> None:
    made = explained(RuntimeError(text))
    assert type(made) is error
    assert message in str(made)
    assert "a name" not in str(made)  # which a row held


def test_what_has_no_value_is_what_the_conf_asks_for() -> None:
    named: dict[str, dict[str, Any]] = {
        "input.sql": {"input": {"sql": "SELECT 1"}},
        "an expression of inputs": {"inputs": {"x": {"expr": "a / b"}}},
        "input.filter": {"input": {"paths": ["/i"], "filter": "a > 0"}},
    }
    for name, sections in named.items():
        config = JobConfig.checked(
            **{"input": {"paths": ["/i"]}, "inputs": {"x": "a"}, **sections},
            run={"name": "n"},
            model={"path": "/m"},
            output={"path": "/o"},
        )
        error = explained(RuntimeError("[CAST_INVALID_INPUT] 'a name'"), expressions_of(config))
        assert str(error).startswith(f"{name} has no value for a row (CAST_INVALID_INPUT)")


def test_what_we_do_not_know_stays_what_it_is() -> None:
    assert explained(RuntimeError("kvspark.errors.NoSuchError: x")) is None
    assert explained(RuntimeError("something else")) is None
