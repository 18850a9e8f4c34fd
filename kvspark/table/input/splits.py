"""Files cut at their row groups into pieces for tasks: the same pieces of the same files, always."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class RowGroup:
    """What a footer says of one row group."""

    rows: int
    size_bytes: int
    """In the file, all columns together."""


@final
@dataclass(frozen=True, slots=True)
class Piece:
    """Row groups of one file that follow each other."""

    file: int
    """Its place in the list of files."""
    groups: tuple[int, ...]
    first_row: int
    """The place in the file of its first row."""


@final
@dataclass(frozen=True, slots=True)
class SplitSize:
    """How much one task reads, as Spark's settings for files say it."""

    most_bytes: int
    """`spark.sql.files.maxPartitionBytes`."""
    open_bytes: int
    """`spark.sql.files.openCostInBytes`: what opening a file is taken for."""
    cores: int


def splits_of(files: Sequence[Sequence[RowGroup]], size: SplitSize) -> list[tuple[Piece, ...]]:
    """The row groups of `files`, in order, in splits of about one size; a split never ends within a row group.

    Source: https://spark.apache.org/docs/latest/sql-performance-tuning.html
    """
    total = sum(size.open_bytes + sum(g.size_bytes for g in groups) for groups in files)
    most = min(size.most_bytes, max(size.open_bytes, total // size.cores))
    splits: list[list[Piece]] = []
    full = 0
    for file, groups in enumerate(files):
        row, is_read = 0, False
        for place, group in enumerate(groups):
            if group.rows:
                if not splits or full + group.size_bytes > most:
                    splits.append([])
                    full = 0
                _add(splits[-1], file, place, row)
                full += group.size_bytes
                is_read = True
            row += group.rows
        # Behind its row groups, as Spark counts it: before them, a small file would be a split for each of them.
        full += size.open_bytes if is_read else 0
    return [tuple(split) for split in splits]


def _add(split: list[Piece], file: int, group: int, row: int) -> None:
    last = split[-1] if split else None
    if last is not None and last.file == file and last.groups[-1] == group - 1:
        split[-1] = Piece(file, (*last.groups, group), last.first_row)
    else:
        split.append(Piece(file, (group,), row))
