"""The list of the files of a version: `_kvspark/files.json` in its folder, which makes a folder of objects a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from kvspark.table.file_written import FileWritten

LIST_NAME = "_kvspark/files.json"
_FORMAT = 2
"""1 lists names and sizes, in outputs on POSIX file systems."""


@final
@dataclass(frozen=True, slots=True)
class FileList:
    """The files of one attempt, with what is known of each."""

    attempt: str
    files: Sequence[FileWritten]

    def to_bytes(self) -> bytes:
        """The file."""
        files = [each.to_json() for each in self.files]
        return (
            f"{json.dumps({'format': _FORMAT, 'attempt': self.attempt, 'files': files})}\n".encode()
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> FileList:
        """The list in the file.

        Raises:
            ValueError, KeyError, TypeError: it is none.
        """
        value = json.loads(data)
        if value["format"] != _FORMAT:
            raise ValueError(f"format {value['format']}")
        return cls(value["attempt"], tuple(map(FileWritten.from_json, value["files"])))
