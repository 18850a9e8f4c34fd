"""What the cache keeps of a stage's results, and what a run goes on with.

Exact: the results. Lossy: what a codec leaves of them, for this run as well as for those that find them:
rows that were computed and rows that were found have the same bits, so a pattern of hits still changes
nothing. A row that the codec cannot hold (a number too large for it) stays exact and is not kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from kvspark.cache.entry.lossy import LossyCodec, holds, lossy_named
from kvspark.errors import UsageError
from kvspark.infer.compute.values import Values, entry_columns, entry_specs, entry_values, taken
from kvspark.model.stage.stage import Stage
from kvspark.spec import Rows, TensorSpec


@final
@dataclass(frozen=True, slots=True)
class Kept:
    """The results of some rows."""

    values: Values
    """What the run goes on with, for all rows."""
    keys: Sequence[bytes]
    """Of the rows that can be kept."""
    columns: tuple[Rows, ...]
    """What the entries of those hold."""


class StageCodec(ABC):
    """Between the results of one stage and its entries."""

    specs: tuple[TensorSpec, ...]
    """The tensors of an entry."""
    store_codec: str
    """How the bytes of an entry are written."""

    @abstractmethod
    def kept(self, made: Values, keys: Sequence[bytes]) -> Kept:
        """What becomes of the results `made` of the rows `keys`."""

    @abstractmethod
    def values(self, columns: tuple[Rows, ...]) -> Values:
        """The results that entries hold as `columns`."""

    @property
    def bytes_per_row(self) -> int | None:
        """Bytes of an entry's tensors; None where they vary."""
        sizes = [spec.bytes_per_row for spec in self.specs]
        return None if None in sizes else sum(size or 0 for size in sizes)


@final
class ExactCodec(StageCodec):
    """Keeps the results, bit for bit."""

    def __init__(self, stage: Stage, store_codec: str) -> None:
        self._stage = stage
        self.specs = entry_specs(stage)
        self.store_codec = store_codec

    @override
    def kept(self, made: Values, keys: Sequence[bytes]) -> Kept:
        known, known_keys = made.good(keys)
        return Kept(made, known_keys, entry_columns(self._stage, known))

    @override
    def values(self, columns: tuple[Rows, ...]) -> Values:
        return entry_values(self._stage, columns)


@final
class LossyStageCodec(StageCodec):
    """Keeps what `codec` leaves of the stage's vectors of floats; all else is exact.

    Raises:
        UsageError: the stage has no such vector.
    """

    store_codec = "raw"

    def __init__(self, stage: Stage, codec: LossyCodec) -> None:
        self._stage = stage
        self._codec = codec
        self._narrows = [codec.narrows(spec) for spec in stage.outputs]
        if not any(self._narrows):
            raise UsageError(
                f"stage {stage.name!r} has no vector of float32 or float64, so codec {codec.name!r} has "
                "nothing to make smaller; leave it out"
            )
        parts = [
            codec.specs(spec) if narrows else (spec,)
            for spec, narrows in zip(stage.outputs, self._narrows, strict=True)
        ]
        self._counts = [len(part) for part in parts]
        lengths = entry_specs(stage)[len(stage.outputs) :]
        self.specs = (*(spec for part in parts for spec in part), *lengths)

    @override
    def kept(self, made: Values, keys: Sequence[bytes]) -> Kept:
        fits = np.ones(len(keys), dtype=np.bool_)
        stored: list[Rows] = []
        rounded: list[Rows] = []
        for spec, column, narrows in zip(
            self._stage.outputs, made.columns, self._narrows, strict=True
        ):
            parts = _narrowed(self._codec, column) if narrows else [column]
            stored += parts
            widened = _widened(self._codec, parts, spec) if narrows else column
            rounded.append(widened)
            if narrows:
                fits = np.logical_and(fits, _rows_held(column, widened))
        columns = tuple(
            _where(fits, new, old) for new, old in zip(rounded, made.columns, strict=True)
        )
        if made.lengths is not None and len(self.specs) > len(stored):
            stored.append(made.lengths)
        rows = np.array([i for i in range(len(keys)) if fits[i] and i not in made.bad], np.intp)
        if len(rows) < len(keys):
            stored = [taken(column, rows) for column in stored]
        return Kept(replace(made, columns=columns), [keys[i] for i in rows], tuple(stored))

    @override
    def values(self, columns: tuple[Rows, ...]) -> Values:
        made: list[Rows] = []
        at = 0
        for spec, narrows, count in zip(
            self._stage.outputs, self._narrows, self._counts, strict=True
        ):
            parts = columns[at : at + count]
            made.append(_widened(self._codec, parts, spec) if narrows else parts[0])
            at += count
        return entry_values(self._stage, (*made, *columns[at:]))


def stage_codec(stage: Stage, codec: str) -> StageCodec:
    """What the plan's `codec` does to the results of `stage`.

    Raises:
        UsageError: a lossy codec that changes nothing of it.
    """
    lossy = lossy_named(codec)
    return ExactCodec(stage, codec) if lossy is None else LossyStageCodec(stage, lossy)


def _narrowed(codec: LossyCodec, rows: Rows) -> list[Rows]:
    if not isinstance(rows, list):
        return list(codec.narrow(rows))
    parts = [codec.narrow(row) for row in rows]
    count = len(codec.narrow(np.zeros(1, dtype="<f4")))
    return [[part[i] for part in parts] for i in range(count)]


def _widened(codec: LossyCodec, parts: Sequence[Rows], spec: TensorSpec) -> Rows:
    if not isinstance(parts[0], list):
        arrays = tuple(np.asarray(part) for part in parts)
        return codec.widen(arrays).astype(spec.numpy_dtype, copy=False)
    return [codec.widen(row).astype(spec.numpy_dtype) for row in zip(*parts, strict=True)]


def _rows_held(exact: Rows, widened: Rows) -> npt.NDArray[np.bool_]:
    if isinstance(exact, list):
        pairs = zip(exact, widened, strict=True)
        return np.array([bool(holds(old, new).all()) for old, new in pairs], dtype=np.bool_)
    held = holds(exact, np.asarray(widened))
    return np.asarray(held.all(axis=tuple(range(1, held.ndim))), dtype=np.bool_)


def _where(fits: npt.NDArray[np.bool_], new: Rows, old: Rows) -> Rows:
    """The rows of `new` that fit, else those of `old`."""
    if new is old or fits.all():
        return new
    if isinstance(new, list):
        return [a if fit else b for fit, a, b in zip(fits, new, old, strict=True)]
    chosen = np.array(new)
    chosen[~fits] = np.asarray(old)[~fits]
    return chosen
