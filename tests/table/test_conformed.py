"""Rows in the types of a file: the values stay, whatever slice of an array they are."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kvspark.table.conformed import conformed

INNER = [{"a": 1, "b": None}, None, {"a": 2, "b": "x"}]
CLOSED = pa.struct([pa.field("a", pa.int32(), nullable=False), pa.field("b", pa.string())])
OPEN = pa.struct([("a", pa.int32()), ("b", pa.string())])
NOON = dt.datetime(1500, 1, 1, 12, tzinfo=dt.timezone.utc)
CASES: dict[str, tuple[list[Any], pa.DataType, pa.DataType]] = {
    "struct": (INNER, OPEN, CLOSED),
    "list": (
        [[1.0, 2.0], None, []],
        pa.list_(pa.float32()),
        pa.list_(pa.field("element", pa.float32(), nullable=False)),
    ),
    "list of structs": (
        [[INNER[0]], None, [], [INNER[2], INNER[0]]],
        pa.list_(OPEN),
        pa.list_(pa.field("element", CLOSED, nullable=False)),
    ),
    "map of structs": (
        [[("k", INNER[0])], None, [], [("l", INNER[2]), ("m", None)]],
        pa.map_(pa.string(), OPEN),
        pa.map_(pa.string(), pa.field("value", CLOSED)),
    ),
    "list of maps": (
        [[[("k", 1)], []], None, [[("l", None)]]],
        pa.list_(pa.map_(pa.string(), pa.int8())),
        pa.list_(pa.field("element", pa.map_(pa.string(), pa.int8()), nullable=False)),
    ),
    "large": (["a", None, "b"], pa.large_string(), pa.string()),
    "fixed": ([[1, 2], None], pa.list_(pa.int64(), 2), pa.list_(pa.int64())),
    "zone": ([NOON, None], pa.timestamp("us", "Europe/Berlin"), pa.timestamp("us", "UTC")),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("start", [0, 1])
def test_values_stay(name: str, start: int) -> None:
    values, kind, wanted = CASES[name]
    array = pa.array([values[-1], *values], kind)[start:]
    schema = pa.schema([pa.field("renamed", wanted)], metadata={"k": "v"})
    made = conformed(pa.record_batch([array], names=["_0"]), schema)
    made.validate(full=True)
    assert made.schema.equals(schema, check_metadata=True)
    assert made.column(0).to_pylist() == array.to_pylist()


def test_numbers_inside_of_a_list_are_not_copied() -> None:
    array = pa.array([[1.0, 2.0], [3.0]], pa.list_(pa.float32()))
    closed = pa.list_(pa.field("element", pa.float32(), nullable=False))
    made = conformed(pa.record_batch([array], names=["x"]), pa.schema([("x", closed)]))
    assert made.column(0).buffers()[3].address == array.buffers()[3].address


def test_a_number_that_does_not_fit_is_refused() -> None:
    rows = pa.record_batch([pa.array([1 << 40])], names=["x"])
    with pytest.raises(pa.ArrowInvalid):
        conformed(rows, pa.schema([("x", pa.int32())]))


def masked(fields: list[pa.Field]) -> pa.Array:
    """Two structs of which the first is null, and so is all that is in it, as Spark gives it."""
    children = []
    for field in fields:
        if pa.types.is_struct(field.type):
            children.append(masked(list(field.type)))
        else:
            value = {"l": [[1]], "m": [("k", 1)], "s": "x", "ok": True}.get(field.name, 1)
            children.append(pa.array([None, value], field.type))
    return pa.StructArray.from_arrays(children, fields=fields, mask=pa.array([True, False]))


def closed(*kinds: tuple[str, pa.DataType]) -> list[pa.Field]:
    return [pa.field(name, kind, nullable=False) for name, kind in kinds]


def test_a_field_that_is_never_null_may_be_so_where_its_struct_is(tmp_path: Path) -> None:
    deep = closed(("a", pa.int32()), ("s", pa.string()), ("d", pa.decimal128(9, 2)))
    fields = closed(
        ("deep", pa.struct(deep)),
        ("l", pa.list_(pa.list_(pa.int64()))),
        ("m", pa.map_(pa.string(), pa.int64())),
        ("ok", pa.bool_()),
    )
    array = masked(fields)
    schema = pa.schema([("x", pa.struct(fields))])
    made = conformed(pa.record_batch([array], names=["_0"]), schema)
    made.validate(full=True)
    assert made.column(0).to_pylist() == array.to_pylist()
    pq.write_table(pa.Table.from_batches([made]), tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet")["x"].to_pylist() == array.to_pylist()


def test_a_null_that_a_reader_would_see_is_refused() -> None:
    fields = closed(("a", pa.int32()))
    array = pa.StructArray.from_arrays([pa.array([None, 1], pa.int32())], fields=fields)
    schema = pa.schema([("x", pa.struct(fields))])
    with pytest.raises(pa.ArrowInvalid, match="'a' has a null"):
        conformed(pa.record_batch([array], names=["_0"]), schema)
