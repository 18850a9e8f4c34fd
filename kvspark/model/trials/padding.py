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
from itertools import chain
from typing import final

from kvspark.model.bundle.bundle import Bundle
from kvspark.model.trials.captured import Captured
from kvspark.model.trials.chained import Chained
from kvspark.model.trials.rounding import cut_to, follows, is_constant
from kvspark.model.trials.trial_values import (
    KINDS,
    ROWS,
    Array,
    Key,
    TrialValues,
    sources_of,
)
from kvspark.model.trials.unpadded import Unpadded
from kvspark.spec import LengthRule

_LENGTHS = (1, 2, 3, 5, 7, 11, 19)
"""Lengths that are tried: no buckets, and the shortest ones, where padding weighs most."""
_FEWER = (2, 5, 11)
"""For all kinds of values but the first two."""

_WHOLE_KINDS = 2

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
    values = TrialValues(sources_of(bundle.stages), examples or {})
    unpadded = Unpadded(bundle, stages or Chained(bundle), values, captured or Captured())
    rule = _Trial(bundle, unpadded).rule()
    if rule.is_exact:
        _LOG.info("model %s: rows are computed at their own lengths: %s", bundle.name, rule.reason)
    return bundle.with_length_rule(rule)


@final
class _Trial:
    """The trial of one model."""

    def __init__(self, bundle: Bundle, unpadded: Unpadded) -> None:
        self._unpadded = unpadded
        self._values = unpadded.values
        self._outputs = bundle.outputs
        self._bucket = bundle.micro_batch.bucket
        self._full = bundle.micro_batch.rows

    def rule(self) -> LengthRule:
        """The rule for the model's lengths."""
        taken = [
            length for length in _LENGTHS if self._unpadded.alone("example", length) is not None
        ]
        if not taken:
            return LengthRule(is_exact=True, reason="it takes none of the values that were tried")
        length = taken[len(taken) // 2]
        self._values.find_limits(lambda v: self._unpadded.made(v) is not None, length)
        self._unpadded.known.clear()
        for rows in (1, self._full):
            self._unpadded.alone("example", taken[-1], rows)
        shortest, longest = self._unpadded.shortest(taken[0]), self._unpadded.longest(taken[-1])
        for length in self._unpadded.long(longest):
            self._unpadded.alone("example", length, 1)
        changes = chain(
            self._differences(taken, longest),
            self._reached(taken),
            (
                self._change("wide", length, self._bucket(length), rows=1)
                for length in self._unpadded.long(longest)
            ),
        )
        reason = _gap(taken) or next(filter(None, changes), "")
        if not reason and not self._unpadded.compared:
            reason = "no values were found that show what padding does"
        pads_empty = True
        if shortest == 0 and not reason:
            pads_empty = all(self._change(kind, 0, self._bucket(0)) is None for kind in KINDS)
        return LengthRule(bool(reason), pads_empty, shortest, longest, reason)

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
        if self._unpadded.alone(kind, length) is None:
            return False
        values, to = self._values.rows(kind, length), self._filled_to(length)[-1]
        padded = self._unpadded.made(self._values.padded(values, to))
        other = self._unpadded.made(self._values.with_others(key, values, to))
        if padded is None or other is None:
            return True
        return any(
            self._unpadded.apart(spec, a, cut_to(spec, b, length), [a]) is not None
            for spec, b, a in zip(
                self._outputs,
                other,
                (cut_to(s, p, length) for s, p in zip(self._outputs, padded, strict=True)),
                strict=True,
            )
        )

    def _swept(self, key: Key) -> Iterator[str]:
        """What padding changes for one id of the whole table or the other, in words."""
        self._values.widen(key, lambda values: self._unpadded.made(values) is not None)
        values = self._values.swept(key)
        alone = self._unpadded.made(values)
        filled = self._unpadded.made(self._values.padded(values, self._filled_to(1)[0]))
        if alone is None or filled is None:
            yield f"not all values of {key[1]!r} are taken"
            return
        for spec, a, b in zip(self._outputs, alone, filled, strict=True):
            why = self._unpadded.apart(spec, a, cut_to(spec, b, 1), [a])
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
        alone = self._unpadded.alone(kind, length, rows)
        if alone is None:
            return None
        values = self._values.rows(kind, length, rows)
        filled = self._unpadded.made(self._values.padded(values, to))
        if filled is None:
            return f"it takes rows of {length} and not when they are padded to {to}"
        for place, (spec, a, b) in enumerate(zip(self._outputs, alone, filled, strict=True)):
            if not follows(spec, a, length) or not follows(spec, b, to):
                return f"{spec.name!r} is not as long as its row"
            company = [self._unpadded.alone(kind, other) for other in _FEWER]
            others = [made[place] for made in company if made is not None]
            why = self._unpadded.apart(spec, a, cut_to(spec, b, length), [a, b, *others])
            if why is not None:
                return (
                    f"{spec.name!r} of rows of {length} changes {why} when they are padded to {to}"
                )
        return None


def _gap(taken: Sequence[int]) -> str:
    """Why lengths between those that are taken are not."""
    for length in _LENGTHS:
        if length > taken[0] and length not in taken:
            return f"it takes rows of {taken[0]} and not of {length}"
    return ""
