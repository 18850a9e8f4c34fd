"""One version of a table that lists its files (Delta Lake, Iceberg), which the workers read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from kvspark.spark.columns.column_map import quoted
from kvspark.spark.sources.by_workers.changed_files import ReadFiles
from kvspark.spark.sources.by_workers.old_calendar import refuse_old_calendar
from kvspark.spark.sources.by_workers.worker_table import WorkerTable
from kvspark.spark.sources.input.found_input import FoundInput
from kvspark.spark.sources.input.located import PLACES
from kvspark.spark.sources.input.split_rows import SplitRows
from kvspark.spark.tables.footers import Footer
from kvspark.spark.tables.input_files import refuse_nulls
from kvspark.table.input.pinned_file import PinnedFile
from kvspark.table.input.table_file import TableFile
from kvspark.table.merge.row_ids import RowIds


@final
@dataclass(frozen=True, slots=True)
class TableColumns:
    """The columns of a table."""

    shown: StructType
    """As the table calls them."""
    stored: StructType
    """As they are found in files, at the same places: there they may have other names."""


@final
class PinnedTable(FoundInput):
    """The rows that are `read`, as `version` of a table has them.

    A column that a file has not is null in its rows. They are those that are new `since` another version, where one is
    given.
    """

    has_places = True

    def __init__(
        self,
        version: str,
        columns: TableColumns,
        read: ReadFiles,
        *,
        part: str,
        since: str | None = None,
    ) -> None:
        refuse_old_calendar(read.footers)
        self._version = version
        self._since = since
        self._part = part
        self._columns = columns
        self._files = tuple(read.files)
        self._footers = tuple(read.footers)
        self._changed = read.changed

    @property
    def schema(self) -> StructType:
        return self._columns.shown

    @property
    def pinned(self) -> Sequence[PinnedFile]:
        return [file.pinned for file in self._files]

    @property
    def table_files(self) -> Sequence[TableFile]:
        """The files that are read, with those of their rows that are not."""
        return self._files

    @property
    def version(self) -> str:
        return self._version

    @property
    def since(self) -> str | None:
        return self._since

    @property
    def changed(self) -> RowIds | None:
        return self._changed

    @property
    def part(self) -> str:
        return self._part

    @property
    def rows(self) -> int:
        pairs = zip(self._files, self._footers, strict=True)
        return sum(footer.rows - _deleted(file) for file, footer in pairs)

    def refuse_known_nulls(self, columns: Sequence[str]) -> bool:
        named = dict(zip(self._columns.shown.names, self._columns.stored.names, strict=True))
        is_known = True
        for file, footer in zip(self._files, self._footers, strict=True):
            for name in columns:
                nulls = _nulls(file, footer, named[name])
                refuse_nulls(name, nulls or 0, footer.rows, footer.name)
                is_known &= nulls is not None
        return is_known

    def read(self, spark: SparkSession) -> DataFrame:
        return self._table().splits(spark).df(spark).select(*self._named())

    def placed(self, spark: SparkSession) -> DataFrame:
        return self._table().splits(spark).placed(spark).select(*self._named(), *PLACES)

    def splits(self, spark: SparkSession) -> SplitRows | None:
        pairs = zip(self._columns.stored.fields, self._columns.shown.fields, strict=True)
        has_other_names_inside = any(one.dataType != other.dataType for one, other in pairs)
        return None if has_other_names_inside else self._table().splits(spark)

    def _table(self) -> WorkerTable:
        groups = tuple(footer.groups for footer in self._footers)
        return WorkerTable(self._files, groups, self._columns.stored)

    def _named(self) -> list[Column]:
        pairs = zip(self._columns.stored.fields, self._columns.shown.fields, strict=True)
        return [_called(stored, shown) for stored, shown in pairs]


def _called(stored: StructField, shown: StructField) -> Column:
    column = F.col(quoted(stored.name))
    if stored.dataType != shown.dataType:  # fields of a struct have other names, too
        column = column.cast(shown.dataType)
    return column.alias(shown.name, metadata=shown.metadata)


def _deleted(file: TableFile) -> int:
    return 0 if file.deleted is None else file.deleted.count


def _nulls(file: TableFile, footer: Footer, name: str) -> int | None:
    """How many rows of `file` are null in column `name`; None if only reading tells."""
    if name in file.values:
        return footer.rows - _deleted(file) if file.values[name] is None else 0
    nulls = footer.nulls.get(name)
    # A row that is null may be one that is deleted.
    return None if nulls and _deleted(file) else nulls
