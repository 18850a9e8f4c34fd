"""Scoring a table: the same rows and columns, and the model's outputs as new columns."""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession

from kvspark.cache.cache_argument import given_cache
from kvspark.config.cache import CacheConfig
from kvspark.config.model import Way
from kvspark.config.reading.arguments import named_as_arguments
from kvspark.errors import (
    DataError,
    KvsparkError,
    ModelError,
    OutputMismatchError,
    RowError,
)
from kvspark.fingerprint import digest
from kvspark.infer.compute.bad_rows import OnBadRow
from kvspark.infer.resolve.compiled_plan import CompiledPlan, compiled_plan
from kvspark.model.bundle.bundle import Bundle
from kvspark.plan.plan import Plan
from kvspark.spark.columns.column_map import ColumnMap, column_map
from kvspark.spark.columns.input_parts import InputOf
from kvspark.spark.columns.prepared import ready
from kvspark.spark.columns.subject import subject_inputs
from kvspark.spark.runs.tally import Tally, tally_for
from kvspark.spark.scoring.bad_rows import (
    BadRowOutput,
    NoBadRows,
    Scored,
    bad_row_output,
    check_added,
)
from kvspark.spark.scoring.carried import brought_back, carried, carried_schema
from kvspark.spark.scoring.distinct_first import distinct_first
from kvspark.spark.scoring.task_device import on_task_devices
from kvspark.spark.scoring.unread import end_if_unread
from kvspark.spark.scoring.worker import TaskSpec, predictor_for
from kvspark.spark.session.worker_python import check_worker_python
from kvspark.spark.weights.ship import ship
from kvspark.spark.weights.transport import Shipped

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache
    from kvspark.infer.model import Model
    from kvspark.infer.predict.predictor import Predictor


@named_as_arguments()
def score(
    df: DataFrame,
    model: Model,
    *,
    inputs: Mapping[str, InputOf] | None = None,
    outputs: Mapping[str, str] | None = None,
    cache: Cache | str | None = None,
    plan: Plan | None = None,
    stats: Tally | None = None,
    weights: Way | None = None,
    on_bad_row: OnBadRow = "error",
) -> DataFrame:
    """The table `df` with the outputs of `model` as new columns behind its own.

    `inputs` maps a model input to a column, `outputs` a model output to the name of a new column;
    an input or output that is not named has its own name, and where `outputs` is given only the
    outputs in it are kept. An input may also be a list, whose columns are joined to one tensor, a
    pyspark Column, or a mapping as in a conf: `{"expr": "fee / amount", "cast": "float", "default": 0.0}`.
    `cache` is where results are found and left, or its URL: the model's name is the namespace then. What
    crosses to the workers is its conf. `stats` receives what the tasks count, and `cache.stats()` gives it. `weights` says how the model gets to
    the workers, as `model.weights` of the conf: by broadcast, or as an artifact of a session of Spark
    Connect. Also works as `df.transform(kvspark.score, model, inputs={"text": "body"})`.

    A bad row (a null in an input, a damaged picture, a value on which the model raises) fails the
    action that computes it. With `on_bad_row="null"` its outputs are null instead; with "quarantine"
    there is a last column `_kvspark_error` as well, struct<stage, error, message>, null for good rows.

    Guarantees: rows, their order inside a partition and all other columns stay as they are: it
    moves Arrow batches, so NaN stays NaN, null stays null and an int64 above 2^53 stays exact.
    The outputs are the same bits with and without a cache. A partition without rows opens nothing.

    Raises:
        SchemaError: a column is missing or has a type that the model does not take.
        UsageError: an unknown input or output, a column that is there already, a wrong plan, a
            way for the weights that this session or model has not.
        When the table is computed, Spark raises PythonException with one of these in its text:
        DataError for a bad row, its place and trouble; ModelError for a model that fails.
    """
    bad_rows = bad_row_output(on_bad_row)
    check_added(bad_rows, df.columns)
    df, columns = ready(column_map(model.bundle, inputs, outputs), model.bundle, df)
    cache = given_cache(cache, namespace=model.name)
    compiled = compiled_plan(on_task_devices(df.sparkSession, model.bundle), plan)
    spec = task_spec(df.sparkSession, compiled, cache, weights)
    stats = tally_for(cache, stats, df.sparkSession)
    return with_outputs(df, columns, model.bundle, spec, stats, bad_rows)


def with_outputs(
    df: DataFrame,
    columns: ColumnMap,
    bundle: Bundle,
    spec: TaskSpec,
    stats: Tally | None,
    bad_rows: BadRowOutput,
) -> DataFrame:
    """The table that `score` gives, for columns that were checked and a model that was shipped.

    The last columns of `df` are left out where `bad_rows` needs them and nobody else.
    """
    fields = df.schema.fields
    last = len(fields) - bad_rows.extra
    kept = tuple(n for n in range(last) if fields[n].name not in columns.hidden)
    own, added = [fields[n] for n in kept], [*columns.added(bundle), *bad_rows.added]
    names = tuple(f"_{place}" for place in range(len(kept) + len(columns.outputs)))
    places = columns.places(df.schema)
    for name, column in subject_inputs(spec.cache, df.schema).items():
        places[name] = df.schema.names.index(column)
    call = secrets.token_hex(4)
    task = ScoreTask(spec, columns, places, names, call, stats, bad_rows, kept)
    if spec.cache is not None and spec.plan.distinct_first:
        first = [stage for stage in bundle.stages if stage.name in spec.plan.distinct_first]
        df = distinct_first(df, columns, first, spec, call, stats)
    made = carried(df).mapInArrow(task.run, carried_schema(df, own, added))
    return brought_back(made, df, own, added)


def task_spec(
    spark: SparkSession,
    compiled: CompiledPlan,
    cache: Cache | None,
    weights: Way | None = None,
) -> TaskSpec:
    """What the tasks of one call compute with; ships the model.

    Raises:
        UsageError: `weights` do not fit the session, or workers have another Python.
    """
    check_worker_python(spark)
    config = None if cache is None else cache.config
    shipped = ship(spark, compiled.bundle, weights, config)
    return TaskSpec(_key(shipped, compiled.plan, config), shipped, compiled.plan, config)


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
        except Exception as exc:
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
            except Exception as exc:
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


def _key(shipped: Shipped, plan: Plan, cache: CacheConfig | None) -> bytes:
    shapes = plan.micro_batch
    return digest(
        "kvspark.task",
        [
            shipped.manifest,
            {name: [stage.cached, stage.codec, stage.share] for name, stage in plan.stages.items()},
            None if shapes is None else [shapes.rows, shapes.tokens],
            [plan.max_pending_rows, plan.max_held_bytes, plan.memo_bytes],
            None if cache is None else cache.model_dump_json(),
        ],
    )


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
            "raise it, or lower plan.max_pending_rows and plan.max_held_bytes"
        )
    return ModelError(
        f"model {model!r} raised {type(exc).__name__} at {frame.filename}:{frame.lineno} in "
        f"partition {_partition()}; {advice}"
    )
