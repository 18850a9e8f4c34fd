"""Tables that are more than their Parquet files: a log beside them says which rows are there.

Their deleted rows, and rows of commits that failed, are still in files. Who reads the files alone
reads those too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

_SIGNS = frozenset({"_delta_log", ".hoodie", ".hoodie_partition_metadata", "metadata"})


@final
@dataclass(frozen=True, slots=True)
class FormatFound:
    """A table of another format."""

    root: Path
    name: str
    """`Delta Lake`, `Apache Iceberg` or `Apache Hudi`."""
    sign: str
    """The file or folder in `root` by which it was recognised."""

    @property
    def reader(self) -> str:
        """What Spark calls its reader."""
        return self.name.split()[-1].lower() if self.name.startswith("Apache") else "delta"

    @property
    def advice(self) -> str:
        """What to do to read its rows."""
        if self.name.startswith("Delta"):
            return f"set input.format: delta and name {self.root}"
        if self.name.endswith("Iceberg"):
            return "set input.format: iceberg and name the table as its catalog does (iceberg:CATALOG/NAMESPACE.TABLE)"
        return f'write its rows to Parquet first (spark.read.format("{self.reader}")) and name that folder'

    def __str__(self) -> str:
        """The table in words."""
        article = "a Delta Lake" if self.name.startswith("Delta") else f"an {self.name}"
        return f"{article} table ({self.sign})"


def format_at(folder: Path) -> FormatFound | None:
    """The table whose root is `folder`, or to which Hudi says that it belongs; None if there is none."""
    if (folder / "_delta_log").exists():
        return FormatFound(folder, "Delta Lake", "_delta_log")
    for sign in (".hoodie", ".hoodie_partition_metadata"):
        if (folder / sign).exists():
            return FormatFound(folder, "Apache Hudi", sign)
    for pattern in ("*.metadata.json", "version-hint.text"):
        found = next((folder / "metadata").glob(pattern), None)
        if found is not None:
            return FormatFound(folder, "Apache Iceberg", f"metadata/{found.name}")
    return None


def format_among(folder: Path, names: Sequence[str]) -> FormatFound | None:
    """`format_at(folder)`, where all `names` in it are known: asks the disk only where they look like one."""
    return format_at(folder) if _SIGNS.intersection(names) else None


def format_around(path: Path) -> FormatFound | None:
    """The table that `path` is the root of or lies in, by its name and by what links stand for."""
    return first_format({path: None, path.resolve(): None})


def first_format(paths: Iterable[Path]) -> FormatFound | None:
    """The first table that one of `paths` is the root of or lies in."""
    folders = dict.fromkeys(folder for path in paths for folder in (path, *path.parents))
    return next((found for folder in folders if (found := _seen(folder)) is not None), None)


def _seen(folder: Path) -> FormatFound | None:
    try:
        return format_at(folder)
    except OSError:  # a parent that this user may not list
        return None
