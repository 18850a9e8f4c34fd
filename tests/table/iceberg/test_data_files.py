"""What the metadata of an Iceberg table says of a file."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.conversions import from_bytes
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BooleanType,
    DateType,
    LongType,
    NestedField,
    PrimitiveType,
    StringType,
)

from kvspark.table.file_written import ColumnRange, FileWritten
from kvspark.table.iceberg.data_files import data_file, partition_of
from kvspark.table.partition_folders import PartitionFolders
from tests.table.iceberg.places import Place, publish

ZONE = dt.timezone.utc
BOUNDED = pa.table(
    {
        "n": pa.array([3, None, -7], pa.int16()),
        "d": pa.array([dt.date(1969, 12, 31), dt.date(2026, 1, 1), None], pa.date32()),
        "t": pa.array([dt.datetime(1969, 1, 1, 1, 2, 3, 4, ZONE)] * 3, pa.timestamp("us", "UTC")),
        "u": pa.array([dt.datetime(2026, 1, 1, 1, 2, 3, 4)] * 3, pa.timestamp("us")),  # noqa: DTZ001
        "x": pa.array([decimal.Decimal("-1.20"), None, None], pa.decimal128(20, 2)),
        "s": pa.array(["a" * 40, "ü", None]),
        "b": pa.array([b"\xff" * 20, b"\x00", None]),
        "f": pa.array([1.0, float("nan"), None]),
        "o": pa.array([True, True, None]),
        "i": pa.array([{"y": 4}, None, {"y": None}], pa.struct([("y", pa.int64())])),
        "l": pa.array([[1], [], None], pa.list_(pa.int64())),
    }
)


def test_bounds_are_those_of_the_values(place: Place) -> None:
    publish(place.publisher(), "one", BOUNDED)
    (task,) = place.table.scan().plan_files()
    schema, file = place.table.schema(), task.file

    def between(name: str) -> tuple[Any, Any]:
        field = schema.find_field(name)
        bounds = (each.get(field.field_id) for each in (file.lower_bounds, file.upper_bounds))
        kind = field.field_type
        assert isinstance(kind, PrimitiveType)
        low, high = (None if each is None else from_bytes(kind, each) for each in bounds)
        return low, high

    assert between("n") == (-7, 3)
    assert between("d") == (-1, 20454)
    assert between("t") == (-31532276_999996, -31532276_999996)
    assert between("u") == (1767229323_000004, 1767229323_000004)
    assert between("x") == (decimal.Decimal("-1.20"),) * 2
    assert between("s") == ("a" * 16, "ü")
    assert between("b") == (b"\x00", None)
    assert between("f") == (None, None)
    assert between("o") == (True, True)
    assert between("i.y") == (4, 4)
    counts = {name: file.null_value_counts.get(schema.find_field(name).field_id) for name in "nfs"}
    assert counts == {"n": 1, "f": 1, "s": 1}
    assert file.null_value_counts[schema.find_field("i.y").field_id] == 2
    assert schema.find_field("l.element").field_id not in file.null_value_counts


@pytest.mark.parametrize(
    ("where", "names"),
    [("n >= 3", {"a"}), ("n < 3", {"b"}), ("f > 1", {"a"}), ("s is null", {"b"}), ("n = 4", set())],
)
def test_readers_that_prune_by_the_bounds_lose_no_row(
    place: Place, where: str, names: set[str]
) -> None:
    schema = pa.schema(
        [("n", pa.int32()), ("f", pa.float64()), ("s", pa.string()), ("name", pa.string())]
    )
    table = pa.table([[3, 2], [1.5, float("nan")], ["x" * 30, None], ["a", "b"]], schema=schema)
    publish(place.publisher(), "one", table, ["name"])
    found = place.table.scan(row_filter=where).to_arrow()["name"].to_pylist()
    assert set(found) == names


@pytest.mark.parametrize("last", ["\ud7ff", "\U0010ffff", "z"])
def test_a_text_that_is_cut_has_a_bound_that_is_a_text(place: Place, last: str) -> None:
    text = "a" * 15 + last * 5
    publish(place.publisher(), "one", pa.table({"s": [text]}))
    assert place.table.scan(row_filter=f"s = '{text}'").to_arrow().num_rows == 1


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(text=TEXTS, number=st.integers(-(2**63), 2**63 - 1), day=st.integers(-700_000, 2_900_000))
def test_the_values_of_a_partition_come_back_from_its_folders_name(
    text: str, number: int, day: int
) -> None:
    wanted = pa.schema(
        [("s", pa.string()), ("n=/", pa.int64()), ("d", pa.date32()), ("b", pa.bool_())]
    )
    kinds = (StringType(), LongType(), DateType(), BooleanType())
    fields = [
        NestedField(place, each.name, kind)
        for place, (each, kind) in enumerate(zip(wanted, kinds, strict=True), 1)
    ]
    schema = Schema(*fields)
    spec = PartitionSpec(
        *(
            PartitionField(each.field_id, 999 + each.field_id, IdentityTransform(), each.name)
            for each in fields
        )
    )
    days = pa.array([day], pa.int32()).cast(pa.date32())
    columns = [pa.array([text]), pa.array([number]), days, pa.array([True])]
    batch = pa.RecordBatch.from_arrays(columns, schema=wanted)
    ((folder, _),) = PartitionFolders(wanted, wanted.names).split(batch)
    found = partition_of(folder, schema, spec)
    expected = [text, number, day, True]
    if text == "__HIVE_DEFAULT_PARTITION__":
        expected[0] = None
    assert [found[place] for place in range(4)] == expected


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_a_text_lies_between_its_bounds(text: str) -> None:
    schema = Schema(NestedField(1, "s", StringType(), required=False))
    known = _file_of(text)
    made = data_file("x", known, schema, PartitionSpec())
    low, high = made.lower_bounds.get(1), made.upper_bounds.get(1)
    assert low is not None
    assert low <= text.encode()
    assert high is None or high >= text.encode()


def _file_of(text: str) -> FileWritten:
    return FileWritten("f", "", 1, 10, "", {"s": ColumnRange(0, text, text)})
