"""The model as a function of columns, for `select` and SQL."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, SparkSession
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.types import StructField, StructType

from kvspark.cache.cache_argument import given_cache
from kvspark.config.model import Way
from kvspark.config.reading.arguments import named_as_arguments
from kvspark.errors import UsageError
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.infer.rows.arrow import arrow_type
from kvspark.plan.plan import Plan
from kvspark.spark.columns.arguments import check_arguments
from kvspark.spark.columns.column_map import column_map
from kvspark.spark.columns.input_parts import InputOf
from kvspark.spark.runs.tally import tally_for
from kvspark.spark.scoring.bad_rows import bad_row_output
from kvspark.spark.scoring.score import task_spec
from kvspark.spark.scoring.score_task import ScoreTask
from kvspark.spark.scoring.task_device import on_task_devices
from kvspark.spark.scoring.udf_inputs import udf_inputs
from kvspark.spark.scoring.udf_nan import frame_with_nan
from kvspark.wording import count_of

if TYPE_CHECKING:
    from pyspark.sql._typing import UserDefinedFunctionLike

    from kvspark.cache.cache import Cache
    from kvspark.infer.model import Model


@named_as_arguments()
def udf(
    model: Model,
    *,
    cache: Cache | str | None = None,
    plan: Plan | None = None,
    output: str | None = None,
    weights: Way | None = None,
    on_bad_row: Literal["error", "null"] = "error",
    inputs: Mapping[str, InputOf] | None = None,
) -> UserDefinedFunctionLike:
    """An Iterator pandas UDF of `model`: `df.select("id", kvspark.udf(model)("text"))`.

    With `inputs`, as for `score`, it makes the model's inputs of columns that it names itself, and is
    called with none: `df.select("id", kvspark.udf(model, inputs={"x": ["a", "b"]})())`. Nulls are then told
    from NaN, and it cannot be registered for SQL.

    It takes the model's inputs as columns, in the model's order, and gives the output: a struct of
    all of them where the model has several and `output` names none. `spark.udf.register` takes it.

    `score` is the faster and stricter form of the same predictor. Here pandas stands in between: a
    null in a column of numbers, or in an array of them, arrives as NaN and cannot be told from one,
    a nullable int64 arrives as float64 and is refused, every row of an array column becomes a
    Python object, and nothing counts what was computed.

    It is marked nondeterministic, though its results are the same bits every time: Spark copies a
    deterministic call into every filter and projection that uses its column, and each copy would
    run the model again. So it cannot stand in a join condition; use it in a `select` before.

    `cache`, `plan`, `weights` and `on_bad_row` as for `score`; a function has no column for a quarantine.

    Raises:
        UsageError: `output` is no output of the model, the plan does not fit it, or the cache binds
            entries to subjects, or `on_bad_row` is another.
    """
    check_arguments(model, plan=plan, inputs=inputs)
    cache = given_cache(cache, namespace=model.name)
    _check(on_bad_row, cache)
    bundle = model.bundle
    names = None if output is None else {output: output}
    columns = column_map(bundle, inputs, names)
    spark = SparkSession.getActiveSession()
    if spark is None:
        raise UsageError("kvspark.udf needs a running Spark session; make one first")
    made = None if inputs is None else udf_inputs(columns, bundle)
    labels = {spec.name: f"of input {spec.name}" for spec in bundle.inputs}
    if made is not None:
        columns = replace(columns, inputs=labels, made={}, faults=made.faults)
    kinds = tuple(arrow_type(spec) for spec in bundle.inputs) if made is None else made.kinds
    task = ScoreTask(
        task_spec(spark, compiled_plan(on_task_devices(spark, bundle), plan), cache, weights),
        columns,
        {spec.name: place for place, spec in enumerate(bundle.inputs)},
        (*(f"input {place}" for place in range(len(kinds))), *columns.outputs.values()),
        secrets.token_hex(4),
        tally_for(cache, None, spark),
        bad_row_output(on_bad_row),
    )
    wrapped = frozenset() if made is None else made.wrapped
    declared = _declared(_Function(task, kinds, wrapped), columns.added(bundle))
    function: UserDefinedFunctionLike = declared.asNondeterministic()
    inputs_told = tuple(spec.name for spec in bundle.inputs)
    bound: Any = _counted(function, inputs_told) if made is None else _Bound(function, made.given)
    declared_so: UserDefinedFunctionLike = bound
    return declared_so


def _check(on_bad_row: str, cache: Cache | None) -> None:
    if on_bad_row not in ("error", "null"):
        raise UsageError(
            f"on_bad_row of kvspark.udf: expected error or null, got {on_bad_row!r}; kvspark.score can "
            "tell why a row is bad"
        )
    if cache is not None and cache.config.subject is not None:
        raise UsageError(
            "cache.subject binds entries to a column that a UDF does not see; use kvspark.score"
        )


def _counted(function: UserDefinedFunctionLike, inputs: tuple[str, ...]) -> UserDefinedFunctionLike:
    """`function`, which refuses a call with more or fewer columns than `inputs` before Spark has it."""

    @wraps(function)  # with the attributes that `spark.udf.register` asks for
    def called(*columns: Any) -> Column:
        if len(columns) != len(inputs):
            raise UsageError(
                f"this kvspark.udf takes {count_of(len(inputs), 'column')}, the model's inputs in their order: "
                f"{', '.join(inputs)}; got {len(columns)}. With inputs=... it names its columns itself"
            )
        return function(*columns)

    counted: Any = called
    counting: UserDefinedFunctionLike = counted
    return counting


@final
class _Bound:
    """A UDF that names its columns itself."""

    def __init__(self, function: UserDefinedFunctionLike, given: tuple[Column, ...]) -> None:
        self._function = function
        self._given = given

    def __call__(self, *columns: object) -> Column:
        """The model's output as a column.

        Raises:
            UsageError: it is called with columns.
        """
        if columns:
            raise UsageError(
                "this kvspark.udf was given inputs and reads their columns itself; call it with none"
            )
        return self._function(*self._given)

    def asNondeterministic(self) -> _Bound:  # noqa: N802 - Spark's name.
        """Itself, which is marked so already."""
        return self

    @property
    def func(self) -> object:
        """What `spark.udf.register` asks for."""
        raise UsageError(
            "a kvspark.udf with inputs reads columns by name, which a function of SQL cannot; register one without "
            "inputs, or make a view of kvspark.score"
        )

    evalType = returnType = deterministic = func  # noqa: N815 - Spark's names.


@final
@dataclass(frozen=True, slots=True)
class _Function:
    """Batches of pandas columns in, batches of the outputs as pandas columns out."""

    task: ScoreTask
    types: tuple[pa.DataType, ...]
    wrapped: frozenset[int] = frozenset()
    """Places of numbers that come as an array of one."""

    def run(self, batches: Iterator[Any]) -> Iterator[pd.DataFrame]:
        """The outputs of batches as Spark gives them: a tuple of columns, or the only column."""
        outputs = list(self.task.columns.outputs.values())
        for batch in self.task.run(map(self._batch, batches)):
            yield frame_with_nan(batch.select(outputs))

    def _batch(self, given: Any) -> pa.RecordBatch:
        columns = given if isinstance(given, tuple) else (given,)
        if len(columns) != len(self.types):
            raise UsageError(
                f"this kvspark.udf takes {count_of(len(self.types), 'column')}, the model's inputs in their order; "
                f"got {len(columns)}"
            )
        arrays = [_array(column, kind) for column, kind in zip(columns, self.types, strict=True)]
        for place in self.wrapped:
            arrays[place] = pc.list_element(arrays[place], 0)
        return pa.RecordBatch.from_arrays(arrays, names=self.task.names[: len(arrays)])


def _array(column: pd.Series[Any], kind: pa.DataType) -> pa.Array:
    if column.dtype == object and pa.types.is_nested(kind):
        rows = [None if row is None else _nested(row) for row in column]
        return pa.array(rows, type=_own_kind(column, kind))
    # from_pandas=False: NaN is a number, and only None is a null.
    made = pa.array(column, from_pandas=False)
    # Of a batch of nulls alone pandas does not know the type.
    return made.cast(kind) if pa.types.is_null(made.type) else made


def _own_kind(column: pd.Series[Any], kind: pa.DataType) -> pa.DataType:
    """`kind` with the numbers that `column` has, which the model may not take: Arrow would round them."""
    depth, leaf = 0, kind
    while pa.types.is_nested(leaf):
        depth, leaf = depth + 1, leaf.value_type
    if pa.types.is_string(leaf) or pa.types.is_binary(leaf):
        return kind
    dtype = next((found for row in column if (found := _item_dtype(row)) is not None), None)
    if dtype is None:
        return kind
    made = pa.from_numpy_dtype(dtype)
    for _ in range(depth):
        made = pa.list_(made)
    return made


def _item_dtype(row: Any) -> np.dtype[Any] | None:
    """The dtype of the numbers in `row`, an array or one of arrays; None if there are none."""
    if not isinstance(row, np.ndarray) or not len(row):
        return None
    if row.dtype != object:
        found_dtype: np.dtype[Any] = row.dtype
        return found_dtype
    return next((found for item in row if (found := _item_dtype(item)) is not None), None)


def _nested(row: Any) -> Any:
    return [_nested(item) for item in row] if hasattr(row, "__len__") else row


def _declared(function: _Function, fields: list[StructField]) -> Any:
    """The form of `function` that Spark knows by its annotations: one input or several, one output or several."""
    name = fields[0].name
    kind = fields[0].dataType if len(fields) == 1 else StructType(fields)

    def one_to_one(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for frame in function.run(batches):
            yield frame[name]

    def many_to_one(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
        for frame in function.run(batches):
            yield frame[name]

    def one_to_many(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        yield from function.run(batches)

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
