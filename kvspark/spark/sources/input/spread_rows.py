"""A few rows from several places of a job's input, for what little it costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import final

import pyarrow as pa
from pyspark.sql import Row
from pyspark.sql import functions as F

from kvspark.spark.columns.column_map import quoted
from kvspark.spark.sources.input.source import Source
from kvspark.table.input.spread_batches import spread_batches

PLACES = 8
_OF_SPARK = 3
"""Of its partitions: the first one, one in the middle, the last one."""
_SPARK_S = 0.2
"""What Spark takes for a few rows of those."""
_PART = 0.02
"""Of the rows, where Spark reads them: then it reads no more than this part of what a run does."""


def spread_rows(
    source: Source, columns: Sequence[str], *, rows: int, within_s: float
) -> list[pa.RecordBatch]:
    """About `rows` rows of `source` that follow each other from each of several places, in its order; only `columns`.

    Where workers read the files, the driver does as they would. Elsewhere Spark reads some rows of three partitions, if
    `within_s` is enough for that and no row has to be moved between its tasks first. Empty where it is not.

    Raises:
        DataError, SecretError: a file cannot be read.
    """
    if source.splits is not None:
        started = perf_counter()

        def goes_on() -> bool:
            return perf_counter() - started < within_s

        reader = source.splits.reader
        return spread_batches(reader, columns, places=PLACES, rows=rows, goes_on=goes_on)
    rows = min(rows, int(_PART * source.rows / _OF_SPARK))
    if within_s < _SPARK_S or not rows or _is_moved(source):
        return []
    return _by_spark(source, columns, rows)


def _is_moved(source: Source) -> bool:
    """True if rows are moved between tasks before there are any of `source`: a few cost what all cost."""
    plan = source.df._jdf.queryExecution().executedPlan()  # noqa: SLF001 - nothing else tells without running it
    return "Exchange" in plan.toString()


@final
@dataclass(frozen=True, slots=True)
class _FirstRows:
    """A task that gives its first rows, as one value: Arrow's own types stay as they are."""

    rows: int

    def run(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        kept, count = [], 0
        for batch in batches:
            kept.append(batch.slice(0, self.rows - count))
            count += kept[-1].num_rows
            if count >= self.rows:
                break
        if not kept:
            return
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, kept[0].schema) as stream:
            for batch in kept:
                stream.write_batch(batch)
        yield pa.record_batch([pa.array([sink.getvalue().to_pybytes()], pa.binary())], ["rows"])


def _by_spark(source: Source, columns: Sequence[str], rows: int) -> list[pa.RecordBatch]:
    chosen = source.df.select([F.col(quoted(name)) for name in columns])
    taken = chosen.mapInArrow(_FirstRows(rows).run, "rows binary").rdd
    last = taken.getNumPartitions() - 1
    numbers = sorted({number * last // (_OF_SPARK - 1) for number in range(_OF_SPARK)})
    context = source.df.sparkSession.sparkContext
    found: list[bytes] = context.runJob(taken, _values, numbers)
    return [pa.ipc.open_stream(each).read_all().combine_chunks().to_batches()[0] for each in found]


def _values(found: Iterable[Row]) -> list[bytes]:
    return [bytes(row[0]) for row in found]
