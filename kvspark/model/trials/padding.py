"""Does padding reach a result? Every input of varying length is tried, whatever made the model.

Rows of several lengths are computed as they are and filled up, by a little and by much. Where the results
agree but for rounding, rows may be padded to buckets, as most text models allow, which mask their padding.
Where they do not (a mean over tokens, the last token, a convolution, attention without a mask), or where a
result is not as long as its row, rows are computed at their own lengths: that is right for every model.

That is not enough: a maximum over positive numbers, or a threshold that no tried row reaches, hides what padding does.
So other values are put in the padding too, huge ones. Where a mask hides them, nothing that stands there reaches a
result. Where they change one, padding is right for the padding value only, if at all: that is believed of ids, of
which one may stand for padding, after a walk through their table, and of nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import final

from kvspark.errors import ExportError
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.trials.attempt import Results, Run, attempt, outputs
from kvspark.model.trials.chained import Chained
from kvspark.model.trials.rounding import cut_to, difference, follows, is_constant, shows_numbers
from kvspark.model.trials.trial_values import (
    KINDS,
    ROWS,
    Array,
    Key,
    TrialValues,
    Values,
    sources_of,
)
from kvspark.spec import LengthRule, TensorSpec

_LENGTHS = (1, 2, 3, 5, 7, 11, 19)
"""Lengths that are tried: no buckets, and the shortest ones, where padding weighs most."""
_FEWER = (2, 5, 11)
"""For all kinds of values but the first two."""
_LONGEST_TRIED = 1024
_MOST_BYTES = 1 << 26
"""Of the values of one row, while its greatest length is looked for."""

_LONG = (67, 261, 577, 1023)
"""Some models do something else from a length on."""
_WHOLE_KINDS = 2
_BEFORE_FIRST = 5
"""Tables of positions may begin with up to so many that no token has: RoBERTa's with two."""

_OTHERWISE = (
    "the exported graph and the module differ for {rows} rows of length {length}: the module does "
    "something else at some sizes, a branch on a length say; write it for any size, with a mask"
)

_LOG = logging.getLogger(__name__)


def with_tried_lengths(
    bundle: Bundle,
    examples: Mapping[str, Array] | None = None,
    captured: Captured | None = None,
    *,
    stages: Chained | None = None,
) -> Bundle:
    """`bundle`, computed in the lengths that were shown to be right; itself if no length varies.

    `examples` are values that the model takes, by the names of its inputs; `captured` says what is known of its
    graph. Its `stages` are opened here if they are not given.

    Raises:
        ExportError: the stages give other results than the model's own runtime at some length.
    """
    if not bundle.has_lengths:
        return bundle
    trial = _Trial(bundle, stages or Chained(bundle), examples or {}, captured or Captured())
    rule = trial.rule()
    if rule.is_exact:
        _LOG.info("model %s: rows are computed at their own lengths: %s", bundle.name, rule.reason)
    return bundle.with_length_rule(rule)


@final
@dataclass(frozen=True, slots=True)
class Captured:
    """What is known of a graph besides its stages."""

    own: Run | None = None
    """The model's own runtime, where that is another than the stages."""
    shortest: int = 0
    longest: int | None = None
    """The rows that the graph was captured for."""
    tables: Sequence[int] | None = None
    """The lengths of the tables that the graph reads positions from; None where nobody knows."""
    is_half: bool = False
    """True if it computes in half precision, whatever its outputs are."""
    length_groups: tuple[tuple[str, ...], ...] = ()
    """The inputs that share a length, where it declares several lengths."""
    longest_apart: tuple[int | None, ...] = ()
    """The longest rows that it was captured for, group by group."""


@final
class _Trial:
    """The trial of one model."""

    def __init__(
        self, bundle: Bundle, stages: Chained, examples: Mapping[str, Array], captured: Captured
    ) -> None:
        self._run: Run = stages
        self._captured = captured
        self._outputs = bundle.outputs
        self._bucket = bundle.micro_batch.bucket
        self._full = bundle.micro_batch.rows
        self._values = TrialValues(sources_of(bundle.stages), examples)
        self._known: dict[tuple[str, int, int], Results] = {}
        self._compared = 0
        """How often numbers were compared, of which some were finite."""

    def rule(self) -> LengthRule:
        """The rule for the model's lengths."""
        taken = [length for length in _LENGTHS if self._alone("example", length) is not None]
        if not taken:
            return LengthRule(is_exact=True, reason="it takes none of the values that were tried")
        length = taken[len(taken) // 2]
        self._values.find_limits(lambda v: self._made(v) is not None, length)
        self._known.clear()
        for rows in (1, self._full):
            self._alone("example", taken[-1], rows)
        shortest, longest = self._shortest(taken[0]), self._longest(taken[-1])
        for length in self._long(longest):
            self._alone("example", length, 1)
        changes = chain(
            self._differences(taken, longest),
            self._reached(taken),
            (self._long_change(length) for length in self._long(longest)),
        )
        reason = _gap(taken) or next(filter(None, changes), "")
        if not reason and not self._compared:
            reason = "no values were found that show what padding does"
        pads_empty = True
        if shortest == 0 and not reason:
            pads_empty = all(self._change(kind, 0, self._bucket(0)) is None for kind in KINDS)
        return LengthRule(bool(reason), pads_empty, shortest, longest, reason)

    def _made(self, values: Values) -> Results:
        return attempt(self._run, self._outputs, values)

    def _alone(self, kind: str, length: int, rows: int = ROWS) -> Results:
        """The results of rows that are not padded; None where the model has none.

        Raises:
            ExportError: the stages give others than the model's own runtime.
        """
        key = (kind, length, rows)
        if key not in self._known:
            values = self._values.rows(kind, length, rows)
            made = self._made(values)
            # Only for these: where a mask hides a whole row, torch's own paths differ.
            is_checked = kind == "example" and self._captured.own is not None
            self._known[key] = self._checked(length, values, made) if is_checked else made
        return self._known[key]

    def _checked(self, length: int, values: Values, made: Results) -> Results:
        own = self._captured.own
        right = None if own is None else attempt(own, self._outputs, values)
        if right is not None and made is not None and self._agree(made, right):
            return made
        if length < 2 and self._captured.shortest <= 2:
            return None  # torch.export takes a size of 0 or 1 for a constant
        if right is None and (made is None or own is None or outputs(own, values) is None):
            return None
        rows = len(next(iter(values.values())))
        raise ExportError(_OTHERWISE.format(length=length, rows=rows))

    def _agree(self, made: Sequence[Array], right: Sequence[Array]) -> bool:
        return len(made) == len(right) and all(
            self._apart(spec, a, b, [b], each=False) is None
            for spec, a, b in zip(self._outputs, made, right, strict=True)
        )

    def _shortest(self, taken: int) -> int:
        """The least length from which on every one is taken."""
        for length in range(taken - 1, -1, -1):
            if self._alone("example", length) is None:
                return length + 1
        return 0

    def _longest(self, taken: int) -> int | None:
        """The greatest length that is taken; None where none was found."""
        captured = self._captured
        if captured.longest is not None:
            above = self._values.rows("example", captured.longest + 1, 1)
            if captured.own is not None and attempt(captured.own, self._outputs, above) is not None:
                raise ExportError(_OTHERWISE.format(length=captured.longest + 1, rows=1))
            return captured.longest
        row_bytes = sum(array.nbytes for array in self._values.rows("example", 1, 1).values())
        most = min(_LONGEST_TRIED, _MOST_BYTES // max(1, row_bytes))
        if captured.tables is not None:
            near = {table - back for table in captured.tables for back in range(_BEFORE_FIRST)}
            tried = sorted(length for length in near if taken < length <= most)
            ends = (one for one in tried if self._takes(one) and not self._takes(one + 1))
            return next(ends, None)
        low, high = taken, 2 * taken
        while high <= most and self._takes(high):
            low, high = high, 2 * high
        if high > most:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._takes(middle) else (low, middle)
        return low

    def _takes(self, length: int) -> bool:
        return self._made(self._values.rows("example", length, 2)) is not None

    def _differences(self, taken: Sequence[int], longest: int | None) -> Iterator[str]:
        """What padding changes, in words."""
        for place, kind in enumerate(KINDS):
            some = [length for length in taken if length in _FEWER] or taken[:1]
            for length in taken if place < _WHOLE_KINDS else some:
                for to in self._filled_to(length):
                    if to > length and (longest is None or to <= longest):
                        why = self._change(kind, length, to)
                        if why is not None:
                            yield why

    def _long(self, longest: int | None) -> list[int]:
        """Lengths of rows that are much longer than the others, as far as they are taken."""
        row_bytes = sum(array.nbytes for array in self._values.rows("example", 1, 1).values())
        most = min(longest or _LONGEST_TRIED, _MOST_BYTES // max(1, row_bytes))
        return [length for length in _LONG if self._bucket(length) <= most]

    def _long_change(self, length: int) -> str | None:
        return self._change("wide", length, self._bucket(length), rows=1)

    def _reached(self, taken: Sequence[int]) -> Iterator[str]:
        """The inputs whose padding no mask hides, where it is not known to be harmless; in words."""
        for key in self._values.reaching():
            lengths = [length for length in taken if length in _FEWER] or taken[:1]
            if not any(
                self._reaches(key, kind, length)
                for length in lengths
                for kind in KINDS[:_WHOLE_KINDS]
            ):
                continue
            if not self._values.is_table(key):
                yield f"what stands in the padding of {key[1]!r} reaches a result"
            elif not all("float" in spec.dtype for spec in self._outputs):
                yield f"what stands in the padding of {key[1]!r} reaches whole numbers"
            elif taken[0] > 1:
                yield f"rows of one id, which show what each of {key[1]!r} does, are not taken"
            else:
                yield from self._swept(key)

    def _reaches(self, key: Key, kind: str, length: int) -> bool:
        """True if other values in the padding of `key` change a result."""
        if self._alone(kind, length) is None:
            return False
        values, to = self._values.rows(kind, length), self._filled_to(length)[-1]
        padded = self._made(self._values.padded(values, to))
        other = self._made(self._values.with_others(key, values, to))
        if padded is None or other is None:
            return True
        return any(
            self._apart(spec, a, cut_to(spec, b, length), [a]) is not None
            for spec, b, a in zip(
                self._outputs,
                other,
                (cut_to(s, p, length) for s, p in zip(self._outputs, padded, strict=True)),
                strict=True,
            )
        )

    def _swept(self, key: Key) -> Iterator[str]:
        """What padding changes for one id of the whole table or the other, in words."""
        self._values.widen(key, lambda values: self._made(values) is not None)
        values = self._values.swept(key)
        alone = self._made(values)
        filled = self._made(self._values.padded(values, self._filled_to(1)[0]))
        if alone is None or filled is None:
            yield f"not all values of {key[1]!r} are taken"
            return
        for spec, a, b in zip(self._outputs, alone, filled, strict=True):
            why = self._apart(spec, a, cut_to(spec, b, 1), [a])
            if why is not None:
                yield f"{spec.name!r} changes {why} for some {key[1]!r} when a row of 1 is padded"
            elif is_constant(spec, [a]):
                yield f"{spec.name!r} was the same number for all rows that were tried"

    def _filled_to(self, length: int) -> tuple[int, int]:
        """The lengths that rows are filled up to: a little, and much."""
        near = self._bucket(length)
        return near, self._bucket(2 * near + length)

    def _change(self, kind: str, length: int, to: int, rows: int = ROWS) -> str | None:
        """What differs where rows of `length` are padded to `to`; None if nothing does."""
        alone = self._alone(kind, length, rows)
        if alone is None:
            return None
        values = self._values.rows(kind, length, rows)
        filled = self._made(self._values.padded(values, to))
        if filled is None:
            return f"it takes rows of {length} and not when they are padded to {to}"
        for place, (spec, a, b) in enumerate(zip(self._outputs, alone, filled, strict=True)):
            if not follows(spec, a, length) or not follows(spec, b, to):
                return f"{spec.name!r} is not as long as its row"
            company = [self._alone(kind, other) for other in _FEWER]
            others = [made[place] for made in company if made is not None]
            why = self._apart(spec, a, cut_to(spec, b, length), [a, b, *others])
            if why is not None:
                return (
                    f"{spec.name!r} of rows of {length} changes {why} when they are padded to {to}"
                )
        return None

    def _apart(
        self, spec: TensorSpec, a: Array, b: Array, company: Sequence[Array], *, each: bool = True
    ) -> str | None:
        self._compared += shows_numbers(spec, a)
        return difference(spec, a, b, company, is_half=self._captured.is_half, each=each)


def _gap(taken: Sequence[int]) -> str:
    """Why lengths between those that are taken are not."""
    for length in _LENGTHS:
        if length > taken[0] and length not in taken:
            return f"it takes rows of {taken[0]} and not of {length}"
    return ""
