"""Files of a table without the rows of some ids: who reads them, and who writes what stays of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kvspark.errors import DataError, OutputError
from kvspark.fault import fault_point
from kvspark.table.file_written import FileWritten
from kvspark.table.input.table_file import Deleted, TableFile
from kvspark.table.input.whole_file import PLACES, rows_of
from kvspark.table.merge.row_ids import RowIds
from kvspark.table.place.place import Place
from kvspark.table.sink import Sink
from kvspark.table.sink_options import SinkOptions

_CALLED = "output"


@final
@dataclass(frozen=True, slots=True)
class Rewritten:
    """What became of one file."""

    number: int
    """Of the file."""
    replaced: int
    """Rows that are left out since a row of the run has their id."""
    removed: int
    """Rows that are left out, and nothing comes in their place."""
    files: tuple[FileWritten, ...]
    """What stays of it; none where nothing does, or nothing is left out."""

    @property
    def is_gone(self) -> bool:
        """True if the file has no place in the table any more."""
        return self.replaced + self.removed > 0

    def to_json(self) -> dict[str, Any]:
        """This value as plain JSON types."""
        return {
            "number": self.number,
            "replaced": self.replaced,
            "removed": self.removed,
            "files": [each.to_json() for each in self.files],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Rewritten:
        """The value that `to_json` made."""
        files = tuple(map(FileWritten.from_json, value["files"]))
        return cls(value["number"], value["replaced"], value["removed"], files)


@final
@dataclass(frozen=True, slots=True)
class Rewriting:
    """How files of a table are rewritten; a value that travels to workers.

    The ids of a file are read first, and the rest of it only where rows go. What is held of it are their places, and row groups.
    """

    files: Sequence[TableFile]
    scored: RowIds
    """Whose rows the run has."""
    gone: RowIds
    """Whose rows go, whether the run has them or not."""
    schema: pa.Schema
    """All columns, as files of the run have them."""
    partition_by: tuple[str, ...]
    place: Place
    """Where the run writes."""
    options: SinkOptions

    def rewrite(self, number: int, name: str) -> Rewritten:
        """What becomes of file `number`; new files are called `name`.

        Raises:
            OutputError: it cannot be read, or the place refuses.
        """
        file = self.files[number]
        try:
            places, replaced, rows = self._found(file)
            made: tuple[FileWritten, ...] = ()
            if 0 < len(places) < rows:
                left = replace(file, deleted=Deleted.of(places))
                made = tuple(self._written(left, name))
        except DataError as exc:
            raise OutputError(str(exc)) from None
        except (OSError, pa.ArrowException) as exc:
            why = str(exc) if isinstance(exc, OSError) else "its columns are of other types"
            raise OutputError(
                f"output file {file.pinned.name} cannot be rewritten ({why}); nothing was published"
            ) from None
        fault_point("rewritten")
        return Rewritten(number, replaced, len(places) - replaced, made)

    def _found(self, file: TableFile) -> tuple[npt.NDArray[np.int64], int, int]:
        """The places of the rows that go, how many of them the run has, and how many rows there are."""
        found = [np.empty(0, np.int64)]
        replaced = rows = 0
        schema = self.scored.rows.schema
        for batch in rows_of(file, schema, called=_CALLED, is_placed=True):
            is_scored = self.scored.among(batch)
            replaced += int(is_scored.sum())
            rows += batch.num_rows
            goes = is_scored | self.gone.among(batch)
            found.append(batch.column(PLACES[1]).to_numpy()[goes])
        return np.concatenate(found), replaced, rows

    def _written(self, file: TableFile, name: str) -> Iterator[FileWritten]:
        sink = Sink(self.place, name, self.schema, self.options, partition_by=self.partition_by)
        yield from sink.write(rows_of(file, self.schema, called=_CALLED))


RunAll: TypeAlias = Callable[[Rewriting], Sequence[Rewritten]]
"""What rewrites all files of a `Rewriting`, wherever that is done."""


def rewritten_here(work: Rewriting) -> list[Rewritten]:
    """All files of `work`, one after the other in this process."""
    return [work.rewrite(number, f"merged-{number:05d}") for number in range(len(work.files))]
