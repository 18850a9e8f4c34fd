"""The preflight of a run, on the first rows of its input."""

from __future__ import annotations

from functools import partial, reduce
from operator import and_
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import functions as F

from kvspark.errors import DataError
from kvspark.infer.plan import Plan
from kvspark.model.device import CPU, has_gpu
from kvspark.spark.column_map import ColumnMap, quoted
from kvspark.spark.source import Source
from kvspark.spark.subject import subject_inputs

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache
    from kvspark.infer.model import Model


def checked_sample(
    source: Source,
    model: Model,
    columns: ColumnMap,
    plan: Plan,
    cache: Cache | None,
    *,
    sets_aside: bool,
) -> tuple[str, str | None]:
    """What the check of a few rows found, and why there was none where they are all bad, or no GPU is here.

    With `sets_aside`, bad rows are left out of the check.

    Raises:
        LossyCodecError: a lossy codec of the plan changes outputs by too much.
        NotRepeatableError: a stage gives other bits in another run or among other rows.
        DataError: a row is bad and not set aside.
    """
    if source.rows == 0:
        return "no rows", None
    device = model.bundle.device or CPU
    if device != CPU and not has_gpu():
        return "nothing was checked: tasks compute on GPUs, and the driver has none", "unchecked"
    from kvspark.infer.predict_apart import good_rows
    from kvspark.infer.predictor import Predictor
    from kvspark.infer.preflight import preflight

    arrays = first_rows(source, columns, plan, cache, sets_aside=sets_aside)
    count = len(next(iter(arrays.values())))
    context = source.df.sparkSession.sparkContext
    threads = int(context.getConf().get("spark.task.cpus", "1") or 1)
    check = partial(preflight, model.bundle, plan=plan, cache=cache, threads=threads, device=device)
    try:
        checked = check(arrays)
    except DataError as exc:
        if not sets_aside:
            raise exc from None  # what a model raised may quote the row, and logs show causes
        arrays = good_rows(Predictor(model.bundle, plan=plan, threads=threads), arrays)
        checked = check(arrays)
    if not len(next(iter(arrays.values()))):
        return f"none of {count} rows can be scored", "unchecked"
    told = f"checked {', '.join(checked)}" if checked else "all stages were checked before"
    if not plan.lossy:
        return told, None
    predictor = Predictor(model.bundle, threads=threads, device=device)
    # The check before looked at the first few only.
    arrays = good_rows(predictor, arrays) if sets_aside else arrays
    return told + _probed(model, arrays, plan, cache, threads, device), None


def _probed(
    model: Model,
    arrays: dict[str, pa.Array],
    plan: Plan,
    cache: Cache | None,
    threads: int,
    device: str,
) -> str:
    from kvspark.infer.lossy_probe import probe

    try:
        error = probe(model.bundle, arrays, plan=plan, cache=cache, threads=threads, device=device)
    except DataError as exc:
        raise exc from None  # as above
    return f"; lossy codecs change outputs by up to {error or 0:.2g} of their largest number"


def first_rows(
    source: Source, columns: ColumnMap, plan: Plan, cache: Cache | None, *, sets_aside: bool
) -> dict[str, pa.Array]:
    """The inputs of the first rows, by the model's names; without rows that lack one, if it `sets_aside`."""
    from kvspark.infer.lossy_probe import PROBE_ROWS
    from kvspark.infer.preflight import SAMPLE_ROWS

    most = PROBE_ROWS if plan.lossy else SAMPLE_ROWS
    subject = subject_inputs(None if cache is None else cache.config, source.df.schema)
    names = [F.col(quoted(c)) for c in dict.fromkeys(columns.inputs.values())]
    inputs = {**columns.inputs, **subject}
    chosen = source.df.select([F.col(quoted(c)) for c in dict.fromkeys(inputs.values())])
    if sets_aside:
        chosen = chosen.where(reduce(and_, (name.isNotNull() for name in names)))
    sample = chosen.limit(most).toArrow()
    return {name: sample.column(column).combine_chunks() for name, column in inputs.items()}
