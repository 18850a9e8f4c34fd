"""Runs whose rows take the place of those with the same ids; all others stay."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from kvspark.errors import DataError, KvsparkError, OutputError, RunLockedError, UsageError
from kvspark.table.merge.merging import Merge
from kvspark.table.merge.row_ids import RowIds
from tests.table.publish.iceberg_tables import iceberg_table
from tests.table.publish.merging import (
    BY,
    counts,
    ids,
    is_iceberg,
    needless,
    publish,
    publisher_to,
    read,
    scores,
    table,
    written,
)
from tests.table.publish.targets import new_url


@pytest.fixture(params=["delta", "iceberg"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A table that nobody has used."""
    return new_url(request.param, "", tmp_path)


def test_rows_of_the_same_ids_are_replaced_changed_ones_go_and_all_others_stay(
    url: str,
) -> None:
    first = publish(url, "one", table({n: float(n) for n in range(9)}))  # files of 3 rows
    assert counts(first) == (0, 0)
    made = publish(url, "two", table({1: 10.0, 20: 20.0}), ids(1, 7, 99))
    assert counts(made) == (1, 1)
    assert scores(url) == {n: float(n) for n in (0, 2, 3, 4, 5, 6, 8)} | {1: 10.0, 20: 20.0}
    current = publisher_to(url).current()
    assert current is not None
    assert (current.run_id, current.rows) == ("two", 9)


def test_a_run_that_is_repeated_leaves_the_same_table(url: str) -> None:
    publish(url, "one", table({1: 1.0, 2: 2.0, 3: 3.0}))
    for _ in range(2):
        publish(url, "two", table({2: 20.0, 4: 40.0}), ids(2, 3, 4))
        assert scores(url) == {1: 1.0, 2: 20.0, 4: 40.0}


def test_a_run_without_rows_only_removes(url: str) -> None:
    publish(url, "one", table({1: 1.0, 2: 2.0}))
    nothing = table({1: 1.0}).slice(0, 0)
    assert counts(publish(url, "two", nothing, ids(1, 5))) == (0, 1)
    assert scores(url) == {2: 2.0}
    assert counts(publish(url, "three", nothing)) == (0, 0)
    assert scores(url) == {2: 2.0}


def test_a_rollback_brings_the_replaced_rows_back(url: str) -> None:
    nights = [{1: 1.0, 2: 2.0}, {2: 20.0}, {1: 100.0}]
    for number, rows in enumerate(nights):
        publish(url, f"n{number}", table(rows), keep=2)
    publisher = publisher_to(url, keep=2)
    for expected in ({1: 1.0, 2: 20.0}, {1: 100.0, 2: 20.0}):
        with publisher.lock("rollback"):
            publisher.rollback(publisher.versions()[0])
        assert scores(url) == expected
    publish(url, "n3", table({3: 3.0}))
    publish(url, "n4", table({3: 4.0}))
    assert scores(url) == {1: 100.0, 2: 20.0, 3: 4.0}
    assert not needless(url)


ONE_DAY, OTHER_DAY = dt.date(2026, 1, 1), dt.date(1, 1, 1)
FAR_DAYS = pa.array([3_000_000, -800_000, 20_000, -2_000_000], pa.int32()).cast(pa.date32())
"""Of years before 1 and after 9999, which Spark has and Python has not."""


@pytest.mark.parametrize(
    "columns",
    [
        {"id": ["", "a", "a:1", "ü" * 99]},
        {"id": pa.array([1, -1, 0, 127], pa.int8())},
        {"id": [ONE_DAY, OTHER_DAY, dt.date(9999, 12, 31), dt.date(2026, 1, 2)]},
        {"id": FAR_DAYS},
        {"id": [1, 1, 2, 2], "b": FAR_DAYS},
        {"id": [Decimal("1.10"), Decimal("-1.10"), Decimal("0.00"), Decimal("1.11")]},
        {"id": ["1:a", "a", "a", "1"], "b": ["a", "1:a", "a", "1:1"]},
        {"id": [1, 1, 2, 2], "b": [ONE_DAY, OTHER_DAY, ONE_DAY, OTHER_DAY]},
    ],
    ids=[
        "text",
        "small int",
        "date",
        "far date",
        "int and far date",
        "decimal",
        "two texts",
        "int and date",
    ],
)
def test_rows_are_known_again_by_columns_of_these_types(url: str, columns: dict[str, Any]) -> None:
    rows = pa.table(columns).append_column("score", pa.array([1.0, 2.0, 3.0, 4.0]))
    by = tuple(columns)
    publish(url, "one", rows, by=by)
    changed = rows.slice(1, 2).set_column(len(by), "score", pa.array([20.0, 30.0]))
    gone = RowIds(rows.slice(3, 1).select(list(by)))
    assert counts(publish(url, "two", changed, gone, by=by)) == (2, 1)
    found = read(url).sort_by("score")
    assert found.equals(pa.concat_tables([rows.slice(0, 1), changed]).cast(found.schema))


def test_a_row_moves_to_another_partition(url: str) -> None:
    def days(values: dict[int, str | None]) -> pa.Table:
        return pa.table(
            {"id": list(values), "score": [1.0] * len(values), "day": list(values.values())}
        )

    by = ("day",)
    publish(url, "one", days({1: "a/1", 2: "a/1", 3: None, 4: "ü 100%"}), partition_by=by)
    publish(url, "two", days({1: None, 3: "b"}), ids(4), partition_by=by)
    found = read(url).sort_by("id")
    assert found["id"].to_pylist() == [1, 2, 3]
    assert found["day"].to_pylist() == [None, "a/1", "b"]


def test_a_partition_column_is_part_of_an_id(url: str) -> None:
    rows = pa.table({"id": [1, 1], "day": [ONE_DAY, OTHER_DAY], "score": [1.0, 2.0]})
    more: dict[str, Any] = {"by": ("id", "day"), "partition_by": ("day",)}
    publish(url, "one", rows, **more)
    changed = rows.slice(1).set_column(2, "score", pa.array([20.0]))
    assert counts(publish(url, "two", changed, **more)) == (1, 0)
    found = read(url).sort_by("score")
    assert found["score"].to_pylist() == [1.0, 20.0]


def test_files_that_no_kept_version_has_any_more_go_at_once(url: str) -> None:
    # The last run takes the place of rows of the first, whose version the second has ended.
    for number, n in enumerate((1, 2, 1)):
        publish(url, f"n{number}", table({n: float(number)}), keep=0)
        assert not needless(url)


def test_an_empty_text_in_a_partition_column_is_no_id(url: str) -> None:
    more: dict[str, Any] = {"by": ("id", "day"), "partition_by": ("day",)}
    empty = pa.table({"id": [1], "day": [""], "score": [1.0]})
    with pytest.raises(DataError, match=r"column 'day' of output.merge_by is null in 1 row"):
        publish(url, "three", empty, **more)


def test_a_new_column_is_null_in_rows_that_stay(url: str) -> None:
    publish(url, "one", table({1: 1.0, 2: 2.0}))
    publish(url, "two", table({2: 20.0}).append_column("more", pa.array(["a"])))
    found = read(url).sort_by("id")
    assert found.to_pylist() == [
        {"id": 1, "score": 1.0, "more": None},
        {"id": 2, "score": 20.0, "more": "a"},
    ]


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (pa.table({"id": [1, None], "score": [1.0, 2.0]}), DataError, "is null in 1 row of the"),
        (
            table({1: 1.0}).take([0, 0, 0]),
            DataError,
            "id of .* is not unique in the input: 2 rows more",
        ),
        (
            pa.table({"id": [0.5], "score": [1.0]}),
            UsageError,
            "'id' of type (double|float), by which",
        ),
    ],
)
def test_rows_that_are_not_known_again_change_nothing(
    url: str, rows: pa.Table, error: type[KvsparkError], message: str
) -> None:
    with pytest.raises(error, match=rf"{message}.*nothing was (published|written)"):
        publish(url, "zero", rows)
    assert publisher_to(url).current() is None
    if rows["id"].type == pa.int64():
        publish(url, "one", table({1: 1.0}))
        with pytest.raises(error, match=message):
            publish(url, "two", rows)
        assert scores(url) == {1: 1.0}


def test_a_table_without_the_column_is_refused(url: str) -> None:
    publish(url, "one", table({1: 1.0}))
    with pytest.raises(OutputError, match="the table there has no column 'other'"):
        publisher_to(url, ("other",)).check("two")


@pytest.mark.parametrize("is_late", [False, True])
def test_a_table_that_others_change_meanwhile_is_not_merged_into(url: str, is_late: bool) -> None:
    publish(url, "one", table({1: 1.0, 2: 2.0}))
    publisher = publisher_to(url)
    attempt = publisher.prepare("two")
    rows = table({2: 20.0})
    content = written(attempt, rows)
    if is_late:
        content = publisher.merged(attempt, content, Merge(BY))
    if is_iceberg(url):
        iceberg_table(url).overwrite(table({2: 7.0}), "id == 2")
    else:
        DeltaTable(url).update(updates={"score": "7.0"}, predicate="id = 2")

    def finish() -> None:
        publisher.commit(attempt, publisher.merged(attempt, content, Merge(BY)))

    def late() -> None:
        publisher.commit(attempt, content)

    with pytest.raises(RunLockedError, match=r"another program has written.*nothing") as told:
        (late if is_late else finish)()
    assert told.value.exit_code == 75
    publisher.abort(attempt)
    assert scores(url) == {1: 1.0, 2: 7.0}
    publish(url, "two", rows)
    assert scores(url) == {1: 1.0, 2: 20.0}


def test_a_commit_that_is_repeated_does_nothing(url: str) -> None:
    publish(url, "one", table({1: 1.0, 2: 2.0}))
    publisher = publisher_to(url)
    attempt = publisher.prepare("two")
    rows = table({2: 20.0})
    content = publisher.merged(attempt, written(attempt, rows), Merge(BY, ids(1)))
    for each in (publisher, publisher, publisher_to(url)):
        each.commit(attempt, content)
    assert scores(url) == {2: 20.0}
    assert len(publisher.versions()) == 1
