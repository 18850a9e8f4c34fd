"""Where the row is that failed a run: its file and its place there, found once it is known that there is one.

A run that reads good rows carries no names of files along: of narrow rows they would be most of what
crosses to the workers. When a task fails at a row, its partition is scored once more, up to that row, with
them. The same partition has the same rows again: see `spread`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import unquote

from pyspark.sql import Row
from pyspark.sql import functions as F

from kvspark.errors import RowError
from kvspark.infer.rows.bad_rows import ADVICE, ERROR_COLUMN, INPUT
from kvspark.model.bundle.bundle import Bundle
from kvspark.spark.columns.column_map import ColumnMap
from kvspark.spark.scoring.bad_rows import BadRowOutput, ErrorColumn, NoBadRows
from kvspark.spark.scoring.score import with_outputs
from kvspark.spark.scoring.spread import spread
from kvspark.spark.scoring.worker import TaskSpec
from kvspark.spark.session.failure import explained
from kvspark.spark.sources.input.located import PLACES
from kvspark.spark.sources.input.source import Source

log = logging.getLogger(__name__)

_FILE, _ROW = PLACES
_PARTITION = re.compile(r"^row \d+ of partition (\d+): ")


@contextmanager
def naming_the_row(
    source: Source, columns: ColumnMap, bundle: Bundle, spec: TaskSpec, bad_rows: BadRowOutput
) -> Iterator[None]:
    """Whatever fails inside at a row of `source` says which row of which file it is.

    Raises:
        RowError: a row is bad; names its file and its place there.
    """
    try:
        yield
    except Exception as exc:
        error = explained(exc)
        is_named = not isinstance(bad_rows, NoBadRows) or bool(bad_rows.ids)
        if is_named or not isinstance(error, RowError) or not source.can_locate:
            raise
        found = _PARTITION.match(str(error))
        row = None if found is None else _found(source, columns, bundle, spec, int(found.group(1)))
        if row is None:
            raise
        tell_all(source, columns, bundle, row[_FILE], row[_ROW])
        why = row[ERROR_COLUMN]
        stage = "" if why.stage == INPUT else f"stage {why.stage!r}: "
        raise RowError(
            f"{place_in_file(row[_FILE], row[_ROW])}: {stage}{why.message}{ADVICE}; nothing was published"
        ) from exc


def is_located(columns: Sequence[str]) -> bool:
    """True if the last of `columns` say where a row is."""
    return list(columns[-2:]) == [_FILE, _ROW]


def place_in_file(file: str, row: int) -> str:
    """Row `row` of `file`, as Spark names it, in words."""
    path = unquote(file.removeprefix("file://")) if file.startswith("file:") else file
    return f"{path.removeprefix('file:')} row {row}"


def tell_all(source: Source, columns: ColumnMap, bundle: Bundle, file: str, row: int) -> None:
    """With --debug, logs all that the model says of one row of `source`, which is computed here for it.

    To this terminal: what a worker said of it went through Spark, which keeps logs.
    """
    if not log.isEnabledFor(logging.DEBUG):
        return
    from kvspark.infer.predict.predictor import Predictor
    from kvspark.infer.resolve.compiled_plan import compiled_plan

    chosen = source.located().where((F.col(_FILE) == file) & (F.col(_ROW) == row))
    names = {name: source.df.columns.index(column) for name, column in columns.inputs.items()}
    try:
        table = chosen.toArrow()
        arrays = {name: table.column(place).combine_chunks() for name, place in names.items()}
        Predictor(compiled_plan(bundle)).predict(arrays)
    except Exception:  # a model raises what it likes; the run has failed for the worker's error
        log.debug("what the model says of %s", place_in_file(file, row), exc_info=True)


def _found(
    source: Source, columns: ColumnMap, bundle: Bundle, spec: TaskSpec, partition: int
) -> Row | None:
    """The first bad row of one partition of the run; None if it is not found."""
    log.info("a row of partition %d is bad: looking for its file", partition)
    try:
        rows = spread(source.located(), source.rows, columns)
        rows = rows.where(F.spark_partition_id() == partition)
        told = with_outputs(rows, columns, bundle, spec, None, ErrorColumn())
        return told.where(F.col(ERROR_COLUMN).isNotNull()).select(_FILE, _ROW, ERROR_COLUMN).head()
    except Exception as exc:  # noqa: BLE001 - the run has failed already, and says why
        log.info("it was not found (%s)", type(exc).__name__)
        return None
