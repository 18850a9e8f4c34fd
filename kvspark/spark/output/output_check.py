"""Checking a staged output before anybody can read it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final
from urllib.parse import unquote

from pyspark.sql.types import ArrayType, DataType, MapType, StructField, StructType

from kvspark.errors import DataError, ValidationError
from kvspark.spark.tables.footers import Footer, read_footers
from kvspark.wording import count_of

_PART = re.compile(r"((?:[^/]+=[^/]*/)*)part-[^/]+\.parquet")
_ALLOWED = re.compile(
    r"(?:[^/]+=[^/]*/)*(?:part-[^/]+\.parquet|\.[^/]+\.crc)|_SUCCESS|_kvspark/quarantine/part-\d+\.parquet"
)


@final
@dataclass(frozen=True, slots=True)
class Written:
    """What was found in a staged output."""

    rows: int
    files: int
    size_bytes: int
    quarantined: int
    """Rows that lie beside the others."""
    replaced: int = 0
    """Rows of the table in whose place others come with the same ids."""
    removed: int = 0
    """Rows of the table that go, and none comes in their place."""


def check_written(
    staged: Path,
    *,
    rows: int,
    schema: StructType,
    quarantined: int = 0,
    partition_by: Sequence[str] = (),
) -> Written:
    """What is in `staged`, once it is known to be what the run should have written.

    `rows` were read; those that are quarantined lie beside the others. The columns `partition_by` are
    in the folders' names.

    Raises:
        ValidationError: other rows than were read, other columns than were asked for, an unfinished
            or damaged file, or a file that does not belong there.
    """
    names = sorted(_names(staged))
    stray = [name for name in names if not _ALLOWED.fullmatch(name)]
    if stray:
        raise ValidationError(f"{_where(staged)} holds a file that no task wrote: {stray[0]}")
    if "_SUCCESS" not in names:
        raise ValidationError(f"{_where(staged)} has no _SUCCESS: Spark did not finish it")
    found = [part for name in names if (part := _PART.fullmatch(name))]
    for part in found:
        if part.group(1) and _folders(part.group(1)) != list(partition_by):
            raise ValidationError(f"{_where(staged)} holds a file in other folders: {part.group()}")
    parts = [staged / part.group() for part in found]
    if not parts:
        raise ValidationError(f"{_where(staged)} holds no part file")
    try:
        footers = read_footers(parts)
    except DataError as exc:
        raise ValidationError(f"{_where(staged)} is damaged: {exc}") from exc
    inside = StructType([field for field in schema.fields if field.name not in partition_by])
    for footer in footers:
        is_below = Path(footer.name).parent != staged
        _check_schema(footer, inside if is_below else schema)
    written = sum(footer.rows for footer in footers)
    if written + quarantined != rows:
        aside = f" with {quarantined:,} quarantined ones" if quarantined else ""
        raise ValidationError(
            f"{_where(staged)} holds {count_of(written, 'row')}{aside} and {rows:,} were read; check that the "
            "input does not change during the run"
        )
    size_bytes = sum(part.stat().st_size for part in parts)
    return Written(written, len(parts), size_bytes, quarantined)


def _folders(path: str) -> list[str]:
    """The columns of `dt=1/hour=2/`."""
    return [unquote(folder.partition("=")[0]) for folder in path.strip("/").split("/")]


def _where(staged: Path) -> str:
    return f"nothing was published: the staged output {staged}"


def _names(staged: Path) -> Iterator[str]:
    for folder, _, names in os.walk(staged):
        for name in names:
            yield os.fspath(Path(folder, name).relative_to(staged))


def _check_schema(footer: Footer, schema: StructType) -> None:
    found = StructType.fromJson(json.loads(footer.spark_schema)) if footer.spark_schema else None
    if found is None or plain_type(found) != plain_type(schema):
        raise ValidationError(
            f"nothing was published: {footer.name} has the schema "
            f"{found.simpleString() if found else None}, expected {schema.simpleString()}"
        )


def plain_type(kind: DataType) -> DataType:
    """The type without what Parquet does not promise: nullability and metadata."""
    if isinstance(kind, StructType):
        fields = [StructField(f.name, plain_type(f.dataType), nullable=True) for f in kind.fields]
        return StructType(fields)
    if isinstance(kind, ArrayType):
        return ArrayType(plain_type(kind.elementType), containsNull=True)
    if isinstance(kind, MapType):
        return MapType(plain_type(kind.keyType), plain_type(kind.valueType), valueContainsNull=True)
    return kind
