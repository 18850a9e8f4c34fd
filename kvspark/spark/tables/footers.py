"""What the footers of Parquet files say, read on the driver without Spark.

Reading footers first finds what Spark would find late or never: a truncated file, a column that
one file lacks (Spark reads nulls), a file of zero bytes (Spark skips it).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import final

import pyarrow as pa
import pyarrow.parquet as pq

from kvspark.errors import DataError, SecretError
from kvspark.table.input.pinned_file import PinnedFile
from kvspark.table.input.splits import RowGroup

_SPARK_SCHEMA = b"org.apache.spark.sql.parquet.row.metadata"
_SPARK_VERSION = b"org.apache.spark.version"
_OLD_CALENDAR = (b"org.apache.spark.legacyDateTime", b"org.apache.spark.legacyINT96")
_GREGORIAN = (3, 1)
"""The first Spark that writes all dates and times by the Gregorian calendar, or notes that it does not.

Source: DataSourceUtils of Spark, `datetimeRebaseSpec` and `int96RebaseSpec`.
"""
_THREADS = 16  # footers are small: the wait is for the disk or the network, not for the CPU
# The names of repeated groups differ between writers and mean nothing.
_LIST_PARTS = {"list", "element", "item", "bag", "array", "array_element"}


@final
@dataclass(frozen=True, slots=True)
class Footer:
    """What one file says of itself."""

    name: str
    """Its path or URL."""
    rows: int
    columns: Mapping[str, str]
    """The top-level columns in the file's order, each with the Parquet types below it."""
    nulls: Mapping[str, int | None]
    """Nulls by column, for the columns that were asked for; None where the file does not say."""
    spark_schema: str | None
    """The schema as JSON where Spark wrote the file."""
    arrow: pa.Schema
    """The columns as Arrow reads them."""
    groups: tuple[RowGroup, ...]
    has_old_calendar: bool
    """True if a Spark wrote the file that counts old dates otherwise, and rebases them when it reads."""


def read_footers(
    files: Sequence[Path | PinnedFile], *, counted: Collection[str] = ()
) -> list[Footer]:
    """The footers of `files`, in order, with the nulls of the columns `counted`.

    Raises:
        DataError: a file is not Parquet, is truncated or cannot be read; names it.
        SecretError: an object store refuses the credentials.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda file: _read_footer(file, counted), files))


def _read_footer(file: Path | PinnedFile, counted: Collection[str]) -> Footer:
    name = file.name if isinstance(file, PinnedFile) else str(file)
    try:
        with pq.ParquetFile(_opened(file)) as parquet:
            metadata = parquet.metadata
            leaves = _leaves(metadata)
            nulls = {column: _nulls(metadata, leaves.get(column, [])) for column in counted}
    except (pa.ArrowException, OSError) as exc:
        if isinstance(exc, PermissionError) and not exc.errno:  # of an object store
            raise SecretError(f"input: {exc}; nothing was written") from None
        raise _unreadable(name, _strerror(exc) or _reason(file)) from None
    columns = {
        name: ", ".join(_type_of(metadata.schema.column(leaf), name) for leaf in group)
        for name, group in leaves.items()
    }
    notes = metadata.metadata or {}
    schema = notes.get(_SPARK_SCHEMA)
    return Footer(
        name,
        metadata.num_rows,
        columns,
        nulls,
        schema.decode() if schema else None,
        parquet.schema_arrow,
        tuple(_group(metadata.row_group(place)) for place in range(metadata.num_row_groups)),
        _has_old_calendar(notes),
    )


def _opened(file: Path | PinnedFile) -> Path | pa.NativeFile:
    return file.open() if isinstance(file, PinnedFile) else file


def _unreadable(name: str, reason: str) -> DataError:
    return DataError(
        f"input file {name} is not readable Parquet ({reason}); nothing was written, "
        "remove the file or write it again"
    )


def _strerror(exc: Exception) -> str | None:
    return (exc.strerror or None) if isinstance(exc, OSError) else None


def _group(group: pq.RowGroupMetaData) -> RowGroup:
    chunks = [group.column(place) for place in range(group.num_columns)]
    return RowGroup(group.num_rows, sum(chunk.total_compressed_size for chunk in chunks))


def _has_old_calendar(notes: Mapping[bytes, bytes]) -> bool:
    version = notes.get(_SPARK_VERSION)
    if version is None:
        return False
    numbers = tuple(int(each) for each in version.decode().split(".")[:2] if each.isdecimal())
    return numbers < _GREGORIAN or any(name in notes for name in _OLD_CALENDAR)


def _leaves(metadata: pq.FileMetaData) -> dict[str, list[int]]:
    """The leaf columns of each top-level column, by position."""
    names = metadata.schema.to_arrow_schema().names
    leaves: dict[str, list[int]] = {name: [] for name in names}
    top = 0
    for leaf in range(metadata.num_columns):
        path = metadata.schema.column(leaf).path
        while path != names[top] and not path.startswith(f"{names[top]}."):
            top += 1
        leaves[names[top]].append(leaf)
    return leaves


def _nulls(metadata: pq.FileMetaData, leaves: Sequence[int]) -> int | None:
    counts = [_leaf_nulls(metadata, leaf) for leaf in leaves]
    if 0 in counts:
        return 0  # a list or struct that is null counts as a null in each of its leaves
    if len(leaves) != 1 or metadata.schema.column(leaves[0]).max_definition_level > 1:
        return None  # a null inside a list is not told from a list that is null
    return counts[0]


def _leaf_nulls(metadata: pq.FileMetaData, leaf: int) -> int | None:
    total = 0
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(leaf).statistics
        if statistics is None or not statistics.has_null_count:
            return None
        total += statistics.null_count
    return total


def _type_of(column: pq.ColumnSchema, name: str) -> str:
    parts = column.path.removeprefix(name).split(".")
    inner = ".".join(part for part in parts if part and part not in _LIST_PARTS)
    logical = str(column.logical_type)
    kind = column.physical_type if logical == "None" else f"{column.physical_type} {logical}"
    repeated = "*" * column.max_repetition_level
    return f"{inner}: {kind}{repeated}" if inner else f"{kind}{repeated}"


def _reason(file: Path | PinnedFile) -> str:
    """What is wrong with a file that is there."""
    try:
        with pa.OSFile(str(file)) if isinstance(file, Path) else file.open() as stream:
            size_bytes, magic = stream.size(), stream.read(4)
    except OSError as exc:
        return _strerror(exc) or str(exc)
    if magic == b"PAR1":
        return f"it begins as Parquet and its footer is damaged or missing, {size_bytes:,} bytes"
    return f"it does not begin as Parquet does, {size_bytes:,} bytes"
