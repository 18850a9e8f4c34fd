"""Two places as one: the rows of a table, and what lies beside them where no reader looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from kvspark.table.place.place import OutputFile, Place

BESIDE = "_kvspark/"
"""What the paths of files begin with that hold no rows of the table."""


@final
@dataclass(frozen=True, slots=True)
class SplitPlace(Place):
    """Files of rows in `rows`, all in one folder; those whose path begins with `_kvspark/` in `beside`, without that."""

    rows: Place
    beside: Place

    @property
    def url(self) -> str:
        return self.rows.url

    def path(self, name: str, folder: str) -> str:
        # Of folders of rows nothing is left: the format of the table lists the values of its columns.
        return f"{folder}/{name}" if f"{folder}/".startswith(BESIDE) else name

    def location(self, path: str) -> str:
        place, inside = self._found(path)
        return place.location(inside)

    def create(self, path: str) -> OutputFile:
        place, inside = self._found(path)
        return place.create(inside)

    def delete(self, path: str) -> None:
        place, inside = self._found(path)
        place.delete(inside)

    def _found(self, path: str) -> tuple[Place, str]:
        if path.startswith(BESIDE):
            return self.beside, path.removeprefix(BESIDE)
        return self.rows, path
