"""The list of the files of a version: `_kvspark/files.json` in the folder of the attempt that published it.

    {"format": 3, "attempt": ..., "columns": {"types": {...}, "partition_by": [...]},
     "shares": [{"attempt": ..., "run_id": ..., "files": [{...}], "beside": [...]}, ...]}

No listing decides what is in a table. A version of a run that adds rows names files of earlier attempts too, where
they lie: nothing is copied, and a file is in as many versions as list it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

from kvspark.table.file_written import FileWritten
from kvspark.table.publish.publisher import Replaces
from kvspark.table.publish.table_columns import TableColumns

LIST_NAME = "_kvspark/files.json"
_FORMAT = 3
_OF_ONE_ATTEMPT = 2
"""The format before runs could add: files of one attempt, and no columns. 1 lists names and sizes, in outputs on POSIX
file systems."""


@final
@dataclass(frozen=True, slots=True)
class Share:
    """What a version has of one attempt."""

    attempt: str
    run_id: str
    files: tuple[FileWritten, ...] = ()
    beside: tuple[str, ...] = ()
    """Paths in the attempt's folder of the rows that its run set aside."""

    @property
    def paths(self) -> set[str]:
        """All files, by their paths in the attempt's folder."""
        return {*map(path_of, self.files), *self.beside}

    def to_json(self) -> dict[str, Any]:
        """This value as plain JSON types. The ranges of columns are left out: nobody asks, and they are most of it."""
        files = [{**each.to_json(), "columns": {}} for each in self.files]
        own = {"attempt": self.attempt, "run_id": self.run_id}
        return {**own, "files": files, "beside": list(self.beside)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Share:
        """The value that `to_json` made."""
        files = tuple(map(FileWritten.from_json, value["files"]))
        return cls(value["attempt"], value["run_id"], files, tuple(value["beside"]))


@final
@dataclass(frozen=True, slots=True)
class FileList:
    """The files of the version that `attempt` published."""

    attempt: str
    shares: tuple[Share, ...]
    """That of `attempt` last."""
    columns: TableColumns | None = None
    """None for a version of a kvspark that did not list them: nobody adds to it."""

    @property
    def rows(self) -> int:
        """Of the table."""
        return sum(file.rows for share in self.shares for file in share.files)

    @property
    def paths(self) -> list[str]:
        """All files with rows, below the folder of all attempts, in an order that says nothing."""
        return [f"{share.attempt}/{path_of(file)}" for share in self.shares for file in share.files]

    @property
    def folders(self) -> list[str]:
        """Of each of `paths`, where in the table it belongs."""
        return [file.folder for share in self.shares for file in share.files]

    @property
    def beside(self) -> list[str]:
        """The files of rows that were set aside, as `paths`."""
        return [f"{share.attempt}/{path}" for share in self.shares for path in share.beside]

    def kept_by(self, own: Share, replaces: Replaces) -> tuple[Share, ...]:
        """What stays in the table when the run of `own` adds its rows.

        Files without rows do not: others say what the columns are.
        """
        if replaces == "table":
            return ()
        touched = {each.folder for each in own.files if each.rows}

        def kept(share: Share) -> Share:
            is_same = share.run_id == own.run_id
            files = () if is_same and replaces == "run" else with_rows(share.files)
            if replaces == "partitions":
                files = tuple(each for each in files if each.folder not in touched)
            return replace(share, files=files, beside=() if is_same else share.beside)

        shares = map(kept, self.shares)
        return tuple(each for each in shares if each.files or each.beside)

    def to_bytes(self) -> bytes:
        """The file."""
        columns = None if self.columns is None else self.columns.to_json()
        shares = [each.to_json() for each in self.shares]
        value = {"format": _FORMAT, "attempt": self.attempt, "columns": columns, "shares": shares}
        return f"{json.dumps(value)}\n".encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> FileList:
        """The list in the file.

        Raises:
            ValueError, KeyError, TypeError: it is none.
        """
        value = json.loads(data)
        if value["format"] == _OF_ONE_ATTEMPT:
            files = tuple(map(FileWritten.from_json, value["files"]))
            return cls(value["attempt"], (Share(value["attempt"], "", files),))
        if value["format"] != _FORMAT:
            raise ValueError(f"format {value['format']}")
        columns = value["columns"]
        return cls(
            value["attempt"],
            tuple(map(Share.from_json, value["shares"])),
            None if columns is None else TableColumns.from_json(columns),
        )


def with_rows(files: Iterable[FileWritten]) -> tuple[FileWritten, ...]:
    """Those of `files` that have rows."""
    return tuple(each for each in files if each.rows)


def path_of(file: FileWritten) -> str:
    """Where a file lies in the folder of its attempt."""
    return f"{file.folder}/{file.name}" if file.folder else file.name
