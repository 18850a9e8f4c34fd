"""The files of a run's tasks, from where any attempt of a task may write to where the output is staged.

    .kvspark-<name>/<run id>-<token>.tasks/   part-<partition>-<token>-<task attempt>-c<n>.zstd.parquet
    .kvspark-<name>/<run id>-<token>/         those of them that count, in the folders of the table
    .kvspark-<name>/<run id>-<token>.swept/   for a moment: what nobody counts, until it is deleted

Tasks write beside the staged output, never into it. A task that Spark has given up, or whose driver is dead,
may write for a while: it can only reach a folder from which nothing is taken any more, or that is gone, and
it never makes one. The driver is told of the files of one attempt of each task, the one that Spark counts, and
takes exactly these, by one rename each.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import final

from kvspark.errors import OutputError, ValidationError
from kvspark.fault import fault_point
from kvspark.table.file_written import FileWritten
from kvspark.table.place.local_place import LocalPlace

log = logging.getLogger(__name__)


@final
class AttemptFiles:
    """Where the tasks of one run write; on the driver."""

    def __init__(self, staged: Path) -> None:
        """Beside `staged`, which does not exist yet."""
        self.folder = staged.with_name(f"{staged.name}.tasks")
        self.place = LocalPlace(str(self.folder))
        self.attempt = staged.name.rpartition("-")[2]
        """What no other run has in its names."""
        self._staged = staged
        self._swept = staged.with_name(f"{staged.name}.swept")

    def open(self) -> None:
        """Makes the folder.

        Raises:
            OutputError: the file system refused.
        """
        try:
            self.folder.mkdir(parents=True)
            self._staged.mkdir()
        except OSError as exc:
            raise OutputError(
                f"the output cannot be staged in {self.folder.parent} ({exc.strerror}); nothing was published"
            ) from exc

    def take(self, files: Iterable[FileWritten]) -> None:
        """Gives `files` their places in the staged output, and says that it is complete.

        Raises:
            ValidationError: one of them is not there, or not as its task left it.
            OutputError: the file system refused.
        """
        fault_point("told")
        for file in files:
            source = self.folder / file.name
            self._check(source, file)
            try:
                place = self._staged / file.folder
                place.mkdir(parents=True, exist_ok=True)
                source.rename(place / file.name)
            except OSError as exc:
                raise OutputError(
                    f"{file.name} cannot be moved to {self._staged / file.folder} ({exc.strerror}); nothing was published"
                ) from exc
            fault_point("moving")
        (self._staged / "_SUCCESS").touch()
        fault_point("moved")

    def sweep(self) -> None:
        """Deletes what was not taken, also while tasks still write; what cannot be deleted the next run deletes."""
        with suppress(FileNotFoundError):
            # Its name first: a task that opens another file must not find the folder while it is emptied.
            self.folder.rename(self._swept)
            fault_point("sweeping")
            shutil.rmtree(self._swept, ignore_errors=True)
        fault_point("swept")

    def _check(self, path: Path, file: FileWritten) -> None:
        size_bytes = path.stat().st_size if path.exists() else None
        if size_bytes != file.size_bytes:
            found = "is not there" if size_bytes is None else f"has {size_bytes:,} bytes"
            raise ValidationError(
                f"nothing was published: {path} {found}, and its task wrote {file.size_bytes:,} bytes; tasks and driver "
                "must share the output's file system"
            )
