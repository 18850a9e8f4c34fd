"""Scoring a table: the same rows and columns, and the model's outputs as new columns."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, final

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructField, StructType

from kvspark.cache.cache_argument import given_cache
from kvspark.config.cache import CacheConfig
from kvspark.config.model import Way
from kvspark.config.reading.arguments import named_as_arguments
from kvspark.fingerprint import digest
from kvspark.infer.resolve.compiled_plan import CompiledPlan, compiled_plan
from kvspark.infer.rows.bad_rows import OnBadRow
from kvspark.model.bundle.bundle import Bundle
from kvspark.plan.plan import Plan
from kvspark.spark.columns.arguments import check_arguments, check_table
from kvspark.spark.columns.column_map import ColumnMap, column_map
from kvspark.spark.columns.input_parts import InputOf
from kvspark.spark.columns.prepared import ready
from kvspark.spark.columns.subject import subject_inputs
from kvspark.spark.runs.tally import Tally, tally_for
from kvspark.spark.scoring.bad_rows import (
    BadRowOutput,
    bad_row_output,
    check_added,
)
from kvspark.spark.scoring.carried import brought_back, carried, carried_schema
from kvspark.spark.scoring.distinct_first import distinct_first
from kvspark.spark.scoring.score_task import ScoreTask
from kvspark.spark.scoring.task_device import on_task_devices
from kvspark.spark.scoring.worker import TaskSpec
from kvspark.spark.session.worker_python import check_worker_python
from kvspark.spark.sources.input.split_rows import ReadTask, SplitRows
from kvspark.spark.weights.ship import ship
from kvspark.spark.weights.transport import Shipped

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache
    from kvspark.infer.model import Model


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
    crosses to the workers is its conf. `plan` says which stages are cached; without it that goes by rule, and
    `kvspark.measured_plan` measures what pays. `stats` receives what the tasks count, and `cache.stats()` gives it. `weights` says how the model gets to
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
        UsageError: the model is none, an unknown input or output, a column that is there already, a wrong plan, a
            way for the weights that this session or model has not.
        When the table is computed, Spark raises PythonException with one of these in its text:
        DataError for a bad row, its place and trouble; ModelError for a model that fails.
    """
    check_table(df)
    check_arguments(model, plan=plan, inputs=inputs, outputs=outputs)
    bad_rows = bad_row_output(on_bad_row)
    check_added(bad_rows, df.columns)
    df, columns = ready(column_map(model.bundle, inputs, outputs), model.bundle, df)
    cache = given_cache(cache, namespace=model.name)
    compiled = compiled_plan(on_task_devices(df.sparkSession, model.bundle), plan)
    spec = task_spec(df.sparkSession, compiled, cache, weights)
    stats = tally_for(cache, stats, df.sparkSession)
    return with_outputs(df, columns, model.bundle, spec, stats, bad_rows)


Rows: TypeAlias = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@final
@dataclass(frozen=True, slots=True)
class _ReadAndScore:
    """The function that Spark runs on each partition where a worker reads what it scores."""

    read: ReadTask
    score: ScoreTask

    def run(self, numbers: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return self.score.run(self.read.run(numbers))


@final
@dataclass(frozen=True, slots=True)
class ScoredTable:
    """A table that is scored once somebody computes it: Spark, or the workers that write it."""

    source: DataFrame
    """The table that is read."""
    task: ScoreTask
    """What the workers make of it, by the places of its columns."""
    own: tuple[StructField, ...]
    added: tuple[StructField, ...]
    splits: SplitRows | None = None
    """`source` as workers read it themselves; None where Spark gives them its rows."""

    @property
    def schema(self) -> StructType:
        """The columns of the table, its own and those of the model."""
        return StructType([*self.own, *self.added])

    def in_workers(self) -> tuple[DataFrame, Rows]:
        """What Spark gives the workers, and what makes the rows of the table of it there.

        Raises:
            SchemaError: a column has no form that a worker takes.
        """
        if self.splits is None:
            return carried(self.source), self.task.run
        given = self.splits.numbers(self.source.sparkSession)
        return given, _ReadAndScore(ReadTask(self.splits.reader), self.task).run

    def df(self) -> DataFrame:
        """The table as Spark has it.

        Raises:
            SchemaError: as `in_workers`.
        """
        schema = carried_schema(self.source, self.own, self.added)
        made = carried(self.source).mapInArrow(self.task.run, schema)
        return brought_back(made, self.source, self.own, self.added)


def with_outputs(
    df: DataFrame,
    columns: ColumnMap,
    bundle: Bundle,
    spec: TaskSpec,
    stats: Tally | None,
    bad_rows: BadRowOutput,
) -> DataFrame:
    """The table that `score` gives, for columns that were checked and a model that was shipped."""
    return scored_table(df, columns, bundle, spec, stats, bad_rows).df()


def scored_table(
    df: DataFrame,
    columns: ColumnMap,
    bundle: Bundle,
    spec: TaskSpec,
    stats: Tally | None,
    bad_rows: BadRowOutput,
    *,
    splits: SplitRows | None = None,
) -> ScoredTable:
    """The table of `with_outputs`, for whoever lets the workers do more with it.

    `splits` are its rows where the workers are to read them.
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
        df, splits = distinct_first(df, columns, first, spec, call, stats), None
    return ScoredTable(df, task, tuple(own), tuple(added), splits)


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


def _key(shipped: Shipped, plan: Plan, cache: CacheConfig | None) -> bytes:
    shapes = plan.micro_batch
    return digest(
        "kvspark.task",
        [
            shipped.manifest,
            {
                name: [stage.cached, stage.codec, stage.share, stage.finds_equal_rows]
                for name, stage in plan.stages.items()
            },
            None if shapes is None else [shapes.rows, shapes.tokens],
            [
                plan.max_pending_rows,
                plan.max_held_bytes,
                plan.memo_bytes,
                plan.watch,
                plan.short_calls,
            ],
            None if cache is None else cache.model_dump_json(),
        ],
    )
