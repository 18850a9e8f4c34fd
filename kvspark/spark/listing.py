"""The files that Spark reads for an input path.

The rules are Spark's own: names that start with `.` or `_` are skipped (but not `_x=1`), folders
`column=value` are partitions, and files in any other folder below the path are not read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final
from urllib.parse import unquote

from kvspark.errors import DataError
from kvspark.fingerprint import digest
from kvspark.spark.paths import local_path

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@final
@dataclass(frozen=True, slots=True)
class InputFile:
    """One file, as it was when the run began."""

    path: Path
    size_bytes: int
    modified_ns: int
    partition: tuple[tuple[str, str], ...] = ()
    """The `column=value` folders that lead to it, outermost first."""

    def is_in(self, partitions: Mapping[str, str]) -> bool:
        """True if the file lies in all of `partitions`."""
        mine = dict(self.partition)
        return all(mine.get(column) == value for column, value in partitions.items())

    def is_as_it_was(self) -> bool:
        """True if the file has not been written since."""
        try:
            status = self.path.stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (
            self.size_bytes,
            self.modified_ns,
        )


def resolve_paths(paths: Sequence[str]) -> list[Path]:
    """The files and folders that `paths` name, with `*`, `?` and `[...]` expanded.

    Raises:
        DataError: a path names nothing.
        UsageError: a path is not local.
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
    return list(dict.fromkeys(found))


def list_files(roots: Sequence[Path]) -> list[InputFile]:
    """The files below `roots` that Spark reads, sorted by path below each root.

    Raises:
        DataError: a folder has files in folders that are no partitions, which Spark would not read.
    """
    return [file for root in roots for file in _files_of(root)]


def snapshot_of(files: Sequence[InputFile]) -> bytes:
    """32 bytes that change when a file is added, removed or written."""
    return digest(
        "kvspark.input",
        [[os.fspath(f.path), f.size_bytes, f.modified_ns] for f in files],
    )


def _files_of(root: Path) -> Iterator[InputFile]:
    if not root.is_dir():
        yield _file(root, ())
        return
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        parts = Path(folder).relative_to(root).parts
        shown = sorted(name for name in names if not _is_hidden(name))
        if shown and any("=" not in part for part in parts):
            raise DataError(
                f"input path {root}: Spark does not read the files in {folder}, which is no "
                "partition (column=value); name that folder in input.paths or move it away"
            )
        partition = tuple((unquote(k), unquote(v)) for k, _, v in (p.partition("=") for p in parts))
        for name in shown:
            yield _file(Path(folder, name), partition)


def _is_hidden(name: str) -> bool:
    return (
        name.startswith(".")
        or (name.startswith("_") and "=" not in name)
        or name.endswith("._COPYING_")
    )


def _file(path: Path, partition: tuple[tuple[str, str], ...]) -> InputFile:
    status = path.stat()
    return InputFile(path, status.st_size, status.st_mtime_ns, partition)
