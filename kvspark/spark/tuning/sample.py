"""Some rows of a job's input, spread over all of it, in the driver's memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from kvspark.config.cache import CacheConfig
from kvspark.errors import DataError
from kvspark.spark.columns.column_map import ColumnMap, quoted
from kvspark.spark.columns.subject import subject_inputs
from kvspark.spark.scoring.carried import carried
from kvspark.spark.sources.input.source import Source

_MORE = 2.0
"""Times the rows that are wanted are drawn, so that enough of them come."""
_MOST_BYTES = 64 << 20


@final
@dataclass(frozen=True, slots=True)
class Sample:
    """Rows with which a model is tried."""

    table: pa.Table
    schema: StructType
    columns: ColumnMap
    """Where the model's inputs are among its columns."""

    def first(self, rows: int) -> Sample:
        """The first `rows` of them."""
        return replace(self, table=self.table.slice(0, rows))

    def rest(self, rows: int) -> Sample:
        """All but the first `rows`."""
        return replace(self, table=self.table.slice(rows))

    @property
    def rows(self) -> int:
        """How many there are."""
        return int(self.table.num_rows)

    @property
    def arrays(self) -> dict[str, pa.Array]:
        """The inputs of the model."""
        return {
            name: self.table.column(column).combine_chunks()
            for name, column in self.columns.inputs.items()
        }


def sample_of(
    source: Source, columns: ColumnMap, cache: CacheConfig | None, *, rows: int, seed: int
) -> Sample:
    """About `rows` rows of `source`, or all where it has fewer, and at most 64 MiB of them.

    With all columns, which a job carries along as well; without those that it would have to disguise.

    Raises:
        DataError: the input has no row.
    """
    df, columns = _columns(source.df, columns, cache)
    drawn = df
    if source.rows > _MORE * rows:
        drawn = df.sample(min(1.0, _MORE * rows / source.rows), seed=seed)
    table = drawn.limit(rows).toArrow()
    if not table.num_rows:
        table = df.limit(rows).toArrow()
    if not table.num_rows:
        raise DataError(
            "the input has no row to try the job on; name one that has some in input.paths"
        )
    a_row = max(1, table.nbytes // table.num_rows)
    return Sample(table.slice(0, max(1, _MOST_BYTES // a_row)), df.schema, columns)


def _columns(
    df: DataFrame, columns: ColumnMap, cache: CacheConfig | None
) -> tuple[DataFrame, ColumnMap]:
    """All columns of `df`, or those that the model needs where others come through Spark in disguise."""
    if carried(df) is df:
        return df, columns
    needed = [*columns.inputs.values(), *subject_inputs(cache, df.schema).values()]
    own = [name for name in dict.fromkeys(needed) if name not in columns.hidden]
    chosen = df.select([F.col(quoted(name)) for name in (*own, *columns.hidden)])
    if columns.faults is None:
        return chosen, columns
    # What is hidden stands at the end, and what is said of bad rows last of all.
    faults = replace(columns.faults, place=len(chosen.columns) - 1)
    return chosen, replace(columns, faults=faults)
