"""What the log says of a file holds for each of its rows."""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.errors import OutputError
from kvspark.table.delta.partition_values import partition_values
from kvspark.table.delta.statistics import statistics
from kvspark.table.file_written import FileWritten
from kvspark.table.partition_folders import PartitionFolders
from kvspark.table.place.local_place import LocalPlace
from kvspark.table.sink import Sink

UTC = dt.timezone.utc
TIMES = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30))  # noqa: DTZ001 - of both kinds
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "long": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "byte": (pa.int8(), st.integers(-128, 127)),
    "text": (pa.string(), st.text(max_size=100)),
    "day": (pa.date32(), st.dates()),
    "utc": (pa.timestamp("us", "UTC"), TIMES.map(lambda when: when.replace(tzinfo=UTC))),
    "local": (pa.timestamp("us"), TIMES),
    "float": (pa.float64(), st.floats()),
    "flag": (pa.bool_(), st.booleans()),
    "price": (pa.decimal128(10, 2), st.decimals(-1000, 1000, places=2)),
    "raw": (pa.binary(), st.binary(max_size=5)),
    "inside": (pa.list_(pa.int64()), st.lists(st.integers(0, 9), max_size=3)),
}
SCHEMA = pa.schema({name: kind for name, (kind, _) in COLUMNS.items()})
ROWS = st.lists(
    st.tuples(*(st.none() | values for _, values in COLUMNS.values())), min_size=1, max_size=6
)


def written(rows: Sequence[Sequence[Any]], schema: pa.Schema = SCHEMA) -> FileWritten:
    columns = list(zip(*rows, strict=True))
    arrays = [pa.array(column, each.type) for column, each in zip(columns, schema, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        sink = Sink(LocalPlace(folder), "part", schema)
        (file,) = sink.write([pa.record_batch(arrays, schema=schema)])
    return file


def in_order(value: Any, name: str) -> Any:
    """`value` as bounds are compared."""
    if name == "text":
        return value.encode()
    if name in {"utc", "local"} and isinstance(value, str):
        assert value.endswith("Z") == (name == "utc")
        when = dt.datetime.fromisoformat(value.removesuffix("Z"))
        return when.replace(tzinfo=UTC if name == "utc" else None)
    return dt.date.fromisoformat(value) if name == "day" and isinstance(value, str) else value


@given(ROWS)
def test_each_row_is_within_the_bounds_and_each_null_is_counted(rows: list[Any]) -> None:
    said = json.loads(statistics(written(rows), SCHEMA, ()))
    assert said["numRecords"] == len(rows)
    for place, name in enumerate(SCHEMA.names):
        values = [row[place] for row in rows]
        if name != "inside":
            assert said["nullCount"][name] == values.count(None)
        for value in filter(lambda each: each is not None, values):
            if name in said["minValues"]:
                assert in_order(said["minValues"][name], name) <= in_order(value, name)
            if name in said["maxValues"]:
                assert in_order(said["maxValues"][name], name) >= in_order(value, name)


def test_what_helps_readers_is_said_and_what_could_mislead_them_is_not() -> None:
    when = dt.datetime(1969, 12, 31, 23, 59, 59, 999_001, UTC)
    row = [7, 1, "x" * 65, dt.date(2026, 1, 2), when, when.replace(tzinfo=None)]
    row += [float("nan"), True, Decimal("1.50"), b"x", [1]]
    said = json.loads(statistics(written([row]), SCHEMA, ()))
    assert said["minValues"] == {
        "long": 7,
        "byte": 1,
        "text": "x" * 64,
        "day": "2026-01-02",
        "utc": "1969-12-31T23:59:59.999Z",
        "local": "1969-12-31T23:59:59.999",
    }
    assert said["maxValues"] == {
        "long": 7,
        "byte": 1,
        "day": "2026-01-02",
        "utc": "1970-01-01T00:00:00.000Z",
        "local": "1970-01-01T00:00:00.000",
    }


def test_a_column_whose_name_is_the_path_of_another_has_no_statistics() -> None:
    schema = pa.schema([("a", pa.struct([("b", pa.int64())])), ("a.b", pa.int64())])
    said = json.loads(statistics(written([[{"b": 1}, 9]], schema), schema, ()))
    assert said == {"numRecords": 1, "minValues": {}, "maxValues": {}, "nullCount": {}}


def test_no_more_than_the_first_columns_have_statistics() -> None:
    schema = pa.schema([(f"c{n}", pa.int64()) for n in range(40)])
    said = json.loads(statistics(written([range(40)], schema), schema, ("c0",)))
    assert list(said["minValues"]) == [f"c{n}" for n in range(1, 33)]


@given(st.none() | st.text(), st.none() | st.dates(), st.none() | st.booleans())
def test_the_log_has_the_values_of_the_folder(
    text: str | None, day: dt.date | None, flag: bool | None
) -> None:
    kinds = {"a=b%": pa.string(), "day": pa.date32(), "flag": pa.bool_(), "id": pa.int64()}
    schema = pa.schema(kinds)
    by = tuple(schema.names[:3])
    batch = pa.record_batch([[text], pa.array([day]), pa.array([flag], pa.bool_()), [1]], schema)
    ((folder, _),) = PartitionFolders(schema, by).split(batch.cast(schema))
    assert partition_values(folder, schema) == {
        "a=b%": text or None,
        "day": None if day is None else day.isoformat(),
        "flag": None if flag is None else str(flag).lower(),
    }


def test_a_date_that_the_log_cannot_say_is_refused() -> None:
    schema = pa.schema([("day", pa.date32()), ("id", pa.int64())])
    with pytest.raises(OutputError, match="after year 9999"):
        partition_values("day=+10000-01-01", schema)
