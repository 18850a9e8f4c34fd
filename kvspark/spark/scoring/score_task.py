"""What Spark runs on each partition: batches in, the batches with the outputs behind their columns out."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import pyarrow as pa
from pyspark import TaskContext

from kvspark.errors import (
    DataError,
    KvsparkError,
    ModelError,
    OutputMismatchError,
    RowError,
)
from kvspark.spark.columns.column_map import ColumnMap
from kvspark.spark.runs.tally import Tally
from kvspark.spark.scoring.bad_rows import (
    BadRowOutput,
    NoBadRows,
    Scored,
)
from kvspark.spark.scoring.unread import end_if_unread
from kvspark.spark.scoring.worker import TaskSpec, predictor_for

if TYPE_CHECKING:
    from kvspark.infer.predict.predictor import Predictor


@final
@dataclass(frozen=True, slots=True)
class ScoreTask:
    """The function that Spark runs on each partition."""

    spec: TaskSpec
    columns: ColumnMap
    places: Mapping[str, int]
    """Model input, and the subject where there is one -> position of its column."""
    names: tuple[str, ...]
    """All columns of the table and behind them the outputs."""
    call: str
    """Tells the counts of one `score` call from those of another."""
    stats: Tally | None
    bad_rows: BadRowOutput = NoBadRows()  # noqa: RUF009 - a frozen value
    kept: tuple[int, ...] | None = None
    """Places of the columns that come out again; the first ones without it."""

    def run(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches with the outputs behind their own columns."""
        rest = iter(batches)
        first = next(rest, None)
        if first is None:
            return
        feed = _Feed(self, first, rest)
        predictor = predictor_for(self.spec)
        predictor.drain()  # of tasks whose counts nobody asked for
        try:
            yield from self.bad_rows.kept(self._scored(predictor, feed))
        except GeneratorExit as exc:
            predictor.drain()  # what was computed is remembered, also where nobody reads it
            end_if_unread(exc)
            raise
        except RowError as exc:
            raise RowError(f"{feed.place_of(exc)}: {exc.args[0]}") from None
        except DataError as exc:
            raise type(exc)(f"partition {_partition()}: {exc}") from None
        except KvsparkError:
            raise
        except Exception as exc:  # a model raises what it likes, and its text may hold a row
            if exc is feed.failure:  # the trouble is Spark's own, not the model's
                raise
            raise _wrapped(exc, predictor.bundle.name) from None
        if self.stats is not None:
            self.stats.add(self.call, predictor.drain())

    def _scored(self, predictor: Predictor, feed: _Feed) -> Iterator[Scored]:
        if self.bad_rows.sets_aside:
            faults = self.columns.faults
            for batch, made, bad in predictor.stream_apart(feed):
                told = bad if faults is None else faults.explained(batch, bad)
                yield batch, self._joined(batch, made), told
        else:
            for batch, made in predictor.stream(feed):
                yield batch, self._joined(batch, made), {}

    def _joined(self, batch: pa.RecordBatch, made: Mapping[str, pa.Array]) -> pa.RecordBatch:
        kept = (
            range(len(self.names) - len(self.columns.outputs)) if self.kept is None else self.kept
        )
        arrays = [batch.column(place) for place in kept]
        for output in self.columns.outputs:
            if len(made[output]) != batch.num_rows:
                raise OutputMismatchError(
                    f"output {output!r} has {len(made[output])} rows for a batch of "
                    f"{batch.num_rows} (partition {_partition()}); a row-wise model is required"
                )
            arrays.append(made[output])
        return pa.RecordBatch.from_arrays(arrays, names=self.names)


@final
class _Feed(Iterator[tuple[pa.RecordBatch, dict[str, pa.Array]]]):
    """Batches with their input columns, checked for nulls where they are no bad rows."""

    def __init__(
        self, task: ScoreTask, first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]
    ) -> None:
        self._task = task
        self._first: pa.RecordBatch | None = first
        self._rest = rest
        self._rows = 0
        self._starts: dict[int, int] = {}
        """By the identity of a batch: its first row among those of the partition."""
        self.failure: Exception | None = None

    def __next__(self) -> tuple[pa.RecordBatch, dict[str, pa.Array]]:
        batch, self._first = self._first, None
        if batch is None:
            try:
                batch = next(self._rest)
            except StopIteration:
                raise
            except Exception as exc:  # whatever Spark raises is told from what the model does
                self.failure = exc
                raise
        self._starts[id(batch)] = self._rows
        self._rows += batch.num_rows
        arrays = {name: batch.column(place) for name, place in self._task.places.items()}
        if not self._task.bad_rows.sets_aside:
            faults = self._task.columns.faults
            if faults is not None:
                try:
                    faults.refuse(batch.column(faults.place))
                except RowError as exc:
                    exc.batch = batch
                    raise
            for name, column in self._task.columns.inputs.items():
                _refuse_nulls(column, arrays[name], batch)
        return batch, arrays

    def place_of(self, error: RowError) -> str:
        """Where the row is that `error` refuses: by what names rows, else by its place in the partition."""
        batch = error.batch
        if not isinstance(batch, pa.RecordBatch) or error.row is None:
            return f"partition {_partition()}"
        named = self._task.bad_rows.named(batch, error.row)
        place = self._starts.get(id(batch), 0) + error.row
        return named or f"row {place} of partition {_partition()}"


def _refuse_nulls(column: str, array: pa.Array, batch: pa.RecordBatch) -> None:
    if array.null_count:
        more = f" (and {array.null_count - 1:,} more of {len(array):,} rows)"
        error = RowError(
            f"column {column!r} is null{more if array.null_count > 1 else ''}; the model takes no nulls, "
            "filter them out, fill them, or choose on_bad_row",
            array.is_null().index(True).as_py(),
        )
        error.batch = batch
        raise error


def _partition() -> int:
    context = TaskContext.get()
    return -1 if context is None else context.partitionId()


def _wrapped(exc: Exception, model: str) -> ModelError:
    # The text of a foreign exception may hold a row, and Spark writes it to its event log.
    frame = traceback.extract_tb(exc.__traceback__)[-1]
    advice = "run Model.predict on a few rows to see all of it"
    # torch raises a RuntimeError.
    if isinstance(exc, MemoryError) or "can't allocate memory" in str(exc):
        advice = (
            "a Python worker may take spark.executor.pyspark.memory (the whole machine's without it): "
            "raise it, or lower plan.max_pending_rows, plan.max_held_bytes and plan.memo_bytes"
        )
    return ModelError(
        f"model {model!r} raised {type(exc).__name__} at {frame.filename}:{frame.lineno} in "
        f"partition {_partition()}; {advice}"
    )
