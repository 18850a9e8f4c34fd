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

from kvspark.errors import DataError

_SPARK_SCHEMA = b"org.apache.spark.sql.parquet.row.metadata"
_THREADS = 16  # footers are small: the wait is for the disk or the network, not for the CPU
# The names of repeated groups differ between writers and mean nothing.
_LIST_PARTS = {"list", "element", "item", "bag", "array", "array_element"}


@final
@dataclass(frozen=True, slots=True)
class Footer:
    """What one file says of itself."""

    path: Path
    rows: int
    columns: Mapping[str, str]
    """The top-level columns in the file's order, each with the Parquet types below it."""
    nulls: Mapping[str, int | None]
    """Nulls by column, for the columns that were asked for; None where the file does not say."""
    spark_schema: str | None
    """The schema as JSON where Spark wrote the file."""


def read_footers(paths: Sequence[Path], *, counted: Collection[str] = ()) -> list[Footer]:
    """The footers of `paths`, in order, with the nulls of the columns `counted`.

    Raises:
        DataError: a file is not Parquet, is truncated or cannot be read; names it.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda path: _read_footer(path, counted), paths))


def _read_footer(path: Path, counted: Collection[str]) -> Footer:
    try:
        with pq.ParquetFile(path) as file:
            metadata = file.metadata
            leaves = _leaves(metadata)
            nulls = {name: _nulls(metadata, leaves.get(name, [])) for name in counted}
    except (pa.ArrowException, OSError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else _reason(path)
        raise DataError(
            f"input file {path} is not readable Parquet ({reason}); nothing was written, "
            "remove the file or write it again"
        ) from None
    columns = {
        name: ", ".join(_type_of(metadata.schema.column(leaf), name) for leaf in group)
        for name, group in leaves.items()
    }
    schema = (metadata.metadata or {}).get(_SPARK_SCHEMA)
    return Footer(path, metadata.num_rows, columns, nulls, schema.decode() if schema else None)


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


def _reason(path: Path) -> str:
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == b"PAR1":
        return f"it begins as Parquet and its footer is damaged or missing, {size_bytes:,} bytes"
    return f"it does not begin as Parquet does, {size_bytes:,} bytes"
