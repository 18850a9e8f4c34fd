"""Tables with every type of Parquet that Spark reads, as other writers have them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeAlias

import pyarrow as pa

UTC = dt.timezone.utc


Columns: TypeAlias = Mapping[str, tuple[pa.DataType, list[Any]]]

DAY, EARLY = dt.date(2026, 1, 31), dt.date(1500, 3, 1)
TIME = dt.datetime(2026, 1, 31, 12, 30, 1, 123456)  # noqa: DTZ001 - there are columns without a zone
FIRST = dt.datetime(1, 1, 1)  # noqa: DTZ001 - as above


def every_type() -> pa.Table:
    """Three rows: one of values, one of bounds, one of nulls."""
    columns = {**_plain(), **_nested()}
    return pa.table({name: pa.array(values, kind) for name, (kind, values) in columns.items()})


def _plain() -> Columns:
    return {
        "id": (pa.int64(), [1, 2**63 - 1, -(2**63)]),
        "bool": (pa.bool_(), [True, False, None]),
        "i8": (pa.int8(), [-128, 127, None]),
        "i16": (pa.int16(), [-(2**15), 2**15 - 1, None]),
        "i32": (pa.int32(), [-(2**31), 2**31 - 1, None]),
        "u8": (pa.uint8(), [0, 255, None]),
        "u16": (pa.uint16(), [0, 2**16 - 1, None]),
        "u32": (pa.uint32(), [0, 2**32 - 1, None]),
        "u64": (pa.uint64(), [0, 2**64 - 1, None]),
        "f32": (pa.float32(), [float("nan"), -0.0, None]),
        "f64": (pa.float64(), [float("inf"), 5e-324, None]),
        "dec9": (pa.decimal128(9, 2), [Decimal("1.20"), Decimal("-9999999.99"), None]),
        "dec38": (pa.decimal128(38, 10), [Decimal("1e-10"), Decimal("9" * 28), None]),
        "text": (pa.string(), ["", "é\x00", None]),
        "large": (pa.large_string(), ["a", "b", None]),
        "dict": (pa.dictionary(pa.int8(), pa.string()), ["a", "a", None]),
        "bytes": (pa.binary(), [b"", b"\xff", None]),
        "fixed": (pa.binary(2), [b"ab", b"\x00\x01", None]),
        "day": (pa.date32(), [DAY, EARLY, None]),
        "ms": (pa.timestamp("ms"), [TIME.replace(microsecond=0), FIRST, None]),
        "us": (pa.timestamp("us"), [TIME, FIRST, None]),
        "utc": (
            pa.timestamp("us", "UTC"),
            [TIME.replace(tzinfo=UTC), FIRST.replace(tzinfo=UTC), None],
        ),
        "zone": (
            pa.timestamp("ms", "Europe/Berlin"),
            [TIME.replace(microsecond=0, tzinfo=UTC)] * 2 + [None],
        ),
        "spell": (pa.duration("us"), [dt.timedelta(days=1), dt.timedelta(microseconds=-1), None]),
    }


def _nested() -> Columns:
    return {
        "list": (pa.list_(pa.float32()), [[1.0, None], [], None]),
        "vector": (pa.list_(pa.float32(), 2), [[1.0, 2.0], [0.0, None], None]),
        "nested": (
            pa.list_(pa.struct({"a": pa.uint8(), "b": pa.large_list(pa.string())})),
            [[{"a": 255, "b": ["x", None]}, None], [{"a": None, "b": None}], None],
        ),
        "struct": (
            pa.struct({"x": pa.int16(), "y": pa.struct({"z": pa.timestamp("ms", "UTC")})}),
            [
                {"x": 1, "y": {"z": TIME.replace(microsecond=0, tzinfo=UTC)}},
                {"x": None, "y": None},
                None,
            ],
        ),
        "map": (
            pa.map_(pa.string(), pa.list_(pa.uint16())),
            [[("a", [1, None]), ("b", None)], [], None],
        ),
        "void": (pa.null(), [None, None, None]),
        "Ünïcode name.with dot": (pa.string(), ["a", "b", None]),
    }
