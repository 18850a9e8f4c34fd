"""The files of an input table, and what their footers say: checked before anything is read."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError, SchemaError
from kvspark.spark.columns.missing_column import missing_column
from kvspark.spark.tables.footers import Footer, read_footers
from kvspark.spark.tables.listing import InputFile, list_files, resolve_paths
from kvspark.spark.tables.nanoseconds import refuse_nanoseconds
from kvspark.wording import count_of

log = logging.getLogger(__name__)

_SHOWN = 3


@final
@dataclass(frozen=True, slots=True)
class InputFiles:
    """The files of an input, and what their footers say."""

    found: tuple[InputFile, ...]
    """All files, those of zero bytes and of other partitions included."""
    selected: tuple[InputFile, ...]
    """The files of the partitions that are read."""
    footers: tuple[Footer, ...]
    """Of the selected files; of one other file where none is selected."""
    merges: bool = False
    """True if their columns need not agree."""
    roots: tuple[Path, ...] = ()
    """The files and folders of this machine that hold them, if it does."""

    @property
    def partition_columns(self) -> tuple[str, ...]:
        """The columns that folder names give."""
        full = next(file for file in self.found if file.size_bytes)
        return tuple(column for column, _ in full.partition)

    @property
    def empty(self) -> int:
        """Files of zero bytes."""
        return sum(1 for file in self.found if not file.size_bytes)

    @property
    def rows(self) -> int:
        """Of the selected files."""
        return sum(footer.rows for footer in self._of_selected)

    def refuse_known_nulls(self, columns: Sequence[str]) -> bool:
        """True if all footers say that no row is null in one of `columns`; False if one does not say.

        Raises:
            DataError: one tells of a null; names the first column and file.
        """
        for footer in self._of_selected:
            for name in columns:
                refuse_nulls(name, footer.nulls.get(name) or 0, footer.rows, footer.name)
        return all(f.nulls.get(name, 0) is not None for f in self._of_selected for name in columns)

    @property
    def _of_selected(self) -> tuple[Footer, ...]:
        return self.footers if self.selected else ()


def find_files(
    config: InputConfig,
    *,
    columns: Sequence[str],
    defaulted: Collection[str] = (),
    nanos_as_long: bool | None = None,
) -> InputFiles:
    """The files of this machine that `config` names, as `checked_files`.

    Raises:
        DataError: as `checked_files`, or one is of a table that is more than its files (Delta Lake, Iceberg, Hudi).
        SchemaError: as `checked_files`.
        UsageError: a path is not local, or lies in another one.
    """
    roots = resolve_paths(config.paths)
    checked = checked_files(
        config,
        list_files(roots),
        columns=columns,
        defaulted=defaulted,
        nanos_as_long=nanos_as_long,
    )
    return replace(checked, roots=tuple(roots))


def checked_files(
    config: InputConfig,
    found: Sequence[InputFile],
    *,
    columns: Sequence[str],
    defaulted: Collection[str] = (),
    nanos_as_long: bool | None = None,
) -> InputFiles:
    """The files `found`, which `config` names; needs no Spark. `columns` are those that the model takes.

    Nulls in those of them that are `defaulted` have a value.

    `nanos_as_long` says whether the session reads time stamps of nanoseconds as numbers; None: ask it.

    Raises:
        DataError: no file, a file that is not readable Parquet, or a column that the model takes is null by a
            folder's name where a bad row is an error.
        SchemaError: a column is missing, or files do not agree on a column.
    """
    _check_empty(found, config)
    full = [file for file in found if file.size_bytes]
    check_partitions(full, config.partitions)
    selected = [file for file in full if file.is_in(config.partitions)]
    wanted = [name for name in columns if name not in dict(full[0].partition)]
    footers = read_footers([file.pinned for file in selected or full[:1]], counted=wanted)
    _check_columns(footers, wanted, merges=config.merge_schema)
    refuse_nanoseconds(footers, as_long=nanos_as_long)
    if config.on_bad_row == "error" and config.filter is None:
        needed = [name for name in columns if name not in defaulted]
        _refuse_null_partitions(selected, footers, needed)
    return InputFiles(tuple(found), tuple(selected), tuple(footers), config.merge_schema)


def _check_empty(found: Sequence[InputFile], config: InputConfig) -> None:
    if not any(file.size_bytes for file in found):
        raise DataError(
            f"input {', '.join(config.paths)} holds no Parquet file with content "
            f"({len(found)} of zero bytes); nothing was written, check input.paths"
        )
    skip_empty(found, config)


def skip_empty(found: Sequence[InputFile], config: InputConfig) -> None:
    """Names those of `found` that have no bytes, and so no rows.

    Raises:
        DataError: there is one, and `config` refuses them.
    """
    empty = [file.name for file in found if not file.size_bytes]
    if empty and config.strict_files:
        raise DataError(
            f"{_named(empty)}: zero bytes and input.strict_files is on; nothing was written"
        )
    if empty:
        log.warning("%s: zero bytes, skipped (input.strict_files refuses them)", _named(empty))


def check_partitions(files: Sequence[InputFile], partitions: Mapping[str, str | None]) -> None:
    """Does nothing if `files` are in folders of all columns that `partitions` names.

    Raises:
        SchemaError: they are not.
    """
    there = [column for column, _ in files[0].partition]
    for column in partitions:
        if column not in there:
            raise SchemaError(
                f"input.partitions names {column!r}, by which the input is not partitioned "
                f"(partitioned by: {', '.join(there) or 'nothing'}); use input.filter for a "
                "column inside the files"
            )


def _check_columns(footers: Sequence[Footer], wanted: Sequence[str], *, merges: bool) -> None:
    first = footers[0]
    for name in wanted:
        lacking = [footer.name for footer in footers if name not in footer.columns]
        if lacking and (not merges or len(lacking) == len(footers)):
            lacks = next(f for f in footers if name not in f.columns)
            raise SchemaError(
                f"input: {missing_column(name, list(lacks.columns))} (files: {_named(lacking)}); nothing was written"
            )
    for footer in () if merges else footers[1:]:
        for name in {**first.columns, **footer.columns}:
            here, there = first.columns.get(name), footer.columns.get(name)
            if here != there:
                raise SchemaError(
                    f"input files do not agree on column {name!r}: {here or 'missing'} in "
                    f"{first.name}, {there or 'missing'} in {footer.name}; nothing was written, "
                    "rewrite one of them, or read what both hold with input.merge_schema: true"
                )


def _refuse_null_partitions(
    files: Sequence[InputFile], footers: Sequence[Footer], columns: Sequence[str]
) -> None:
    for file, footer in zip(
        files, footers, strict=False
    ):  # of no selected file there is one footer
        for name, value in file.partition:
            if name in columns and value is None:
                refuse_nulls(name, footer.rows, footer.rows, file.name)


def refuse_nulls(name: str, nulls: int, rows: int, where: str) -> None:
    """Does nothing if column `name` has no nulls among the `rows` that are in `where`.

    Raises:
        DataError: it has.
    """
    if nulls:
        raise DataError(
            f"column {name!r}: {count_of(nulls, 'null')} among {count_of(rows, 'row')} in {where}; the model takes "
            f"none, nothing was written; leave them out with input.filter: {name} is not null, or choose "
            "input.on_bad_row"
        )


def _named(paths: Sequence[str]) -> str:
    more = f" (+{len(paths) - _SHOWN})" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more
