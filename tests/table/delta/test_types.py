"""Which columns a Delta table can have, and which may stand in a column that is there."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema

from kvspark.errors import OutputError
from kvspark.table.delta.columns import TableColumns, check_table, columns_for
from kvspark.table.delta.types import fields_of, fits, relaxed, worded
from tests.table.publish.deltas import publish, publisher_to

WHEN = dt.datetime(2026, 1, 2, 3, 4, 5, 678_901)  # noqa: DTZ001 - a time of no zone
UTC = WHEN.replace(tzinfo=dt.timezone.utc)
PAIR = pa.struct([pa.field("a", pa.int32(), nullable=False), ("b", pa.list_(pa.string()))])
MATRIX: dict[str, tuple[pa.DataType, Any]] = {
    "flag": (pa.bool_(), True),
    "tiny": (pa.int8(), -128),
    "small": (pa.int16(), -32768),
    "int": (pa.int32(), 2**31 - 1),
    "long": (pa.int64(), -(2**63)),
    "float": (pa.float32(), 0.5),
    "double": (pa.float64(), 1e300),
    "text": (pa.string(), "ü\n\0"),
    "raw": (pa.binary(), b"\xff\x00"),
    "day": (pa.date32(), dt.date(1, 1, 1)),
    "utc": (pa.timestamp("us", "UTC"), UTC),
    "local": (pa.timestamp("us"), WHEN),
    "price": (pa.decimal128(5, 2), Decimal("-123.45")),
    "large": (pa.decimal128(38, 18), Decimal("-12345678901234567890.123456789012345678")),
    "list": (
        pa.list_(pa.field("element", pa.float32(), nullable=False)),
        [0.5, 1.5],
    ),
    "map": (pa.map_(pa.string(), PAIR), [("k", {"a": 1, "b": ["x", None]})]),
    "struct": (pa.struct([("pair", PAIR), ("when", pa.timestamp("us", "UTC"))]), None),
}
SCHEMA = pa.schema({name: kind for name, (kind, _) in MATRIX.items()})


def test_a_value_of_each_type_comes_back(tmp_path: Path) -> None:
    values = {name: pa.array([None, value], kind) for name, (kind, value) in MATRIX.items()}
    table = pa.table(values, SCHEMA)
    publish(publisher_to(tmp_path / "table"), "one", table)
    found = DeltaTable(str(tmp_path / "table"))
    assert found.to_pyarrow_table().to_pylist() == table.to_pylist()
    assert found.protocol().reader_features == ["timestampNtz"]


def test_the_client_reads_each_type_as_it_would_write_it() -> None:
    """But for nulls, which Spark allows all over in a table that it makes."""
    made = columns_for(SCHEMA, (), None)
    theirs = json.loads(Schema.from_arrow(SCHEMA).to_json())["fields"]
    assert made == [
        {**each, "type": relaxed(each["type"]), "nullable": True, "metadata": {}} for each in theirs
    ]
    assert all(fits(a["type"], b["type"]) for a, b in zip(made, fields_of(SCHEMA), strict=True))


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.uint8(), pa.uint64(), pa.float16(), pa.null(), pa.duration("us"), pa.time64("us")),
        *(pa.timestamp("ns"), pa.timestamp("us", "Europe/Berlin"), pa.decimal256(50, 2)),
        *(pa.month_day_nano_interval(), pa.struct([]), pa.list_(pa.uint8())),
    ],
    ids=str,
)
def test_a_type_that_would_become_another_is_refused(kind: pa.DataType) -> None:
    with pytest.raises(OutputError, match="tables of Delta Lake do not have"):
        columns_for(pa.schema([("x", kind)]), (), None)


def test_nulls_inside_of_a_column_are_part_of_its_type() -> None:
    strict = fields_of(pa.schema([("x", pa.list_(pa.field("element", PAIR, nullable=False)))]))
    loose = fields_of(pa.schema([("x", pa.list_(PAIR))]))
    assert fits(loose[0]["type"], strict[0]["type"])
    assert not fits(strict[0]["type"], loose[0]["type"])
    assert fits(relaxed(strict[0]["type"]), loose[0]["type"])


def test_a_table_without_the_feature_gets_no_time_without_a_zone() -> None:
    there = TableColumns(fields_of(pa.schema([("id", pa.int64())])), ())
    wider = pa.schema([("id", pa.int64()), ("at", pa.list_(pa.timestamp("us")))])
    with pytest.raises(OutputError, match="does not have the feature timestampNtz"):
        columns_for(wider, (), there)
    named = TableColumns(there.fields, (), {}, frozenset({"timestampNtz"}))
    assert [each["name"] for each in columns_for(wider, (), named)] == ["id", "at"]


def test_a_table_is_partitioned_as_it_was_made() -> None:
    schema = pa.schema([("id", pa.int64()), ("day", pa.string())])
    there = TableColumns(fields_of(schema), ("day",))
    with pytest.raises(OutputError, match="partitioned by day and the run by nothing"):
        columns_for(schema, (), there)
    with pytest.raises(OutputError, match="all columns are partition columns"):
        columns_for(schema, ("id", "day"), None)


def test_what_others_say_of_a_column_stays() -> None:
    (said,) = fields_of(pa.schema([("id", pa.int64())]))
    said["metadata"] = {"comment": "of the customer"}
    there = TableColumns([said], ())
    assert columns_for(pa.schema([("id", pa.int64())]), (), there) == [said]


@pytest.mark.parametrize(
    "there",
    [
        TableColumns([], (), {"delta.columnMapping.mode": "name"}),
        TableColumns([], (), {}, frozenset({"rowTracking"})),
        TableColumns(
            [{"name": "x", "type": "long", "metadata": {"delta.generationExpression": "y + 1"}}], ()
        ),
    ],
)
def test_a_table_whose_files_need_more_than_rows_is_refused(there: TableColumns) -> None:
    with pytest.raises(OutputError, match="asks writers for what kvspark does not do"):
        check_table(there)


def test_messages_have_the_words_of_sql() -> None:
    kind = pa.struct([("a", pa.list_(pa.int64())), ("b", pa.map_(pa.string(), pa.date32()))])
    (field,) = fields_of(pa.schema([("s", kind)]))
    assert worded(field["type"]) == "struct<a: array<long>, b: map<string, date>>"
