"""Is a row's result its own: the same in any company, at any place, beside any number of rows, and again?

Rows of each source are tried when a model is made of it: a whole micro-batch, the same rows turned round with
half of them exchanged for extreme ones, and single rows. What depends on its companions (a mean or a quantisation
over the batch), on its place, on the number of rows, or on the calls before it would be cached with that in it.
Only calls of one row are right then; a model that is made for them is taken, and keeps to them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import final

import numpy as np

from kvspark.errors import NotRepeatableError
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.trials.attempt import Results, Run, attempt
from kvspark.model.trials.captured import Captured
from kvspark.model.trials.chained import Chained
from kvspark.model.trials.rounding import difference
from kvspark.model.trials.trial_values import KINDS, Array, Key, TrialValues, Values, sources_of
from kvspark.spec import ROWS_UNIT, TensorSpec

_LENGTHS = (7, 8, 5, 11, 2, 19, 1)
"""Lengths of which one is tried, where a dimension varies; the first that the model takes."""
_MOST_ROWS = 128
_FEW = 4
"""Rows of a call that shows what rare numbers do: half of them have some."""
_FLIPPED = 0.25
"""The part of whole numbers that another shape of a call may change: a class between two that are as likely."""
OPAQUE = ("callable", "torchscript", "onnx")
"""Kinds of stages that nobody has looked into: their bits must come again."""

_APART = (
    "so its rows have no results of their own; let it work on each row alone, whatever the number of rows, or have "
    "each row computed by itself: micro_batch=MicroBatch(rows=1), in a conf model.micro_batch.rows: 1"
)
_PURE = (
    "so no result can be used again; take out of it what it draws, what it remembers and the time"
)

_LOG = logging.getLogger(__name__)


def with_own_rows(
    bundle: Bundle,
    examples: Mapping[str, Array] | None = None,
    captured: Captured | None = None,
    *,
    stages: Chained | None = None,
    is_late: bool = False,
) -> Bundle:
    """`bundle`, whose rows were shown to have results of their own, or whose calls have one row for good.

    `examples` are values that the model takes, by the names of its inputs; `captured` has its own runtime, where
    that is another than the `stages`, which are opened here if they are not given. A model that `is_late` was
    saved untried, and nobody can choose its micro-batch any more: it gets calls of one row where it needs them.

    Raises:
        NotRepeatableError: a row's result changes with its companions, its place, their number or the call.
    """
    trial = _Trial(bundle, stages or Chained(bundle), examples or {}, captured or Captured())
    why = trial.change()
    if why is None:
        return bundle.with_own_rows(only_single=False)
    rows = bundle.micro_batch.rows
    if trial.remembers or (rows > 1 and not is_late):
        raise NotRepeatableError(f"{bundle.name}: {why}, {_PURE if trial.remembers else _APART}")
    say = _LOG.info if rows == 1 else _LOG.warning
    say("model %s: rows are computed one a call for good: %s", bundle.name, why)
    single = replace(bundle.micro_batch, rows=1)
    return bundle.with_micro_batch(single).with_own_rows(only_single=True)


@final
class _Trial:
    """The trial of one model."""

    def __init__(
        self, bundle: Bundle, stages: Chained, examples: Mapping[str, Array], captured: Captured
    ) -> None:
        self._bundle = bundle
        self._stages = stages
        self._captured = captured
        self._values = TrialValues(sources_of(bundle.stages), examples)
        self._is_opaque = any(stage.kind in OPAQUE for stage in bundle.stages)
        self.remembers = False
        """True if what a call gives depends on calls before it, so that calls of one row do not help."""

    def change(self) -> str | None:
        """What changes a row's result besides the row, in words; None if nothing does, or nothing is known."""
        found = self._batch()
        if found is None:
            _LOG.info("model %s takes none of the rows that were tried", self._bundle.name)
            return None
        length, rows, whole = found
        return (
            self._again(rows, whole)
            or self._in_company(length, rows, whole)
            or self._by_itself(rows, whole)
        )

    def _batch(self) -> tuple[int, Values, Sequence[Array]] | None:
        """Rows of a whole micro-batch that the model takes, their length, and their results."""
        for length in self._lengths():
            count = min(max(self._bundle.micro_batch.rows, ROWS_UNIT), _MOST_ROWS)
            if self._run(self._values.rows("example", length)) is not None:
                self._values.find_limits(lambda v: self._run(v) is not None, length)
            for kinds in (KINDS, *((kind,) for kind in KINDS)):
                rows = _interleaved([self._values.rows(k, length, count) for k in kinds], count)
                whole = self._run(rows)
                if whole is not None:
                    return length, rows, whole
        return None

    def _lengths(self) -> Sequence[int]:
        if not self._bundle.has_lengths:
            return (0,)
        rule = self._bundle.length_rule
        most = max(_LENGTHS) if rule.longest is None else rule.longest
        near = (max(rule.shortest, min(length, most)) for length in _LENGTHS)
        return list(dict.fromkeys(near))

    def _run(self, values: Values) -> Results:
        return attempt(self._stages, self._bundle.outputs, values)

    def _again(self, rows: Values, whole: Sequence[Array]) -> str | None:
        """What changes where the same rows are computed again."""
        some = rows
        run: Run = self._stages
        if not self._is_opaque:
            if self._captured.own is None:
                return None
            # What the graph draws or writes was found in it; of what Python remembers it holds one moment.
            run = self._captured.own
            some = {key: array[: len(KINDS)] for key, array in rows.items()}
        specs = self._bundle.outputs
        first = attempt(run, specs, some) if some is not rows else whole
        again = attempt(run, specs, some)
        for spec, a, b in zip(self._bundle.outputs, first or (), again or (), strict=False):
            if a.tobytes() != b.tobytes():
                self.remembers = True
                return f"the same rows have other bits in {spec.name!r} in the next call"
        return None

    def _in_company(self, length: int, rows: Values, whole: Sequence[Array]) -> str | None:
        """What changes where rows stand at other places, half of them beside others."""
        count = len(next(iter(rows.values())))
        turned = {key: array[::-1].copy() for key, array in rows.items()}
        calm = self._run(turned)
        if calm is None:
            return None
        for spec, a, b in zip(self._bundle.outputs, whole, calm, strict=True):
            why = self._apart(spec, a[::-1], b, a)
            if why is not None:
                return f"{spec.name!r} of a row changes {why} at another place"
        mixed = _every_other(turned, self._values.extreme(length, count))
        why = self._changed(calm, self._run(mixed), slice(1, None, 2))
        if why is not None:
            return f"{why} beside others"
        return self._in_rare_company(length, {key: array[:_FEW] for key, array in rows.items()})

    def _in_rare_company(self, length: int, rows: Values) -> str | None:
        """What changes of a few rows beside those of rare numbers, or of these beside the few."""
        calm = self._run(rows)
        others = [("others", self._values.extreme(length, _FEW))]
        others += [(f"rows of {w}", v) for w, v in self._values.without_bounds(length, _FEW)]
        for what, values in others:
            made = self._run(_every_other(rows, values))
            why = self._changed(calm, made, slice(1, None, 2))
            if why is not None:
                return f"{why} beside {what}"
            # A gap that is filled from the other rows changes the row with the gap, and no other.
            why = self._changed(self._run(values), made, slice(0, None, 2))
            if why is not None:
                return f"{why} beside others"
        return None

    def _changed(self, before: Results, after: Results, rows: slice) -> str | None:
        """What changes of the `rows` of two calls, in which only the others are others.

        Not a bit may change: place and shape, and so what is computed, are the same. Of rows that are not taken,
        an index say, nothing is known.
        """
        for spec, a, b in zip(self._bundle.outputs, before or (), after or (), strict=False):
            if a[rows].tobytes() != b[rows].tobytes():
                why = self._apart(spec, a[rows], b[rows], a) or "in its last bits"
                return f"{spec.name!r} of a row changes {why}"
        return None

    def _by_itself(self, rows: Values, whole: Sequence[Array]) -> str | None:
        """What changes where a row is the only one, as the model's own runtime computes it."""
        count = len(next(iter(rows.values())))
        places = list(dict.fromkeys((0, 1, count // 2, count - 1)))
        single = [
            self._single({key: array[p : p + 1] for key, array in rows.items()}) for p in places
        ]
        known = [(place, made) for place, made in zip(places, single, strict=True) if made]
        for number, spec in enumerate(self._bundle.outputs):
            if not known:
                return None
            a = whole[number][[place for place, _ in known]]
            b = np.stack([made[number] for _, made in known])
            why = self._apart(spec, a, b, whole[number], may_flip=True)
            if why is not None:
                return f"{spec.name!r} of a row changes {why} when it is computed by itself"
        return None

    def _single(self, row: Values) -> list[Array] | None:
        """The results of one row, which is the only one."""
        run: Run = self._captured.own or self._stages
        made = attempt(run, self._bundle.outputs, row)
        return None if made is None else [array[0] for array in made]

    def _apart(
        self, spec: TensorSpec, a: Array, b: Array, whole: Array, *, may_flip: bool = False
    ) -> str | None:
        if may_flip and "float" not in spec.dtype and a.shape == b.shape:
            return None if (a != b).mean() <= _FLIPPED else "its whole numbers"
        is_half = self._captured.is_half
        return difference(spec, a, b, [whole], is_half=is_half, each=True)


def _interleaved(parts: Sequence[Mapping[Key, Array]], count: int) -> dict[Key, Array]:
    """The first `count` rows of all `parts`, one of each in turn."""
    return {
        key: np.stack([part[key] for part in parts], axis=1).reshape(-1, *array.shape[1:])[:count]
        for key, array in parts[0].items()
    }


def _every_other(rows: Values, others: Values) -> dict[Key, Array]:
    """The `rows`, of which every other one, the first among them, is one of the `others`."""
    mixed = {key: array.copy() for key, array in rows.items()}
    for key, array in mixed.items():
        array[::2] = others[key][::2]
    return mixed
