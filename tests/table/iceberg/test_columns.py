"""The columns and partitions of Iceberg tables."""

from __future__ import annotations

import datetime as dt
import decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import DayTransform
from pyiceberg.types import NestedField, StringType, TimestamptzType

from kvspark.errors import OutputError
from kvspark.table.publish.publisher import Content
from kvspark.table.sink import Sink
from tests.table.iceberg.places import FOREIGN, PLAIN, Place, files_of, named, plain, publish


def test_an_empty_table_of_the_user_is_written_to(place: Place) -> None:
    place.create(FOREIGN)
    publish(place.publisher(), "one", plain("a", "b"))
    assert named(place) == ["a", "b"]
    assert [field.required for field in place.table.schema().fields] == [False, True]


def test_a_null_where_the_table_may_have_none_publishes_nothing(place: Place) -> None:
    place.create(FOREIGN)
    publisher = place.publisher()
    attempt = publisher.prepare("one")
    table = pa.table([[1], [None]], schema=PLAIN)
    files = tuple(Sink(attempt.place, "part", PLAIN).write(table.to_batches()))
    with pytest.raises(OutputError, match="no null in column 'name'"):
        publisher.commit(attempt, Content(files, PLAIN))
    assert place.read() == []


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ([("id", pa.int64())], "has a column 'name' that the run has not"),
        ([("id", pa.string()), ("name", pa.string())], "'id' as long, and the run has string"),
        ([("id", pa.int32()), ("name", pa.string())], "'id' as long, and the run has int"),
        (
            [*zip(PLAIN.names, PLAIN.types, strict=True), ("x", pa.duration("s"))],
            r"no column 'x' of type duration\[s\]",
        ),
        (
            [*zip(PLAIN.names, PLAIN.types, strict=True), ("x", pa.list_(pa.null()))],
            "no column 'x.element' of type null",
        ),
    ],
)
def test_columns_that_the_table_cannot_have(
    place: Place, fields: list[tuple[str, pa.DataType]], why: str
) -> None:
    publish(place.publisher(), "one", plain("a"))
    publisher = place.publisher()
    attempt = publisher.prepare("two")
    with pytest.raises(OutputError, match=why):
        attempt.file_schema(pa.schema(fields), ())
    with pytest.raises(OutputError, match=why):
        publisher.commit(attempt, Content((), pa.schema(fields)))
    assert named(place) == ["a"]
    assert place.table.schema().column_names == ["id", "name"]


def test_a_column_that_is_added_is_null_in_the_version_before(place: Place) -> None:
    publisher = place.publisher()
    publish(publisher, "one", plain("a"))
    wider = plain("b").append_column("score", pa.array([0.5]))
    publish(publisher, "two", wider)
    assert place.read() == [{"id": 0, "name": "b", "score": 0.5}]
    publisher.rollback(publisher.versions()[0])
    assert place.read() == [{"id": 0, "name": "a", "score": None}]


def test_a_column_that_somebody_adds_meanwhile_stops_the_run(place: Place) -> None:
    publisher = place.publisher()
    publish(publisher, "one", plain("a"))
    attempt = publisher.prepare("two")
    files = files_of(attempt, plain("b"))
    with place.table.update_schema() as change:
        change.add_column("theirs", StringType())
    with pytest.raises(OutputError, match="columns were changed while the run wrote"):
        publisher.commit(attempt, Content(files, PLAIN))


def test_only_the_partitions_that_the_run_touched_are_replaced(place: Place) -> None:
    schema = pa.schema([("day", pa.date32()), ("name", pa.string())])
    monday, tuesday = dt.date(2026, 11, 30), dt.date(2026, 12, 1)
    first = pa.table([[monday, tuesday, None], ["a", "a", "a"]], schema=schema)
    second = pa.table([[tuesday, None], ["b", "b"]], schema=schema)
    publisher = place.publisher(replaces="partitions")
    publish(publisher, "one", first, ["day"])
    kept = {task.file.file_path for task in place.table.scan().plan_files()}
    publish(publisher, "two", second, ["day"])
    found = {(row["day"], row["name"]) for row in place.read()}
    assert found == {(monday, "a"), (tuesday, "b"), (None, "b")}
    assert len(kept & {task.file.file_path for task in place.table.scan().plan_files()}) == 1
    publish(publisher, "three", second, ["day"])
    assert {(row["day"], row["name"]) for row in place.read()} == found
    publisher.rollback(publisher.versions()[0])
    assert {(row["day"], row["name"]) for row in place.read()} == found


@pytest.mark.parametrize("kind", [pa.string(), pa.int32(), pa.int64()], ids=str)
def test_a_partition_column_keeps_its_type(place: Place, kind: pa.DataType) -> None:
    schema = pa.schema([("day", pa.date32()), ("name", pa.string())])
    rows = pa.table([[dt.date(2026, 11, 30)], ["a"]], schema=schema)
    publisher = place.publisher(replaces="partitions")
    publish(publisher, "one", rows, ["day"])
    attempt = publisher.prepare("two")
    with pytest.raises(OutputError, match="has column 'day' as date, and the run has"):
        attempt.file_schema(schema.set(0, pa.field("day", kind)), ["day"])
    assert named(place) == ["a"]


def test_a_table_of_other_partitions_is_refused_before_a_row_is_written(place: Place) -> None:
    schema = Schema(NestedField(1, "at", TimestamptzType()), NestedField(2, "name", StringType()))
    place.create(schema, PartitionSpec(PartitionField(1, 1000, DayTransform(), "day")))
    attempt = place.publisher().prepare("one")
    wanted = pa.schema([("at", pa.timestamp("us", "UTC")), ("name", pa.string())])
    with pytest.raises(OutputError, match=r"partitioned by day\(day\), and the run by nothing"):
        attempt.file_schema(wanted, ())


def test_files_have_the_ids_of_the_table_at_every_depth(place: Place) -> None:
    schema = pa.schema(
        [
            pa.field("small", pa.int16()),
            pa.field("marks", pa.list_(pa.field("element", pa.float32(), nullable=False))),
            pa.field("named", pa.map_(pa.string(), pa.struct([("x", pa.int8())]))),
            pa.field("price", pa.decimal128(9, 2), nullable=False),
        ]
    )
    row = {"small": 1, "marks": [0.5], "named": [("k", {"x": 3})], "price": decimal.Decimal("1.20")}
    publish(place.publisher(), "one", pa.Table.from_pylist([row], schema=schema))
    (task,) = place.table.scan().plan_files()
    found = pq.read_schema(task.file.file_path)
    known = place.table.schema()
    for name in schema.names:
        assert (
            int(found.field(name).metadata[b"PARQUET:field_id"]) == known.find_field(name).field_id
        )
    inner = found.field("named").type.item_field.type.field("x")
    assert inner.type == pa.int32()
    assert int(inner.metadata[b"PARQUET:field_id"]) == known.find_field("named.value.x").field_id
    assert place.read() == [row]
    assert known.find_field("price").required


def test_files_without_ids_are_read_by_name(place: Place) -> None:
    publisher = place.publisher()
    attempt = publisher.prepare("one")
    files = tuple(Sink(attempt.place, "part", PLAIN).write(plain("a").to_batches()))
    publisher.commit(attempt, Content(files, PLAIN))
    assert named(place) == ["a"]
