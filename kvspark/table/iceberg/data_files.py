"""What Iceberg is told of a file: its partition, its rows, and of its columns what is certain."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Any

from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    PrimitiveType,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
)
from pyiceberg.utils.truncate import truncate_upper_bound_binary_string

from kvspark.table.file_written import ColumnRange, FileWritten, Plain
from kvspark.table.iceberg.columns import partition_columns
from kvspark.table.partition_folders import HIVE_NULL, days_in

_BOUND_CHARS = 16
"""Of texts and bytes, as Iceberg's own writers cut them."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_MICRO = dt.timedelta(microseconds=1)
_CODE = re.compile("%([0-9A-F]{2})")


def data_file(url: str, file: FileWritten, schema: Schema, spec: PartitionSpec) -> DataFile:
    """The entry of `file`, which lies at `url`, for a table of `schema`.

    Raises:
        ValueError: its folder is none of the partitions of `spec`.
    """
    counts: dict[int, int] = {}
    nulls: dict[int, int] = {}
    lows: dict[int, bytes] = {}
    highs: dict[int, bytes] = {}
    for path, field in _leaves(schema.fields).items():
        known = file.columns.get(path)
        if known is None or known.nulls is None:
            continue
        counts[field.field_id] = file.rows
        nulls[field.field_id] = known.nulls
        low, high = _bounds(field.field_type, known)
        if low is not None:
            lows[field.field_id] = low
        if high is not None:
            highs[field.field_id] = high
    made = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=url,
        file_format=FileFormat.PARQUET,
        partition=partition_of(file.folder, schema, spec),
        record_count=file.rows,
        file_size_in_bytes=file.size_bytes,
        value_counts=counts,
        null_value_counts=nulls,
        lower_bounds=lows,
        upper_bounds=highs,
    )
    made.spec_id = spec.spec_id
    return made


def partition_of(folder: str, schema: Schema, spec: PartitionSpec) -> Record:
    """The values that the folder's name says: `dt=2026-01-01/kind=a%2Fb`.

    Raises:
        ValueError: it names other columns than those of `spec`.
    """
    parts = (part.partition("=") for part in folder.split("/") if part)
    found = {_plain_text(name): value for name, _, value in parts}
    columns = partition_columns(spec, schema)
    if list(found) != [field.name for field in columns]:
        raise ValueError(f"folder {folder!r} is none of the table's partitions")
    return Record(*(_value(found[field.name], field.field_type) for field in columns))


def required_nulls(file: FileWritten, schema: Schema) -> str | None:
    """The first column that has a null in `file` and may have none; None if there is no such column."""
    for field in schema.fields:
        known = file.columns.get(field.name)
        if field.required and known is not None and known.nulls:
            return field.name
    return None


def _leaves(fields: tuple[NestedField, ...], before: str = "") -> dict[str, NestedField]:
    """The columns of which a file has one value a row, by path, and none of which two have the same."""
    found: dict[str, NestedField] = {}
    twice: set[str] = set()
    for field in fields:
        path = f"{before}{field.name}"
        kind = field.field_type
        inner = _leaves(kind.fields, f"{path}.") if isinstance(kind, StructType) else {}
        for each, leaf in {**inner, **({path: field} if kind.is_primitive else {})}.items():
            if each in found:
                twice.add(each)
            found[each] = leaf
    return {path: field for path, field in found.items() if path not in twice}


def _bounds(kind: IcebergType, known: ColumnRange) -> tuple[bytes | None, bytes | None]:
    """The bounds as Iceberg has them; None where they would not be certain.

    None for floats: whether a column has NaN is not known, and readers believe bounds of a column of which that is
    not said.
    """
    if known.low is None or known.high is None or not isinstance(kind, PrimitiveType):
        return None, None
    low, high = _typed(kind, known.low), _typed(kind, known.high)
    if low is None or high is None:
        return None, None
    if isinstance(kind, StringType):
        low, high = low[:_BOUND_CHARS], _high_text(high)
    elif isinstance(kind, BinaryType):
        low, high = low[:_BOUND_CHARS], truncate_upper_bound_binary_string(high, _BOUND_CHARS)
    return to_bytes(kind, low), None if high is None else to_bytes(kind, high)


def _high_text(text: str) -> str | None:
    """No less than `text`, and no longer than a bound; None if there is no such text.

    That of pyiceberg 0.12 may have half a surrogate pair, which has no bytes.
    """
    if len(text) <= _BOUND_CHARS:
        return text
    start = text[:_BOUND_CHARS].rstrip("\U0010ffff")
    last = start[-1:]
    return start[:-1] + ("\ue000" if last == "\ud7ff" else chr(ord(last) + 1)) if last else None


def _typed(kind: IcebergType, value: Plain) -> Any:
    if isinstance(kind, BooleanType | IntegerType | LongType | StringType):
        return value
    text = str(value)
    if isinstance(kind, BinaryType):
        return bytes.fromhex(text)
    if isinstance(kind, DecimalType):
        exact = Decimal(text)
        return exact if -int(exact.as_tuple().exponent) == kind.scale else None
    if isinstance(kind, DateType):
        return days_in(text)
    if isinstance(kind, TimestampType | TimestamptzType):
        moment = dt.datetime.fromisoformat(text)
        has_zone = moment.tzinfo is not None
        if has_zone != isinstance(kind, TimestamptzType):
            return None
        return ((moment if has_zone else moment.replace(tzinfo=dt.timezone.utc)) - _EPOCH) // _MICRO
    return None


def _value(text: str, kind: IcebergType) -> Any:
    if text == HIVE_NULL:
        return None
    plain = _plain_text(text)
    if isinstance(kind, BooleanType):
        return plain == "true"
    if isinstance(kind, IntegerType | LongType):
        return int(plain)
    if isinstance(kind, DateType):
        return days_in(plain)
    if isinstance(kind, StringType):
        return plain
    raise ValueError(f"a folder has no name for a value of type {kind}")


def _plain_text(text: str) -> str:
    return _CODE.sub(lambda found: chr(int(found[1], 16)), text)
