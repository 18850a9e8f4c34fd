"""Rows to try a model on: values of several kinds for each of its inputs, at any length.

A model may hide what it does with its padding behind some values: a maximum over positive numbers, ids
that are all alike, a mask of ones. So each input is given its example's values, wide ones, small ones and
ones of either sign; masks, which a feature stage always makes of ones, stay ones there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt

from kvspark.model.stage.stage import Source, Stage
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
_MOST_DIGITS = 6
"""Of numbers that are put in the padding: a sum, a maximum or a threshold shows them."""
_OTHER_INTS = 1 << 30
"""The greatest whole number that is put in the padding; above it sums of a few would overflow 32 bits."""
_SWEPT = 256
"""Ids of a table that are tried alone, spread over it: one call of a model of any size."""
_EXTREME = 0.4
"""The part of other values that is as great as can be, so that every row's padding has some."""
_RARE = ("NaN", "infinite numbers", "the greatest numbers and 0")
_MASK_NAME = re.compile(r"(.*[_.])?[a-z]*masks?(_?[0-9]+)?(:[0-9]+)?", re.IGNORECASE)


@final
class TrialValues:
    """Makes rows of values for the sources of a model."""

    def __init__(self, sources: Mapping[Key, Source], examples: Mapping[str, Array]) -> None:
        self._sources = sources
        self._examples = examples
        self._limits: dict[Key, int] = {}
        self._tables: set[Key] = set()
        """Inputs of whole numbers that are refused beyond some number: ids, that a table is read at."""

    def find_limits(self, takes: Callable[[Values], bool], length: int) -> None:
        """Finds for each input of whole numbers the greatest of `_LIMITS` below which the model `takes` all."""

        def takes_all(key: Key, number: int) -> bool:
            values = dict(self.rows("example", length))
            values[key] = np.full_like(values[key], number)
            return takes(values)

        for key, source in self._sources.items():
            if not _is_whole(source.tensor) or self._is_mask(key):
                continue
            for limit in _LIMITS:
                top = min(limit, _greatest(source.tensor)) - 1
                if takes_all(key, top):
                    self._limits[key] = top + 1
                    break
            least, most = _ends(source.tensor)
            if not (takes_all(key, least) and takes_all(key, most)):
                self._tables.add(key)

    def rows(self, kind: str, length: int, count: int = ROWS) -> dict[Key, Array]:
        """Values of `kind` for `count` rows of `length`; arrays (count, *shape)."""
        return {
            key: self._made(kind, key, source, length, count)
            for key, source in self._sources.items()
        }

    def reaching(self) -> list[Key]:
        """The sources whose padding must be hidden by others: all that vary, but masks, which are what hides it."""
        return [
            key
            for key, source in self._sources.items()
            if None in source.tensor.shape and not self._is_mask(key) and not self._is_weight(key)
        ]

    def is_table(self, key: Key) -> bool:
        """True if the source holds ids, so that one of them can stand for padding alone."""
        return key in self._tables

    def with_others(self, key: Key, values: Values, to: int) -> dict[Key, Array]:
        """The rows filled up to the length `to`, the source `key` with other values than its padding."""
        made = self.padded(values, to)
        length = values[key].shape[1]
        shape = made[key][:, length:].shape
        chance = np.random.default_rng([to, length, len(key[1])])
        made[key][:, length:] = self._other(key, shape, chance).astype(made[key].dtype)
        return made

    def extreme(self, length: int, count: int) -> dict[Key, Array]:
        """Rows of numbers of all sizes, many of them as great as can be; masks stay ones."""
        chance = np.random.default_rng([length, count, len(self._sources)])
        made = self.rows("ones", length, count)
        for key, array in made.items():
            if not self._is_mask(key):
                made[key] = self._other(key, array.shape, chance).astype(array.dtype)
        return made

    def without_bounds(self, length: int, count: int) -> Iterator[tuple[str, dict[Key, Array]]]:
        """Rows of numbers that few columns hold, and which: NaN, what is infinite, and what is greatest or 0.

        None for a model that takes no such numbers: ids, masks, and what a feature stage makes.
        """
        plain = [
            key
            for key, source in self._sources.items()
            if key[0] is None
            and key not in self._tables
            and not self._is_mask(key)
            and source.tensor.dtype != "bool"
        ]
        chance = np.random.default_rng([count, length, len(self._sources)])
        for what in _RARE:
            numbers = {key: _rare(what, self._sources[key].tensor) for key in plain}
            made = self.extreme(length, count)
            for key, some in numbers.items():
                if len(some):
                    made[key] = chance.choice(some, size=made[key].shape)
            if any(map(len, numbers.values())):
                yield what, made

    def _other(self, key: Key, shape: tuple[int, ...], chance: np.random.Generator) -> Array:
        """Values that are not padding; numbers of all sizes, many of them as great as can be."""
        spec = self._sources[key].tensor
        if key in self._tables:
            # Without 0, which a table often has for padding.
            return chance.integers(1, max(2, self._limits.get(key, 2)), size=shape)
        if spec.dtype == "bool":
            return np.ones(shape, bool)
        signs = chance.choice([-1.0, 1.0], size=shape)
        if _is_whole(spec):
            least, most = _ends(spec)
            made: Array = np.maximum(signs * np.exp(chance.uniform(0, np.log(most), shape)), least)
            made[chance.random(shape) < _EXTREME] = most
            return made
        digits = 4.5 if spec.dtype == "float16" else _MOST_DIGITS
        sizes = chance.uniform(-1, digits, shape)
        sizes[chance.random(shape) < _EXTREME] = digits
        return _floats("wide", signs * 10**sizes, spec)

    def swept(self, key: Key) -> dict[Key, Array]:
        """Rows of one id each, which together go through the table that `key` is read at."""
        limit = self._limits.get(key, 2)
        ids = np.unique(np.linspace(0, limit - 1, _SWEPT).astype(np.int64))
        made = self.rows("example", 1, len(ids))
        made[key] = ids.astype(made[key].dtype).reshape(
            made[key].shape[:1] + (1,) * (made[key].ndim - 1)
        ) + np.zeros_like(made[key])
        return made

    def widen(self, key: Key, takes: Callable[[Values], bool]) -> None:
        """Finds the end of the table of `key` itself, where a power of two lies before it."""

        def takes_one(number: int) -> bool:
            values = dict(self.rows("example", 1))
            values[key] = np.full_like(values[key], number - 1)
            return takes(values)

        low = self._limits.get(key, 2)
        most = _ends(self._sources[key].tensor)[1]
        while 2 * low <= most and takes_one(2 * low):
            low *= 2
        high = min(2 * low, most + 1)
        while high - low > max(1, low // 64):
            middle = (low + high) // 2
            low, high = (middle, high) if takes_one(middle) else (low, middle)
        self._limits[key] = low

    def _is_mask(self, key: Key) -> bool:
        spec = self._sources[key].tensor
        return _MASK_NAME.fullmatch(spec.name) is not None and self._holds_ones_only(
            key, unknown=True
        )

    def _is_weight(self, key: Key) -> bool:
        """True for a mask of another name, as its example shows."""
        return (
            len(self._sources) > 1
            and key not in self._tables
            and self._holds_ones_only(key, unknown=False)
        )

    def _holds_ones_only(self, key: Key, *, unknown: bool) -> bool:
        example = self._examples.get(key[1])
        return unknown if example is None else bool(np.isin(example, (0, 1)).all())

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
        is_mask = self._is_mask(key)
        if is_mask and (key[0] is not None or kind in ("example", "ones")):
            return np.ones(shape, spec.numpy_dtype)
        if kind == "example" and key[1] in self._examples:
            return chance.choice(self._examples[key[1]].reshape(-1), size=shape)
        if spec.dtype == "bool" or is_mask:
            # Among them rows that are all zero: with nothing to look at, a model looks at its padding.
            made = chance.integers(0, 2, size=shape)
            if kind == "small":
                made[:] = 0
            return made.astype(spec.numpy_dtype)
        if _is_whole(spec):
            limit = self._limits.get(key, 2)
            limit = min(limit, _SMALL) if kind == "small" else limit
            low = 1 if kind == "negative" and limit > 1 else 0
            if kind == "negative" and key not in self._tables and spec.dtype != "uint8":
                return chance.integers(-limit, 0, size=shape).astype(spec.numpy_dtype)
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


def _rare(what: str, spec: TensorSpec) -> Array:
    """Numbers of the dtype of `spec` that are no ordinary ones, of one of the kinds `_RARE`."""
    is_gap, is_infinite = what == _RARE[0], what == _RARE[1]
    numbers: list[float]
    if _is_whole(spec):
        info = np.iinfo(spec.dtype)
        return np.array([] if is_gap or is_infinite else [info.min, info.max, 0], spec.numpy_dtype)
    if spec.dtype == "bfloat16":  # its bits
        bits = [0x7FC0] if is_gap else [0x7F80, 0xFF80] if is_infinite else [0x7F7F, 0xFF7F, 0]
        return np.array(bits, spec.numpy_dtype)
    most = float(np.finfo(spec.dtype).max)
    numbers = [np.nan] if is_gap else [np.inf, -np.inf] if is_infinite else [most, -most, 0]
    return np.array(numbers, spec.numpy_dtype)


def _is_whole(spec: TensorSpec) -> bool:
    return "int" in spec.dtype


def _greatest(spec: TensorSpec) -> int:
    """One more than the greatest number that the dtype holds, as far as that is tried."""
    return 1 << {"int8": 7, "uint8": 8, "int16": 15}.get(spec.dtype, 17)


def _ends(spec: TensorSpec) -> tuple[int, int]:
    """The least and the greatest whole number that are tried."""
    info = np.iinfo(spec.dtype)
    return max(int(info.min), -_OTHER_INTS), min(int(info.max), _OTHER_INTS)


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
