"""NaN in what a pandas UDF gives: Spark takes it for null, in numbers and in arrays, unless it is an Arrow scalar."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc


def frame_with_nan(batch: pa.RecordBatch) -> pd.DataFrame:
    """The columns of `batch` in the form in which Spark makes the same columns of them again.

    A whole number beside a null is a Python object: among floats, an int64 above 2^53 would not stay exact. A
    NaN is an Arrow scalar, which is no null to pandas; only in columns that hold one, because that is slow.
    """
    frame: pd.DataFrame = batch.to_pandas(integer_object_nulls=True)
    for name in batch.schema.names:
        column = batch.column(name)
        leaf, values = column.type, column
        while pa.types.is_nested(leaf):
            leaf, values = leaf.value_type, values.flatten()
        if pa.types.is_floating(leaf) and pc.any(pc.is_nan(values)).as_py():
            nan = pa.scalar(math.nan, leaf)
            made = [_kept(value, nan) for value in column.to_pylist()]
            frame[name] = pd.Series(made, dtype=object)
    return frame


def _kept(value: Any, nan: pa.Scalar) -> Any:
    if isinstance(value, list):
        return [_kept(item, nan) for item in value]
    return nan if isinstance(value, float) and math.isnan(value) else value
