"""Are two results of the same rows equal but for rounding?

The bound: what padding may change, in units of the spread of an output over all rows that are tried.
Rounding at another shape changes up to 4e-6 of it (MiniLM), a model that looks at its padding 2e-4 and more.
A number of a row that varies much less than the others beside it is held to its own spread too, more loosely.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kvspark.model.trials.trial_values import Array
from kvspark.spec import TensorSpec

_SINGLE, _HALF = (3e-5, 16 * 2.0**-23), (1e-2, 2 * 2.0**-7)
"""What padding may change: a part of the spread, and of the greatest number, which rounding hangs on."""

_OWN = 1e-3
"""What it may change of a number's own spread, where an output is of a fixed size."""


def follows(spec: TensorSpec, array: Array, length: int) -> bool:
    """True if each varying dimension of an output is the length of its rows."""
    dims = zip(spec.shape, array.shape[1:], strict=True)
    return all(want is not None or dim == length for want, dim in dims)


def cut_to(spec: TensorSpec, array: Array, length: int) -> Array:
    """The part of padded results that belongs to rows of `length`."""
    cut = tuple(slice(0, length if want is None else None) for want in spec.shape)
    whole: tuple[slice, ...] = (slice(None), *cut)
    return array[whole]


def difference(
    spec: TensorSpec, a: Array, b: Array, company: Sequence[Array], *, is_half: bool, each: bool
) -> str | None:
    """How two results of the same rows differ, in words; None if by rounding only.

    `company` are results among which a change is large or small; `is_half` is True for half precision inside.
    `each` holds every number of a row to what it is among `company`, too.
    """
    if a.shape != b.shape:
        return f"from shape {a.shape[1:]} to {b.shape[1:]}"
    if "float" not in spec.dtype:
        return None if np.array_equal(a, b) else "its whole numbers"
    one, two = _plain(spec, a), _plain(spec, b)
    is_finite = np.isfinite(one)
    if not np.array_equal(is_finite, np.isfinite(two)) or not np.array_equal(
        one[~is_finite], two[~is_finite], equal_nan=True
    ):
        return "what is finite"
    is_half = is_half or spec.dtype in ("float16", "bfloat16")
    apart = np.subtract(one, two, where=is_finite, out=np.zeros_like(one))
    allowed = _allowed(
        spec, [_plain(spec, array) for array in company], each=each and not is_half, is_half=is_half
    )
    return None if (np.abs(apart) <= allowed).all() else f"by {np.abs(apart).max():.2g}"


def results_of_rows(specs: Sequence[TensorSpec], arrays: Sequence[Array], count: int) -> bool:
    """True if there is a row of the right dtype and shape for each of `count` rows, in every output."""
    return len(arrays) == len(specs) and all(
        len(array.shape) == 1 + len(spec.shape)
        and len(array) == count
        and array.dtype == spec.numpy_dtype
        and all(want in (None, dim) for want, dim in zip(spec.shape, array.shape[1:], strict=True))
        for spec, array in zip(specs, arrays, strict=True)
    )


def shows_numbers(spec: TensorSpec, array: Array) -> bool:
    """True if some of the numbers in `array` are finite."""
    return "float" not in spec.dtype or bool(np.isfinite(_plain(spec, array)).any())


def is_constant(spec: TensorSpec, arrays: Sequence[Array]) -> bool:
    """True if all numbers of an output were the same one, whatever was tried: nothing is known of it."""
    flat = np.concatenate([_plain(spec, array).reshape(-1) for array in arrays])
    return not len(flat) or bool((flat == flat[0]).all() or np.isnan(flat).all())


def _allowed(
    spec: TensorSpec, company: Sequence[npt.NDArray[np.float64]], *, is_half: bool, each: bool
) -> npt.NDArray[np.float64]:
    """The greatest difference that is rounding, of all numbers of a row or of each."""
    bound, rounding = _HALF if is_half else _SINGLE
    spread, greatest = _spread(np.concatenate([array.reshape(-1, 1) for array in company]))
    together = bound * spread + rounding * greatest
    if None in spec.shape or not each:
        return together
    spread, greatest = _spread(np.concatenate(company))
    return np.minimum(together, _OWN * spread + rounding * greatest)


def _spread(
    rows: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Along the rows: the distance of the least and the greatest finite number, and the greatest magnitude."""
    is_finite = np.isfinite(rows)
    high = np.max(rows, axis=0, where=is_finite, initial=-np.inf)
    low = np.min(rows, axis=0, where=is_finite, initial=np.inf)
    is_any = is_finite.any(axis=0)
    spread = np.where(is_any, np.subtract(high, low, where=is_any, out=np.zeros_like(high)), 0.0)
    return spread, np.where(is_any, np.maximum(np.abs(high), np.abs(low)), 0.0)


def _plain(spec: TensorSpec, array: Array) -> Array:
    if spec.dtype == "bfloat16":
        return (array.astype("<u4") << 16).view("<f4").astype(np.float64)
    return array.astype(np.float64)
