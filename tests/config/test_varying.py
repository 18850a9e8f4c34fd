"""SQL that gives another value in another scan is refused when the conf is read, by the function's name."""

from __future__ import annotations

from typing import Any

import pytest

from kvspark.config.job import JobConfig
from kvspark.config.sql.one_number import is_one_number
from kvspark.errors import UsageError


def conf(filter_: str = "n > 0", inputs: Any = None) -> JobConfig:
    return JobConfig.checked(
        run={"name": "a"},
        input={"paths": ["in"], "filter": filter_},
        model={"path": "m"},
        inputs=inputs or {},
        output={"path": "out"},
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("rand() > 0.5", "rand is drawn by chance"),
        ("RAND (3) > 0.5", "rand is drawn by chance"),
        ("uuid() <> id", "uuid is drawn by chance"),
        ("aes_encrypt(a, k) > b", "aes_encrypt is drawn by chance"),
        ("dt = current_date", "current_date is of the day"),
        ("dt = current_date()", "{{ run.date }}"),
        ("ts > now() - interval 1 day", "now is of the day"),
        ("ts > unix_timestamp()", "unix_timestamp is of the day"),
        ("dt = date'today'", "'today' is of the day"),
        ("ts < TIMESTAMP 'now'", "'now' is of the day"),
        ("monotonically_increasing_id() < 5", "of the place where a row lies"),
        ("spark_partition_id() = 0", "of the place where a row lies"),
    ],
)
def test_a_filter_that_varies_is_refused_by_name(text: str, word: str) -> None:
    with pytest.raises(UsageError, match=r"^input\.filter: it may give another value") as caught:
        conf(text)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "rand > 0 and `uuid()` is null",
        "said = 'rand()' -- uuid()",
        "unix_timestamp(ts) > 0",
        "said = 'today'",
        "input_file_name() like '%a.parquet'",
        "dt = '2026-01-01' and crc32(id) % 100 < 10",
    ],
)
def test_a_filter_that_says_the_same_each_time_is_taken(text: str) -> None:
    assert conf(text).input.filter == text


@pytest.mark.parametrize("given", [{"expr": "rand()"}, ["a", {"expr": "rand()"}]])
def test_an_expression_that_varies_is_refused_with_the_conf(given: Any) -> None:
    with pytest.raises(UsageError, match=r"^inputs\.x.*expr 'rand\(\)' may give another value"):
        conf(inputs={"x": given})


@pytest.mark.parametrize(
    "text",
    ["a + 1", "fee / amount", "-x", "(a + b)", "cast(a as float)", "log(a)", "1.5", "a is null"],
)
def test_an_expression_that_is_one_number_is_known(text: str) -> None:
    assert is_one_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a.b",
        "a['k']",
        "array(a + 1)",
        "a || b",
        "transform(a, x -> x + 1)",
        "transform(a,x->x+1) || b",
        "case when a > 1 then array(1) end",
        "cast(a as array<float>)",
        "a::array<float>",
        "coalesce(a, b)",
        "b -> c",
    ],
)
def test_an_expression_that_may_be_an_array_is_left_to_spark(text: str) -> None:
    assert not is_one_number(text)
