"""Rows to try a model on: values of several kinds for each of its inputs, at any length.

A model may hide what it does with its padding behind some values: a maximum over positive numbers, ids
that are all alike, a mask of ones. So each input is given its example's values, wide ones, small ones and
ones of either sign; masks, which a feature stage always makes of ones, stay ones there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt

from kvspark.model.stage import Source, Stage
from kvspark.spec import TensorSpec

Array = npt.NDArray[Any]
Key = tuple[str | None, str]
"""Where a value enters the computed stages: a feature stage, or None for the model itself, and its name."""
Values = Mapping[Key, Array]

KINDS = ("example", "wide", "small", "negative", "ones")
"""The kinds of values, the most telling first."""

ROWS = 3
_LIMITS = tuple(1 << power for power in (17, 13, 11, 9, 7, 6, 5, 4, 3, 2, 1))
"""Limits of whole numbers that are tried, the greatest first: tables of embeddings refuse what is above."""
_SMALL = 8


@final
class TrialValues:
    """Makes rows of values for the sources of a model."""

    def __init__(self, sources: Mapping[Key, Source], examples: Mapping[str, Array]) -> None:
        self._sources = sources
        self._examples = examples
        self._limits: dict[Key, int] = {}

    def find_limits(self, takes: Callable[[Values], bool], length: int) -> None:
        """Finds for each input of whole numbers the greatest of `_LIMITS` below which the model `takes` all."""
        for key, source in self._sources.items():
            if not _is_whole(source.tensor) or _is_mask(source.tensor):
                continue
            for limit in _LIMITS:
                values = dict(self.rows("example", length))
                top = min(limit, _greatest(source.tensor)) - 1
                values[key] = np.full_like(values[key], top)
                if takes(values):
                    self._limits[key] = top + 1
                    break

    def rows(self, kind: str, length: int, count: int = ROWS) -> dict[Key, Array]:
        """Values of `kind` for `count` rows of `length`; arrays (count, *shape)."""
        return {
            key: self._made(kind, key, source, length, count)
            for key, source in self._sources.items()
        }

    def padded(self, values: Values, to: int) -> dict[Key, Array]:
        """The same rows, filled up to the length `to` as they are in a call."""
        made = {}
        for key, array in values.items():
            source = self._sources[key]
            if None not in source.tensor.shape:
                made[key] = array
                continue
            filled = np.full((len(array), to, *array.shape[2:]), source.pad, dtype=array.dtype)
            filled[:, : array.shape[1]] = array
            made[key] = filled
        return made

    def _made(self, kind: str, key: Key, source: Source, length: int, count: int) -> Array:
        spec = source.tensor
        shape = (count, *(length if dim is None else dim for dim in spec.shape))
        # A seed for each value that is asked for: what is tried does not hang on the order of trials.
        chance = np.random.default_rng([KINDS.index(kind), length, len(self._sources), len(key[1])])
        if _is_mask(spec) and (key[0] is not None or kind in ("example", "ones")):
            return np.ones(shape, spec.numpy_dtype)
        if kind == "example" and key[1] in self._examples:
            return chance.choice(self._examples[key[1]].reshape(-1), size=shape)
        if spec.dtype == "bool" or _is_mask(spec):
            # Among them rows that are all zero: with nothing to look at, a model looks at its padding.
            made = chance.integers(0, 2, size=shape)
            if kind == "small":
                made[:] = 0
            return made.astype(spec.numpy_dtype)
        if _is_whole(spec):
            limit = self._limits.get(key, 2)
            limit = min(limit, _SMALL) if kind == "small" else limit
            low = 1 if kind == "negative" and limit > 1 else 0
            return chance.integers(low, max(low + 1, limit), size=shape).astype(spec.numpy_dtype)
        return _floats(kind, chance.standard_normal(shape), spec)


def _floats(kind: str, normal: Array, spec: TensorSpec) -> Array:
    values = {
        "small": np.abs(normal) + 0.5,
        "negative": -np.abs(normal) - 0.5,
        "ones": np.ones_like(normal),
    }.get(kind, normal)
    if spec.dtype == "bfloat16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2")
    return values.astype(spec.numpy_dtype)


def _is_whole(spec: TensorSpec) -> bool:
    return "int" in spec.dtype


def _is_mask(spec: TensorSpec) -> bool:
    return "mask" in spec.name.lower()


def _greatest(spec: TensorSpec) -> int:
    """One more than the greatest number that the dtype holds, as far as that is tried."""
    return 1 << {"int8": 7, "uint8": 8, "int16": 15}.get(spec.dtype, 17)


def sources_of(stages: Sequence[Stage]) -> dict[Key, Source]:
    """What enters the computed stages among `stages` from without: inputs and results of features."""
    computed = {stage.name for stage in stages if stage.is_batched}
    return {
        (source.stage, source.tensor.name): source
        for stage in stages
        if stage.is_batched
        for source in stage.sources
        if source.stage not in computed
    }
