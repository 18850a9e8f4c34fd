"""The rows of an input from which its plan is measured: from its beginning, its middle and its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kvspark.spark.check.run_preflight import Sample, are_large
from kvspark.spark.columns.column_map import ColumnMap
from kvspark.spark.columns.subject import subject_inputs
from kvspark.spark.sources.input.source import Source
from kvspark.spark.sources.input.spread_rows import PLACES, spread_rows

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache
    from kvspark.infer.planning.sampled_rows import SampledRows

_ROWS = 512
"""At a place: those of eight places tell ten thousand values from twenty thousand."""
_LARGE_ROWS = 8
"""Of pictures and sounds."""
_MOST_BYTES = 16 << 20
_PART, _LEAST_S, _MOST_S = 0.02, 0.05, 5.0
"""The part of the expected seconds of a run that reading takes, and what it takes at least and at most."""


def plan_sample(
    source: Source, columns: ColumnMap, sample: Sample, cache: Cache | None, *, workers: int
) -> SampledRows:
    """Rows from several places of `source`; where that would cost too much, its first ones, which `sample` holds.

    Raises:
        DataError, SecretError: a file cannot be read.
    """
    from kvspark.infer.planning.sampled_rows import SampledRows

    first = next(iter(sample.arrays.values()))
    a_row = max(1, sum(array.nbytes for array in sample.arrays.values()) // len(first))
    rows = _LARGE_ROWS if are_large(source, columns) else _ROWS
    inputs = {
        **columns.inputs,
        **subject_inputs(None if cache is None else cache.config, source.df.schema),
    }
    if source.rows > rows * PLACES:
        found = spread_rows(
            source,
            list(dict.fromkeys(inputs.values())),
            rows=min(rows, max(1, _MOST_BYTES // PLACES // a_row)),
            within_s=_within_s(sample.compute_s, source.rows, workers),
        )
        if found:
            return SampledRows.of(found, inputs)
    return SampledRows.first(sample.arrays)


def _within_s(compute_s: Mapping[str, float], rows: int, workers: int) -> float:
    return min(_MOST_S, max(_LEAST_S, _PART * sum(compute_s.values()) * rows / workers))
