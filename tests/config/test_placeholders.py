"""The date of a run in what it reads and writes: given, never guessed."""

from __future__ import annotations

from typing import Any

import pytest

from kvspark.config.job import JobConfig
from kvspark.errors import UsageError


def job(run: dict[str, Any], **values: Any) -> JobConfig:
    conf = {
        "input": {"paths": ["/in/dt={{ run.date }}"]},
        "model": {"path": "/bundle"},
        "output": {"path": "/out"},
        **values,
    }
    return JobConfig.checked(run={"name": "nightly", **run}, **conf)


def test_the_date_stands_wherever_rows_are_chosen() -> None:
    config = job(
        {"logical_date": "2026-03-01", "id": "night"},
        input={
            "paths": ["/in/{{run.date}}", "/in/{{ run.date - 1d }}"],
            "partitions": {"dt": "{{ run.date+1d }}"},
            "filter": "seen < date'{{ run.date }}'",
        },
        inputs={"x": ["a", {"expr": "datediff('{{ run.date }}', since)", "cast": "float"}]},
        output={"path": "/out/{{ run.id }}"},
    )
    assert config.input.paths == ("/in/2026-03-01", "/in/2026-02-28")
    assert config.input.partitions == {"dt": "2026-03-02"}
    assert config.input.filter == "seen < date'2026-03-01'"
    assert config.inputs["x"].parts[1].expr == "datediff('2026-03-01', since)"
    assert config.output.path == "/out/night"


def test_a_schedulers_time_stamp_has_the_day_that_is_written_in_it() -> None:
    config = job({"logical_date": "2026-01-01T23:30:00-05:00"})
    assert config.input.paths == ("/in/dt=2026-01-01",)


def test_another_date_is_another_run() -> None:
    ids = {job({"logical_date": day}).run_id() for day in ("2026-01-01", "2026-01-02")}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("run", "path", "message"),
    [
        (
            {},
            "/in/{{ run.date }}",
            r"input.paths.0: \{\{ run.date \}\} has no value: the run has no date; give one, the same for a rerun: --run",
        ),
        (
            {"logical_date": "2026-02-30"},
            "/in/{{ run.date }}",
            "run.logical_date: '2026-02-30' is no date",
        ),
        ({"logical_date": "today"}, "/in/{{ run.date }}", "'today' is no date"),
        (
            {},
            "/in/{{ run.dat }}",
            r"unknown placeholder \{\{ run.dat \}\}; did you mean \{\{ run.date",
        ),
        ({}, "/in/{{ ds }}", r"unknown placeholder \{\{ ds \}\}; known: \{\{ run.date \}\}"),
        ({}, "/in/{{ run.id }}", "--run-id 2026-01-31"),
        ({"logical_date": "9999-12-31"}, "/in/{{ run.date + 1d }}", "is no date"),
        ({"logical_date": "2026-01-01"}, "/in/{{ run.date", r"\{\{ begins a placeholder and"),
        ({"logical_date": "2026-01-01"}, "/in/{ run.date }", "begins a placeholder and"),
        ({"logical_date": "2026-01-01"}, "/in/${run.date}", "begins a placeholder and"),
        ({"logical_date": "2026-01-01"}, "/in/{{}}", "unknown placeholder"),
    ],
    ids=["none", "feb", "word", "near", "unknown", "id", "end", "open", "one", "shell", "empty"],
)
def test_a_date_that_nobody_gave_is_an_error(run: dict[str, str], path: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        job(run, input={"paths": [path]})


def test_sparks_own_braces_are_left_alone() -> None:
    config = job({"logical_date": "2026-01-01"}, spark={"conf": {"spark.x": "{{APP_ID}}"}})
    assert config.spark.conf["spark.x"] == "{{APP_ID}}"


@pytest.mark.parametrize(
    ("values", "trail"),
    [
        ({"run": {"name": "n-{{ run.date }}"}}, "run.name"),
        ({"run": {"name": "n", "id": "{{ run.date }}"}}, "run.id"),
        ({"output": {"path": "/out", "partition_by": ["{{run.date}}"]}}, "output.partition_by.0"),
        ({"outputs": {"y": "y_{{ run.date }}"}}, "outputs.y"),
        ({"cache": "embedded:/c/{{ run.id }}"}, "cache.url"),
        ({"spark": {"app_name": "a {{ run.date }}"}}, "spark.app_name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_date_where_none_is_filled_in_is_refused(values: dict[str, Any], trail: str) -> None:
    conf = {
        "run": {"name": "n"},
        "input": {"paths": ["/in"]},
        "model": {"path": "/bundle"},
        "output": {"path": "/out"},
    }
    with pytest.raises(UsageError, match=rf"^{trail}: .* is filled in only in input.paths, "):
        JobConfig.checked(**{**conf, **values})


def test_json_in_a_filter_is_no_placeholder() -> None:
    config = job(
        {"logical_date": "2026-01-01"},
        input={"paths": ["/in"], "filter": """a = '{"b":{"c":1}}'"""},
    )
    assert config.input.filter == """a = '{"b":{"c":1}}'"""
