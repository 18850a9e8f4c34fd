"""The quarantine table of a run: the bad rows that its output leaves out.

    <output>/_kvspark/quarantine/part-00000.parquet ...

A row is named by the columns of `input.id`, or by the file it was read from and its place there;
then come `stage`, `error` (a class), `message` and `partition` (of the task). No other column of the
input is in it. The table is always there, also without rows, with every output that a run in
quarantine publishes: it lies in the folder that takes the target's place in one step, so no reader
finds the output of one run and the quarantine of another. Spark and Arrow skip names that start
with an underscore, also where the output is one partition of a larger table.

Each attempt of a task writes a file of its own. The attempt that Spark counts says by accumulator which
file is its own; what others left is deleted, never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import Accumulator, AccumulatorParam, TaskContext
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_type

from kvspark.errors import OutputError, UsageError
from kvspark.infer.rows.bad_rows import BadRows
from kvspark.spark.columns.column_map import ColumnMap
from kvspark.spark.columns.missing_column import missing_column
from kvspark.spark.columns.prepared import HIDDEN
from kvspark.spark.runs.run_report import REPORT_FOLDER
from kvspark.spark.scoring.bad_rows import Aside, BadRowOutput, Scored, limited
from kvspark.spark.sources.input.located import LOCATOR, METADATA
from kvspark.spark.sources.input.source import Source
from kvspark.table.hashed_stream import HashedStream
from kvspark.table.place.place import OutputFile, Place

QUARANTINE_FOLDER = f"{REPORT_FOLDER}/quarantine"
"""Inside the output."""

_WHY = (
    ("stage", pa.string()),
    ("error", pa.string()),
    ("message", pa.string()),
    ("partition", pa.int32()),
)

Files = dict[int, tuple[str, int]]
"""The file of each partition's task, and its rows."""


@final
class _ByPartition(AccumulatorParam[Files]):
    """Merges what tasks said; the later one wins."""

    def zero(self, value: Files) -> Files:
        del value
        return {}

    def addInPlace(self, value1: Files, value2: Files) -> Files:  # noqa: N802 - Spark's name.
        return {**value1, **value2}


@final
@dataclass(frozen=True, slots=True)
class Quarantine(BadRowOutput):
    """Bad rows are left out of the output, and written to a table of their own."""

    place: Place
    """Where tasks write."""
    folder: str
    """In the place."""
    ids: Mapping[str, int]
    """The columns that name a row, and their places in the batches that are read."""
    is_located: bool
    """True if those columns were added to the table to name its rows."""
    files: Accumulator[Files]
    empty: pa.Table
    """The table without rows."""
    most: int | None
    """Bad rows that are allowed."""
    sets_aside: ClassVar[bool] = True

    @property
    def extra(self) -> int:
        return len(self.ids) if self.is_located else 0

    def kept(self, scored: Iterable[Scored]) -> Iterator[pa.RecordBatch]:
        writer = _Writer(self)
        for given, made, bad in limited(scored, self.most):
            if not bad:
                yield made
                continue
            writer.write(given, bad)
            good = np.setdiff1d(np.arange(made.num_rows), list(bad))
            yield made.take(pa.array(good))
        writer.close()

    def aside(self) -> Aside:
        return Aside(dict(self.files.value), self.empty)


@final
class _Writer:
    """The file of one attempt of a task; made with its first row."""

    def __init__(self, table: Quarantine) -> None:
        context = TaskContext.get()
        self._table = table
        self._partition = -1 if context is None else context.partitionId()
        attempt = 0 if context is None else context.taskAttemptId()
        self._name = f"part-{self._partition:05d}-{attempt}.parquet"
        self._rows = 0
        self._file: OutputFile | None = None
        self._writer: pq.ParquetWriter | None = None

    def write(self, given: pa.RecordBatch, bad: BadRows) -> None:
        """Writes the rows of the batch `given` that are bad."""
        places = sorted(bad)
        taken = pa.array(places, pa.int64())
        arrays = {name: given.column(at).take(taken) for name, at in self._table.ids.items()}
        for name, type_ in _WHY[:-1]:
            arrays[name] = pa.array([getattr(bad[row], name) for row in places], type_)
        arrays["partition"] = pa.array([self._partition] * len(places), pa.int32())
        rows = pa.table(arrays)
        try:
            if self._writer is None:
                place = self._table.place
                self._file = place.create(place.path(self._name, self._table.folder))
                self._writer = pq.ParquetWriter(
                    HashedStream(self._file), rows.schema, write_page_checksum=True
                )
            self._writer.write_table(rows)
        except OSError as exc:
            raise _refused(self._table.place.url, exc) from None
        self._rows += rows.num_rows

    def close(self) -> None:
        """Completes the file, and says that it is this task's."""
        if self._writer is None or self._file is None:
            return
        try:
            self._writer.close()
            self._file.close()
        except OSError as exc:
            raise _refused(self._table.place.url, exc) from None
        self._table.files.add({self._partition: (self._name, self._rows)})


def quarantine_of(
    source: Source,
    columns: ColumnMap,
    *,
    ids: tuple[str, ...],
    place: Place,
    folder: str = "",
    most: int | None,
) -> tuple[DataFrame, Quarantine]:
    """The table that is to be scored, with what names its rows at its end, and what becomes of its bad rows.

    These go to `folder` of `place`.

    Raises:
        UsageError: `ids` names a column that is not there, that a quarantine table has itself, or
            that is what the model reads; or the rows cannot be named without it.
    """
    check_ids(source, columns, ids)
    df = source.df
    names = {name: df.columns.index(name) for name in ids}
    if not ids:
        names = {name: len(df.columns) + place for place, name in enumerate(LOCATOR)}
        df = source.located()
    kinds = [df.schema.fields[place].dataType for place in names.values()]
    fields = [(name, to_arrow_type(kind)) for name, kind in zip(names, kinds, strict=True)]
    files = df.sparkSession.sparkContext.accumulator({}, _ByPartition())
    empty = pa.schema([*fields, *_WHY]).empty_table()
    return df, Quarantine(place, folder, names, not ids, files, empty, most)


def _not_once(name: str, columns: list[str]) -> str:
    own = [column for column in columns if not column.startswith(HIDDEN)]
    if name in own:
        return f"input.id: there are {own.count(name)} columns {name!r}; nothing was written, name a column that is there once"
    return f"input.id: {missing_column(name, own, 'name one of these')}; nothing was written"


def check_ids(source: Source, columns: ColumnMap, ids: tuple[str, ...]) -> None:
    """Does nothing if the columns `ids` can name a row, or files and places can where there are none.

    Raises:
        UsageError: a column is not there, is a quarantine table's own, or is what the model reads.
    """
    df, taken = source.df, {name for name, _ in _WHY}
    for name in ids:
        if df.columns.count(name) != 1:
            raise UsageError(_not_once(name, df.columns))
        if name.lower() in taken:
            raise UsageError(
                f"input.id names column {name!r}, and the quarantine table has a column of that name "
                "itself; name another one, or leave input.id out"
            )
        kind = df.schema[name].dataType.simpleString()
        if columns.may_read(name) and not _is_number(kind):
            raise UsageError(
                f"input.id names column {name!r}, which the model reads: the quarantine table would "
                "hold the rows' content; name another one, or leave input.id out"
            )
    if not ids and any(name.lower() == METADATA for name in df.columns):
        raise UsageError(
            f"the input has a column {METADATA}, which hides where Spark read a row; name the "
            "columns that tell rows apart in input.id"
        )
    if not ids and source.found is not None and not source.found.has_places:
        raise UsageError(
            "rows of this input have no file and no place in one; name the columns that tell rows apart in input.id"
        )


def _is_number(kind: str) -> bool:
    return kind in {"tinyint", "smallint", "int", "bigint"}


def _refused(folder: str, exc: OSError) -> OutputError:
    return OutputError(
        f"bad rows cannot be written to {folder} ({exc.strerror or exc}); nothing was "
        "published, every worker must be able to write where the output goes"
    )
