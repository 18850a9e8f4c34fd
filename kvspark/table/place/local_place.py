"""A folder that all tasks and the driver share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from kvspark.table.place.local_file import LocalFile
from kvspark.table.place.place import OutputFile, Place


@final
@dataclass(frozen=True, slots=True)
class LocalPlace(Place):
    """The files of `folder`, which a task never makes: where it is gone, the run has ended."""

    folder: str

    @property
    def url(self) -> str:
        return self.folder

    def path(self, name: str, folder: str) -> str:
        del folder  # the driver makes it, and moves the file there
        return name

    def create(self, path: str) -> OutputFile:
        file = Path(self.folder, path)
        for folder in reversed(Path(path).parents[:-1]):
            Path(self.folder, folder).mkdir(exist_ok=True)
        return LocalFile(file)

    def delete(self, path: str) -> None:
        Path(self.folder, path).unlink()
