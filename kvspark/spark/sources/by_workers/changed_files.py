"""The files of a table that a run reads, and which of their rows: all of a version, or what was changed since another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import final

import pyarrow as pa
from pyspark.sql.types import StructType

from kvspark.errors import DataError, SchemaError
from kvspark.spark.columns.missing_column import missing_column
from kvspark.spark.tables.footers import Footer
from kvspark.table.input.pinned_file import PinnedFile
from kvspark.table.input.pinning import pinned_files
from kvspark.table.input.table_file import TableFile
from kvspark.table.merge.changes import ChangedFile, changes_in
from kvspark.table.merge.row_ids import RowIds


@final
@dataclass(frozen=True, slots=True)
class ReadFiles:
    """Files, each with its footer."""

    files: Sequence[TableFile]
    footers: Sequence[Footer]
    changed: RowIds | None = None
    """Of the rows that were changed or removed; None where none are known to be."""

    def of_changes(
        self, listed: Sequence[ChangedFile], ids: pa.Schema, names: Sequence[str], url: str
    ) -> ReadFiles:
        """Those of these files, which are `listed`, that have new rows, and of these rows the last ones alone.

        `ids` are the columns by which rows are known, as files have them, and `names` as the table `url` calls them.

        Raises:
            DataError: as `changes_in`.
        """
        found = changes_in(listed, self.files, ids, url)
        return ReadFiles(
            [replace(self.files[number], deleted=gone) for number, gone in found.new.items()],
            [self.footers[number] for number in found.new],
            RowIds(found.ids.rows.rename_columns(list(names))),
        )


def pinned_changes(
    listed: Sequence[ChangedFile], options: Mapping[str, str], url: str
) -> list[PinnedFile]:
    """The files `listed`, in order.

    Raises:
        DataError: one is not there any more, or cannot be looked at.
        SecretError: the object store refuses the credentials.
    """
    try:
        return pinned_files([file.listed.location for file in listed], options)
    except DataError as exc:
        if all(file.kind == "came" for file in listed):
            raise
        raise DataError(
            f"input {url}: files that say what was changed since the last run are removed, or cannot be read; nothing was "
            "written, run once without input.changed_since and with output.mode: replace, and let the table keep removed files "
            "for longer than runs are apart"
        ) from exc


@contextmanager
def reading_last(since: str, url: str) -> Iterator[None]:
    """Says of what cannot be read in it that the last run has read it, and what to do."""
    try:
        yield
    except DataError as exc:
        raise DataError(
            f"{str(exc).partition(';')[0]}; the last run has read up to {since} of {url}, nothing was written: where that has left "
            "the table, run once without input.changed_since and with output.mode: replace"
        ) from exc


def refuse_other_columns(
    now: Mapping[str, object], before: Mapping[str, object], since: str, url: str
) -> None:
    """Does nothing if each name of a column that the table `url` has `now` and had `before`, at `since`, is that of the same.

    The values are what tells columns apart, whatever they are called.

    Raises:
        DataError: it is that of another, so that rows which nobody has touched have other values than before.
    """
    for name in now:
        if name in before and now[name] != before[name]:
            raise DataError(
                f"input {url}: since {since}, which the last run read, {name!r} has become another column, or one of another "
                "type, so rows are others than they were; nothing was written, run once without input.changed_since and with "
                "output.mode: replace"
            )


def refuse_missing(by: Sequence[str], schema: StructType, url: str) -> None:
    """Does nothing if the table `url` of `schema` has all columns `by`.

    Raises:
        SchemaError: it has not.
    """
    for name in by:
        if name not in schema.names:
            told = missing_column(name, schema.names)
            raise SchemaError(f"input: {told} (output.merge_by, table: {url}); nothing was written")
