"""How the rows of a run take the place of those with the same id, in a table whose format lists its files.

Of the files there, those are rewritten that hold such a row: they are chosen by what the format says of their columns,
then by reading their ids alone. All others stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import pyarrow as pa

from kvspark.errors import DataError, OutputError
from kvspark.table.file_written import FileWritten
from kvspark.table.input.pinning import pinned_files
from kvspark.table.input.table_file import TableFile
from kvspark.table.input.whole_file import rows_of
from kvspark.table.merge.rewriting import Rewriting, RunAll, rewritten_here
from kvspark.table.merge.row_ids import IdBounds, RowIds, check_id_types
from kvspark.table.partition_folders import days_in, texts_in
from kvspark.table.place.place import Place
from kvspark.table.sink_options import SinkOptions


@final
@dataclass(frozen=True, slots=True)
class Merge:
    """What a run asks for."""

    by: tuple[str, ...]
    """The columns that are the id of a row."""
    changed: RowIds | None = None
    """Of rows that the input has changed or removed, whether the run has scored them or not."""
    options: SinkOptions = field(default_factory=SinkOptions)
    run: RunAll = rewritten_here


@final
@dataclass(frozen=True, slots=True)
class NewRows:
    """What the tasks of a run have written."""

    place: Place
    files: Sequence[FileWritten]
    beside: Sequence[str]
    """Files of rows that were set aside, by path in the place."""
    schema: pa.Schema
    """All columns, as the files have them."""
    partition_by: tuple[str, ...]
    storage: Mapping[str, str]
    """Settings of the store of the table."""


@final
@dataclass(frozen=True, slots=True)
class OldFile:
    """A file that is in the table."""

    name: str
    """As the format calls it."""
    location: str
    """Its path or URL."""
    values: Mapping[str, Any]
    """Of partition columns."""
    bounds: Mapping[str, tuple[Any, Any]]
    """The lowest and the highest value of columns, or less and more; None where that is not known. Dates as `IdBounds` has them."""


@final
@dataclass(frozen=True, slots=True)
class MergedFiles:
    """What becomes of the files that are in the table."""

    gone: tuple[str, ...] = ()
    """Those that are taken out, as the format calls them."""
    files: tuple[FileWritten, ...] = ()
    """What comes in their place, in the place of the run."""
    replaced: int = 0
    """Rows that are left out since the run has others of the same ids."""
    removed: int = 0
    """Rows that are left out, and nothing comes in their place."""


def merged_files(merge: Merge, new: NewRows, old: Sequence[OldFile]) -> MergedFiles:
    """The files of the table without the rows that `new` replaces, or that are changed and not in it.

    Holds the ids of the run's rows in memory, and on no account the files.

    Raises:
        DataError: a row of the run has no id, or that of another.
        UsageError: ids are of a type that rows are not known by.
        OutputError: a file of the table cannot be read, or the place refuses.
    """
    schema = pa.schema([new.schema.field(name).with_nullable(nullable=True) for name in merge.by])
    check_id_types(schema)
    scored, aside = _ids(new, schema)
    scored.also(aside).check("the input")
    gone = aside if merge.changed is None else aside.also(merge.changed.without(scored))
    bounds = IdBounds(scored.also(gone))
    chosen = [each for each in old if bounds.may_be_in(each.bounds)]
    if not chosen:
        return MergedFiles()
    work = Rewriting(
        _pinned(chosen, new), scored, gone, new.schema, new.partition_by, new.place, merge.options
    )
    done = merge.run(work)
    return MergedFiles(
        tuple(chosen[each.number].name for each in done if each.is_gone),
        tuple(file for each in done for file in each.files),
        sum(each.replaced for each in done),
        sum(each.removed for each in done),
    )


def check_ids(by: Sequence[str], columns: Sequence[str], url: str) -> None:
    """Does nothing if the table `url` that is there, with `columns`, has all of `by`, or no column yet.

    Raises:
        OutputError: rows that are there would never be known again.
    """
    missing = [name for name in by if name not in columns]
    if missing and columns:
        raise OutputError(
            f"output path {url}: the table there has no column {missing[0]!r}, which output.merge_by names, so its rows are not "
            "known again; nothing was published, name columns that it has, or run once with output.mode: replace"
        )


def _pinned(chosen: Sequence[OldFile], new: NewRows) -> tuple[TableFile, ...]:
    try:
        pinned = pinned_files([each.location for each in chosen], new.storage, called="output")
    except DataError as exc:
        raise OutputError(str(exc)) from None
    return tuple(TableFile(file, each.values) for file, each in zip(pinned, chosen, strict=True))


def _ids(new: NewRows, schema: pa.Schema) -> tuple[RowIds, RowIds]:
    """The ids of the rows that are scored, and of those that were set aside."""
    scored = [
        (new.place.location(new.place.path(each.name, each.folder)), each.folder)
        for each in new.files
        if each.rows
    ]
    aside = [(new.place.location(path), "") for path in new.beside]
    found = [RowIds.of(_read(files, new, schema), schema) for files in (scored, aside)]
    return found[0], found[1]


def _read(
    files: Sequence[tuple[str, str]], new: NewRows, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    pinned = pinned_files([location for location, _ in files], new.storage)
    for file, (_, folder) in zip(pinned, files, strict=True):
        yield from rows_of(TableFile(file, _values(folder, schema)), schema, called="output")


def _values(folder: str, schema: pa.Schema) -> dict[str, Any]:
    return {
        name: None if text is None else _value(text, schema.field(name).type)
        for name, text in texts_in(folder).items()
        if name in schema.names
    }


def _value(text: str, kind: pa.DataType) -> Any:
    return days_in(text) if pa.types.is_date32(kind) else pa.scalar(text).cast(kind).as_py()
