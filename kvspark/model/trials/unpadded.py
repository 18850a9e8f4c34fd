"""Rows that are not padded: their results, and the lengths at which a model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from kvspark.errors import ExportError
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.trials.attempt import Results, Run, attempt, outputs
from kvspark.model.trials.captured import Captured
from kvspark.model.trials.chained import Chained
from kvspark.model.trials.rounding import difference, shows_numbers
from kvspark.model.trials.trial_values import ROWS, Array, TrialValues, Values
from kvspark.spec import TensorSpec

_LONGEST_TRIED = 1024
_MOST_BYTES = 1 << 26
"""Of the values of one row, while its greatest length is looked for."""
_LONG = (67, 261, 577, 961, 1023)
"""Some models do something else from a length on. All but the last have much padding, which a mean needs to show."""
_BEFORE_FIRST = 5
"""Tables of positions may begin with up to so many that no token has: RoBERTa's with two."""
_OTHERWISE = (
    "the exported graph and the module differ for {rows} rows of length {length}: the module does "
    "something else at some sizes, a branch on a length say; write it for any size, with a mask"
)


@final
class Unpadded:
    """What a model makes of rows of `values` at their own lengths, beside its own runtime."""

    def __init__(
        self, bundle: Bundle, stages: Chained, values: TrialValues, captured: Captured
    ) -> None:
        self.values = values
        self._run: Run = stages
        self._captured = captured
        self._outputs = bundle.outputs
        self._bucket = bundle.micro_batch.bucket
        self.known: dict[tuple[str, int, int], Results] = {}
        """What was made already, by kind, length and number of rows."""
        self.compared = 0
        """How often numbers were compared, of which some were finite."""

    def made(self, values: Values) -> Results:
        """The results of `values`; None where the model has none."""
        return attempt(self._run, self._outputs, values)

    def alone(self, kind: str, length: int, rows: int = ROWS) -> Results:
        """The results of rows that are not padded; None where the model has none.

        Raises:
            ExportError: the stages give others than the model's own runtime.
        """
        key = (kind, length, rows)
        if key not in self.known:
            values = self.values.rows(kind, length, rows)
            made = self.made(values)
            # Only for these: where a mask hides a whole row, torch's own paths differ.
            is_checked = kind == "example" and self._captured.own is not None
            self.known[key] = self._checked(length, values, made) if is_checked else made
        return self.known[key]

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
            self.apart(spec, a, b, [b], each=False) is None
            for spec, a, b in zip(self._outputs, made, right, strict=True)
        )

    def shortest(self, taken: int) -> int:
        """The least length from which on every one is taken."""
        for length in range(taken - 1, -1, -1):
            if self.alone("example", length) is None:
                return length + 1
        return 0

    def longest(self, taken: int) -> int | None:
        """The greatest length that is taken; None where none was found."""
        captured = self._captured
        if captured.longest is not None:
            above = self.values.rows("example", captured.longest + 1, 1)
            if captured.own is not None and attempt(captured.own, self._outputs, above) is not None:
                raise ExportError(_OTHERWISE.format(length=captured.longest + 1, rows=1))
            return captured.longest
        row_bytes = sum(array.nbytes for array in self.values.rows("example", 1, 1).values())
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
        return self.made(self.values.rows("example", length, 2)) is not None

    def long(self, longest: int | None) -> list[int]:
        """Lengths of rows that are much longer than the others, as far as they are taken."""
        row_bytes = sum(array.nbytes for array in self.values.rows("example", 1, 1).values())
        most = min(longest or _LONGEST_TRIED, _MOST_BYTES // max(1, row_bytes))
        return [length for length in _LONG if self._bucket(length) <= most]

    def apart(
        self, spec: TensorSpec, a: Array, b: Array, company: Sequence[Array], *, each: bool = True
    ) -> str | None:
        """How results `b` differ from `a` by more than rounding, which `company` shows; None if they do not."""
        self.compared += shows_numbers(spec, a)
        return difference(spec, a, b, company, is_half=self._captured.is_half, each=each)
