"""What the log of Delta Lake says of a file, by which readers leave files out: a wrong bound is a missing row.

Left out, since it may be wrong or is read in more than one way:
- bounds of floats: Parquet's leave NaN out, and Spark's `NaN > 5` is true
- bounds of decimals, which some readers take for floats; of booleans and binary, for which the format has none
- all of columns inside of structs, lists and maps, whose paths are not certain to be theirs
Times are given in whole milliseconds, the low ones rounded down and the high ones up: some readers have no more.

Source: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#per-file-statistics
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pyarrow as pa

from kvspark.table.file_written import ColumnRange, FileWritten, Plain

_COLUMNS = 32
"""So many columns have statistics, the first of the table; as Spark has it."""

_TEXT = 64
"""Characters of a text that a bound has; a longer high one is left out, for none of its beginnings is as high."""


def statistics(file: FileWritten, schema: pa.Schema, partition_by: tuple[str, ...]) -> str:
    """The statistics of `file`, of a table with `schema`, as the log has them."""
    inside = [each for each in schema if each.name not in partition_by][:_COLUMNS]
    lows: dict[str, Any] = {}
    highs: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for column in inside:
        known = file.columns.get(column.name)
        if known is None or "." in column.name or pa.types.is_nested(column.type):
            continue
        if known.nulls is not None:
            nulls[column.name] = known.nulls
        low, high = _bounds(known, column.type)
        if low is not None:
            lows[column.name] = low
        if high is not None:
            highs[column.name] = high
    value = {"numRecords": file.rows, "minValues": lows, "maxValues": highs, "nullCount": nulls}
    return json.dumps(value, ensure_ascii=False)


def _bounds(known: ColumnRange, kind: pa.DataType) -> tuple[Plain, Plain]:
    low, high = known.low, known.high
    if low is None or high is None:
        return None, None
    if pa.types.is_integer(kind) or pa.types.is_date32(kind):
        return low, high
    if pa.types.is_string(kind):
        return str(low)[:_TEXT], None if len(str(high)) > _TEXT else high
    if pa.types.is_timestamp(kind):
        try:
            return _time(low, kind), _time(high, kind, is_high=True)
        except (ValueError, OverflowError):
            return None, None
    return None, None


def _time(text: Plain, kind: pa.TimestampType, *, is_high: bool = False) -> str:
    when = dt.datetime.fromisoformat(str(text))
    spare = when.microsecond % 1000
    when -= dt.timedelta(microseconds=spare)
    if is_high and spare:
        when += dt.timedelta(milliseconds=1)
    if kind.tz is not None and when.tzinfo is not None:
        when = when.astimezone(dt.timezone.utc)
    plain = when.replace(tzinfo=None).isoformat(timespec="milliseconds")
    return plain if kind.tz is None else f"{plain}Z"
