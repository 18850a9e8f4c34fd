"""The files that Spark reads for an input path.

Files of a table whose log says which rows are there (Delta Lake, Iceberg, Hudi) are refused, and so are
those that a link brings in. The rules are Spark's own: names that start with `.` or `_` are skipped (but not `_x=1`), folders
`column=value` are partitions, and files in any other folder below the path are not read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from kvspark.errors import DataError, UsageError
from kvspark.spark.tables.folder_names import Partition, is_hidden, partition_of, partition_value
from kvspark.spark.tables.paths import local_path
from kvspark.spark.tables.table_format import FormatFound, first_format, format_among, format_around
from kvspark.table.input.pinned_file import PinnedFile, PinnedPath


@final
@dataclass(frozen=True, slots=True)
class InputFile:
    """One file, as it was when the run began."""

    pinned: PinnedFile
    size_bytes: int
    partition: Partition = ()
    """The `column=value` folders that lead to it, outermost first."""

    @property
    def name(self) -> str:
        """Its path or URL."""
        return self.pinned.name

    def is_in(self, partitions: Mapping[str, str | None]) -> bool:
        """True if the file lies in all of `partitions`."""
        mine = dict(self.partition)
        return all(
            column in mine and mine[column] == partition_value(value)
            for column, value in partitions.items()
        )


def resolve_paths(paths: Sequence[str]) -> list[Path]:
    """The files and folders that `paths` name, with `*`, `?` and `[...]` expanded.

    Raises:
        DataError: a path names nothing.
        UsageError: a path is not local, or lies in another one: its rows would be read twice.
    """
    found: list[Path] = []
    for text in paths:
        path = local_path(text, what="input path")
        matches = [path] if path.exists() else sorted(Path("/").glob(str(path).lstrip("/")))
        if not matches:
            raise DataError(
                f"input path {path} does not exist; nothing was written, check input.paths and "
                "whether the job that makes it has run"
            )
        found.extend(matches)
    found = list(dict.fromkeys(found))
    _refuse_twice(found)
    return found


def _refuse_twice(paths: Sequence[Path]) -> None:
    places: dict[Path, Path] = {}
    for path in paths:
        other = places.setdefault(path.resolve(), path)
        if other is not path:
            raise _twice(path, other)
    for place, path in places.items():
        outer = next((places[folder] for folder in place.parents if folder in places), None)
        if outer is not None:
            raise _twice(path, outer)


def _twice(path: Path, other: Path) -> UsageError:
    return UsageError(
        f"input.paths names {path} and {other}, which holds it: its rows would be read twice; nothing was "
        "written, name one of them"
    )


def list_files(roots: Sequence[Path]) -> list[InputFile]:
    """The files below `roots` that Spark reads, sorted by path below each root.

    Raises:
        DataError: a folder has files in folders that are no partitions, which Spark would not read; they belong to
            a table of another format; or as `one_table`.
    """
    return one_table({str(root): list(_files_of(root)) for root in roots})


def one_table(by_root: Mapping[str, Sequence[InputFile]]) -> list[InputFile]:
    """All files, by the files or folders that the conf names.

    Raises:
        DataError: not all are partitioned by the same columns, or two of the folders are partitioned.
    """
    found = [file for files in by_root.values() for file in files]
    for file in found[1:]:
        if [column for column, _ in file.partition] != [c for c, _ in found[0].partition]:
            raise DataError(
                f"input files are not partitioned by the same columns: {_columns_of(found[0])}, "
                f"{_columns_of(file)}; nothing was written, name only folders of one kind in input.paths"
            )
    partitioned = [root for root, files in by_root.items() if files and files[0].partition]
    if len(partitioned) > 1:
        raise DataError(
            f"input paths {partitioned[0]} and {partitioned[1]} are both partitioned, and Spark reads one such table at a "
            "time; nothing was written, name the folder above them if they are one, or run a job for each"
        )
    return found


def _files_of(root: Path) -> Iterator[InputFile]:
    _refuse(format_around(root), root)
    if not root.is_dir():
        yield _file(root, ())
        return
    linked: set[Path] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        _refuse(format_among(Path(folder), [*folders, *names]), root)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        parts = Path(folder).relative_to(root).parts
        shown = sorted(name for name in names if not is_hidden(name))
        if shown and any("=" not in part for part in parts):
            raise DataError(
                f"input path {root}: Spark does not read the files in {folder}, which is no "
                "partition (column=value); name that folder in input.paths or move it away"
            )
        below = [Path(folder, name) for name in (*folders, *shown)]
        places = {path.resolve() for path in below if path.is_symlink()}
        new = {place if place.is_dir() else place.parent for place in places} - linked
        linked |= new
        _refuse(first_format(new), root)
        _refuse_loops(Path(folder), folders)
        partition = partition_of(str(root), parts) if shown else ()
        for name in shown:
            yield _file(Path(folder, name), partition)


def _refuse_loops(folder: Path, folders: Sequence[str]) -> None:
    around = {place.resolve() for place in (folder, *folder.parents)} | set(
        folder.resolve().parents
    )
    for link in (folder / name for name in folders if (folder / name).is_symlink()):
        if link.resolve() in around:
            raise DataError(
                f"input folder {link} is a link to {link.resolve()}, in which it lies: it has no end; nothing was written, "
                "remove the link"
            )


def _refuse(found: FormatFound | None, root: Path) -> None:
    if found is not None:
        where = "is" if found.root == root else "lies in" if found.root in root.parents else "holds"
        at = "" if found.root == root else f" at {found.root}"
        raise DataError(
            f"input path {root} {where} {found}{at}: its Parquet files also hold rows that were deleted or "
            "never committed, which only its log tells apart, and input.format: parquet reads the files alone; nothing "
            f"was written, {found.advice}"
        )


def _columns_of(file: InputFile) -> str:
    return f"{file.name} by {', '.join(column for column, _ in file.partition) or 'none'}"


def _file(path: Path, partition: Partition) -> InputFile:
    pinned = PinnedPath.at(path)
    return InputFile(pinned, pinned.size_bytes, partition)
