"""One call of a model on rows that are tried: its outputs, or nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from kvspark.model.trials.rounding import results_of_rows
from kvspark.model.trials.trial_values import Array, Values
from kvspark.spec import TensorSpec

Run = Callable[[Values], Sequence[Array]]
"""The outputs for some rows; raises where it has none."""
Results = Sequence[Array] | None
"""The outputs for some rows; None where there are none."""


def attempt(run: Run, specs: Sequence[TensorSpec], values: Values) -> Results:
    """The outputs `specs` for the rows of `values`; None where `run` raises, or has not a row for each of them.

    One row is given twice where it has none alone: a module that squeezes its results loses the dimension of the
    rows with it.
    """
    count = len(next(iter(values.values())))
    for copies in (1, 2) if count == 1 else (1,):
        made = outputs(
            run, {key: np.repeat(array, copies, axis=0) for key, array in values.items()}
        )
        if made is not None and results_of_rows(specs, made, count * copies):
            return [array[:count] for array in made]
    return None


def outputs(run: Run, values: Values) -> Results:
    """What `run` gives for the rows of `values`, whatever its shape; None where it raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that no row has
            return run(values)
    except Exception:  # noqa: BLE001 - a model raises what it likes where it has no result
        return None
