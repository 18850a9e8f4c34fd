"""What another way to compute rows does to an output: how far numbers move, and whether a prediction is another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kvspark.spec import TensorSpec


@final
@dataclass(frozen=True, slots=True)
class Changed:
    """What became of one output."""

    error: float
    """The largest difference as a part of the output's largest number."""
    refused: str | None = None
    """Why the other way gives other predictions; None if it does not."""


def changed_output(spec: TensorSpec, exact: pa.Array, other: pa.Array) -> Changed:
    """What is different in `other`, the output `spec` of the rows that `exact` is of.

    Whole numbers may not change, nor the place of a vector's largest number.
    """
    old, new = _numbers(exact), _numbers(other)
    if len(old) != len(new):
        return Changed(float("inf"), f"output {spec.name!r} has another size")
    if old.dtype.kind != "f":
        changed = int((old != new).sum())
        told = f"{changed} of {len(old)} values of {spec.name!r} change" if changed else None
        return Changed(0.0, told)
    width = spec.shape[-1] if spec.shape else None
    if width is not None and width > 1:
        places = [each.reshape(-1, width).argmax(axis=1) for each in (old, new)]
        changed = int((places[0] != places[1]).sum())
        if changed:
            return Changed(
                _relative(old, new),
                f"the largest number of {spec.name!r} is another one in {changed} of "
                f"{len(places[0])} vectors",
            )
    return Changed(_relative(old, new))


def _relative(old: npt.NDArray[np.generic], new: npt.NDArray[np.generic]) -> float:
    """The largest difference as a part of the largest number; infinite where one is not a number."""
    old, new = old.astype(np.float64), new.astype(np.float64)
    is_finite = np.isfinite(old)
    if not np.array_equal(old[~is_finite], new[~is_finite], equal_nan=True):
        return float("inf")
    if not np.isfinite(new[is_finite]).all():
        return float("inf")
    largest = np.abs(old[is_finite]).max(initial=0)
    apart = np.abs(old[is_finite] - new[is_finite]).max(initial=0)
    return float(apart / largest) if apart else 0.0


def _numbers(array: pa.Array) -> npt.NDArray[np.generic]:
    while pa.types.is_list(array.type):
        array = array.flatten()
    made: npt.NDArray[np.generic] = array.to_numpy(zero_copy_only=False)
    return made
