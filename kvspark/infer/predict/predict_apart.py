"""What `Model.predict` gives where a bad row is no error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from kvspark.errors import UsageError
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.rows.array_columns import numpy_column
from kvspark.infer.rows.bad_rows import ERROR_COLUMN, BadRows, OnBadRow
from kvspark.spec import TensorSpec


def check_on_bad_row(value: str) -> None:
    """Does nothing if `value` is a choice of `on_bad_row`.

    Raises:
        UsageError: it is not.
    """
    if value not in get_args(OnBadRow):
        raise UsageError(
            f"on_bad_row must be one of {', '.join(get_args(OnBadRow))}, got {value!r}"
        )


def predict_apart(
    predictor: Predictor, arrays: Mapping[str, pa.Array], on_bad_row: OnBadRow
) -> dict[str, Any]:
    """The outputs for all rows: masked arrays whose bad rows are masked, lists that hold None there.

    With `quarantine`, `_kvspark_error` is a list of a `BadRow` for each bad row, None for a good one.
    """
    ((_, made, bad),) = predictor.stream_apart([(None, arrays)])
    predictor.count()
    outputs = {spec.name: masked_column(made[spec.name], spec) for spec in predictor.outputs}
    if on_bad_row == "quarantine":
        count = len(next(iter(made.values())))
        outputs[ERROR_COLUMN] = [bad.get(row) for row in range(count)]
    return outputs


def bad_rows(predictor: Predictor, arrays: Mapping[str, pa.Array]) -> BadRows:
    """The rows of `arrays` that cannot be scored, by place."""
    ((_, _, bad),) = predictor.stream_apart([(None, arrays)])
    return bad


def good_rows(predictor: Predictor, arrays: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """The rows of `arrays` that can be scored."""
    bad = bad_rows(predictor, arrays)
    count = len(next(iter(arrays.values())))
    good = pa.array(np.setdiff1d(np.arange(count), list(bad)))
    return {name: array.take(good) for name, array in arrays.items()}


def masked_column(array: pa.Array, spec: TensorSpec) -> Any:
    """The rows of `array`, its nulls masked: a masked array (n, *shape), or a list with None.

    What lies behind the mask is NaN where there is one, else 0.
    """
    there = array.is_valid().to_numpy(zero_copy_only=False)
    rows = numpy_column(array.drop_null(), spec)
    if isinstance(rows, list):
        given = iter(rows)
        return [next(given) if is_there else None for is_there in there]
    hidden = np.nan if np.issubdtype(rows.dtype, np.floating) else 0
    data = np.full((len(there), *rows.shape[1:]), hidden, dtype=rows.dtype)
    data[there] = rows
    mask = np.broadcast_to(~there.reshape(-1, *([1] * (data.ndim - 1))), data.shape)
    return np.ma.masked_array(data, mask.copy())
