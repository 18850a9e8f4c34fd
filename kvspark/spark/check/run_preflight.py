"""The preflight of a run, on the first rows of its input."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from operator import and_
from typing import TYPE_CHECKING, final

import pyarrow as pa
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType

from kvspark.errors import DataError, RowError
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.infer.rows.bad_rows import BadRows
from kvspark.model.run.device import CPU, has_gpu
from kvspark.plan.plan import Plan
from kvspark.spark.badrows.first_bad_row import is_located, place_in_file
from kvspark.spark.columns.column_map import ColumnMap, quoted
from kvspark.spark.columns.subject import subject_inputs
from kvspark.spark.sources.input.source import Source
from kvspark.wording import count_of

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache


_NO_GPU = "nothing was checked: tasks compute on GPUs, and the driver has none"


@final
@dataclass(frozen=True, slots=True)
class Sample:
    """The first rows of an input, and what checking them showed."""

    told: str
    unchecked: str | None = None
    """Why nothing was checked; None if it was."""
    arrays: Mapping[str, pa.Array] = field(default_factory=dict)
    """By model input; without rows that are bad, as far as the check has seen any."""
    compute_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds to compute one row of each stage."""
    threads: int = 1
    """With which a task computes."""


def checked_sample(
    source: Source,
    compiled: CompiledPlan,
    columns: ColumnMap,
    cache: Cache | None,
    *,
    sets_aside: bool,
) -> Sample:
    """What the check of a few rows found, and why there was none where they are all bad, or no GPU is here.

    With `sets_aside`, bad rows are left out of the check.

    Raises:
        LossyCodecError: a lossy codec of the plan changes outputs by too much.
        NotRepeatableError: a stage gives other bits in another run or among other rows.
        DataError: a row is bad and not set aside.
    """
    if source.rows == 0:
        return Sample("no rows")
    device, plan = compiled.device, compiled.plan
    if device != CPU and not has_gpu():
        return Sample(_NO_GPU, "unchecked")
    from kvspark.infer.checks.preflight import SAMPLE_ROWS, preflight
    from kvspark.infer.predict.predict_apart import bad_rows, good_rows
    from kvspark.infer.predict.predictor import Predictor

    arrays, table = first_rows(source, columns, plan, cache, sets_aside=sets_aside)
    count = len(next(iter(arrays.values())))
    threads = _threads(source)
    check = partial(preflight, compiled, cache=cache, threads=threads, device=device)
    try:
        checked = check(arrays)
    except DataError as exc:
        predictor = Predictor(compiled, threads=threads)
        arrays = {name: array[:SAMPLE_ROWS] for name, array in arrays.items()}
        if not sets_aside:
            log.debug("what the model says of the first bad row", exc_info=True)
            # What a model raised may quote the row, and logs show causes.
            raise (_of_a_file(bad_rows(predictor, arrays), table) or exc) from None
        arrays = good_rows(predictor, arrays)
        checked = check(arrays)
    if not len(next(iter(arrays.values()))):
        return Sample(f"none of {count_of(count, 'row')} can be scored", "unchecked")
    sample = Sample(checked.told, None, arrays, checked.compute_s, threads)
    if not plan.lossy:
        return sample
    predictor = Predictor(compiled.uncached(), threads=threads, device=device)
    arrays = good_rows(predictor, arrays) if sets_aside else arrays  # all, not the first few
    return replace(sample, told=sample.told + _probed(compiled, arrays, cache, threads, device))


def _threads(source: Source) -> int:
    """With how many threads a task computes."""
    conf = source.df.sparkSession.sparkContext.getConf()
    return int(conf.get("spark.task.cpus", "1") or 1)


def _probed(
    compiled: CompiledPlan,
    arrays: dict[str, pa.Array],
    cache: Cache | None,
    threads: int,
    device: str,
) -> str:
    from kvspark.infer.checks.lossy_probe import probe

    try:
        error = probe(compiled, arrays, cache=cache, threads=threads, device=device)
    except DataError as exc:
        raise exc from None  # as above
    return f"; lossy codecs change outputs by up to {error or 0:.2g} of their largest number"


def _of_a_file(bad: BadRows, table: pa.Table) -> RowError | None:
    """The error of the first of the `bad` rows of `table`, whose last columns say where they are."""
    if not bad or not is_located(table.column_names):
        return None
    row = min(bad)
    file, place = (table.column(name)[row].as_py() for name in table.column_names[-2:])
    said = bad[row].refused(row, more=len(bad) - 1).args[0]
    return RowError(f"{place_in_file(file, place)}: {said}; nothing was written")


def _placed(error: RowError, table: pa.Table) -> RowError:
    """`error` of a row of `table` with where that row is, if the last columns say it."""
    if error.row is None or not is_located(table.column_names):
        return error
    file, place = (table.column(name)[error.row].as_py() for name in table.column_names[-2:])
    return RowError(f"{place_in_file(file, place)}: {error.args[0]}; nothing was written")


def are_large(source: Source, columns: ColumnMap) -> bool:
    """True of rows with pictures or sounds: of a cache's hits a few of them tell enough."""
    types = {f.name: f.dataType for f in source.df.schema.fields}
    return any(isinstance(types.get(c), BinaryType) for c in columns.inputs.values())


def first_rows(
    source: Source, columns: ColumnMap, plan: Plan, cache: Cache | None, *, sets_aside: bool
) -> tuple[dict[str, pa.Array], pa.Table]:
    """The inputs of the first rows, by the model's names, and the table that they are in.

    Without rows that lack one, if it `sets_aside`; with where they are in the input's files, if not.
    """
    from kvspark.infer.checks.lossy_probe import PROBE_ROWS
    from kvspark.infer.checks.preflight import SAMPLE_ROWS

    most = SAMPLE_ROWS if are_large(source, columns) and not plan.lossy else PROBE_ROWS
    subject = subject_inputs(None if cache is None else cache.config, source.df.schema)
    names = [F.col(quoted(c)) for c in dict.fromkeys(columns.inputs.values())]
    inputs = {**columns.inputs, **subject}
    faults = columns.faults
    told: tuple[str, ...] = () if faults is None else (columns.hidden[-1],)
    # A table that reads no files, one that `kvspark.score` is given, has no places in them.
    df = source.located() if source.can_locate else source.df
    added = df.columns[len(source.df.columns) :]
    read = dict.fromkeys([*inputs.values(), *told])
    chosen = df.select([F.col(quoted(c)) for c in [*read, *added]])
    if sets_aside:
        chosen = chosen.where(reduce(and_, (name.isNotNull() for name in names)))
    sample = chosen.limit(most).toArrow()
    if faults is not None and not sets_aside:
        try:
            faults.refuse(sample.column(told[0]))
        except RowError as exc:
            raise _placed(exc, sample) from None
    return {name: sample.column(column).combine_chunks() for name, column in inputs.items()}, sample
