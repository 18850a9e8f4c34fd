"""The model as a function of columns, for `select` and SQL."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

import pandas as pd
import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.types import StructField, StructType

from kvspark.cache.given import given_cache
from kvspark.config.model import Way
from kvspark.errors import UsageError
from kvspark.infer.arrow import arrow_type
from kvspark.infer.plan import Plan
from kvspark.spark.bad_rows import bad_row_output
from kvspark.spark.column_map import column_map
from kvspark.spark.score import ScoreTask, task_spec
from kvspark.spark.tally import tally_for

if TYPE_CHECKING:
    from pyspark.sql._typing import UserDefinedFunctionLike

    from kvspark.cache.cache import Cache
    from kvspark.infer.model import Model


def udf(
    model: Model,
    *,
    cache: Cache | str | None = None,
    plan: Plan | None = None,
    output: str | None = None,
    weights: Way | None = None,
    on_bad_row: Literal["error", "null"] = "error",
) -> UserDefinedFunctionLike:
    """An Iterator pandas UDF of `model`: `df.select("id", kvspark.udf(model)("text"))`.

    It takes the model's inputs as columns, in the model's order, and gives the output: a struct of
    all of them where the model has several and `output` names none. `spark.udf.register` takes it.

    `score` is the faster and stricter form of the same predictor. Here pandas stands in between: a
    null in a column of numbers, or in an array of them, arrives as NaN and cannot be told from one,
    a nullable int64 arrives as float64 and is refused, every row of an array column becomes a
    Python object, and nothing counts what was computed.

    It is marked nondeterministic, though its results are the same bits every time: Spark copies a
    deterministic call into every filter and projection that uses its column, and each copy would
    run the model again. So it cannot stand in a join condition; use it in a `select` before.

    `cache`, `weights` and `on_bad_row` as for `score`; a function has no column for a quarantine.

    Raises:
        UsageError: `output` is no output of the model, the plan does not fit it, or the cache binds
            entries to subjects, or `on_bad_row` is another.
    """
    if on_bad_row not in ("error", "null"):
        raise UsageError(
            f"on_bad_row of kvspark.udf: expected error or null, got {on_bad_row!r}; kvspark.score can "
            "tell why a row is bad"
        )
    cache = given_cache(cache, namespace=model.name)
    if cache is not None and cache.config.subject is not None:
        raise UsageError(
            "cache.subject binds entries to a column that a UDF does not see; use kvspark.score"
        )
    bundle = model.bundle
    names = None if output is None else {output: output}
    columns = column_map(bundle, None, names)
    spark = SparkSession.getActiveSession()
    if spark is None:
        raise UsageError("kvspark.udf needs a running Spark session; make one first")
    fields = columns.added(bundle)
    inputs = [f"input {place}" for place in range(len(columns.inputs))]
    task = ScoreTask(
        task_spec(spark, bundle, cache, plan, weights),
        columns,
        {name: place for place, name in enumerate(columns.inputs)},
        (*inputs, *columns.outputs.values()),
        secrets.token_hex(4),
        tally_for(cache, None, spark),
        bad_row_output(on_bad_row),
    )
    types = tuple(arrow_type(spec) for spec in bundle.inputs)
    function: UserDefinedFunctionLike = _declared(_Function(task, types), fields)
    return function.asNondeterministic()


@final
@dataclass(frozen=True, slots=True)
class _Function:
    """Batches of pandas columns in, batches of the outputs as pandas columns out."""

    task: ScoreTask
    types: tuple[pa.DataType, ...]

    def run(self, batches: Iterator[tuple[Any, ...]]) -> Iterator[pd.DataFrame]:
        outputs = list(self.task.columns.outputs.values())
        for batch in self.task.run(map(self._batch, batches)):
            # As objects where one is null: among floats, an int64 above 2^53 would not stay exact.
            yield batch.select(outputs).to_pandas(integer_object_nulls=True)

    def _batch(self, columns: tuple[Any, ...]) -> pa.RecordBatch:
        arrays = [_array(column, kind) for column, kind in zip(columns, self.types, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, names=self.task.names[: len(arrays)])


def _array(column: pd.Series[Any], kind: pa.DataType) -> pa.Array:
    if column.dtype == object and pa.types.is_nested(kind):
        return pa.array([None if row is None else _nested(row) for row in column], type=kind)
    # from_pandas=False: NaN is a number, and only None is a null.
    return pa.array(column, from_pandas=False)


def _nested(row: Any) -> Any:
    return [_nested(item) for item in row] if hasattr(row, "__len__") else row


def _declared(function: _Function, fields: list[StructField]) -> Any:
    """The form of `function` that Spark knows by its annotations: one input or several, one output or several."""
    name = fields[0].name
    kind = fields[0].dataType if len(fields) == 1 else StructType(fields)

    def one_to_one(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for frame in function.run((column,) for column in batches):
            yield frame[name]

    def many_to_one(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
        for frame in function.run(batches):
            yield frame[name]

    def one_to_many(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        yield from function.run((column,) for column in batches)

    def many_to_many(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.DataFrame]:
        yield from function.run(batches)

    forms = {
        (False, False): one_to_one,
        (True, False): many_to_one,
        (False, True): one_to_many,
        (True, True): many_to_many,
    }
    form = forms[len(function.types) > 1, len(fields) > 1]
    declare: Any = pandas_udf  # its overloads do not know a function that is chosen at run time
    return declare(form, kind)
