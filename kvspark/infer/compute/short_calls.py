"""Calls of fewer rows than the micro-batch has, where they were shown to give the very same bits.

The last call of a group is filled with copies: of 69 changed texts in some twenty buckets nearly each one
costs a call of 32 rows. At most sizes a library computes each row of a smaller call in the same way, and
where it does is tried (`kvspark.model.trials.fewer_rows`): once for each padded length, on rows of the run,
in a call that is made anyway. What was found is remembered, as what a preflight finds is, under the
stage's fingerprint and what else decides bits on a machine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, final

from kvspark.model.run.computation import Computation, GraphComputation
from kvspark.model.stage.stage import Stage
from kvspark.spec import ROWS_UNIT, MicroBatch, Rows

SIZES = (4,)
"""Rows of the smaller calls that are tried. More sizes make a trial three times as dear and save a tenth more (ADR 0070)."""

Shape = tuple[int, int]
"""Padded length (0 without lengths), and rows."""


class Proofs(Protocol):
    """What is remembered of a stage from one process to the next."""

    def known(self, shapes: Sequence[Shape]) -> dict[Shape, bool] | None:
        """Of those of `shapes` that were tried, whether they give the bits of a whole call; None without an answer."""
        ...

    def add(self, shapes: Mapping[Shape, bool]) -> None:
        """Remembers what was found; best effort."""
        ...


@final
class ShortCalls:
    """The smaller calls of one stage in one process."""

    def __init__(self, computation: GraphComputation, proofs: Proofs | None) -> None:
        self._computation = computation
        self._proofs = proofs
        self._known: dict[int, tuple[int, ...]] = {}
        """By padded length, the rows of calls that give the bits of a whole one."""
        self._is_silent = False
        """True while nobody can say what was tried before."""

    def prepare(self, lengths: Collection[int]) -> None:
        """Asks what is known of calls at these padded lengths."""
        new = [length for length in lengths if length not in self._known]
        if not new or self._proofs is None:
            return
        known = self._proofs.known([(length, rows) for length in new for rows in SIZES])
        # What is tried now would not be remembered, and tried again by every worker every night.
        self._is_silent = known is None
        if known is None:
            return
        for length in new:
            if all((length, rows) in known for rows in SIZES):
                self._known[length] = tuple(rows for rows in SIZES if known[length, rows])

    def parts(self, length: int, size: int, count: int) -> Sequence[int]:
        """The rows of the calls in which the last `count` rows of a group are computed.

        One call of `size` rows where it is not known that smaller ones give its bits.
        """
        sizes = self._known.get(length, ())
        return cheapest(count, sizes, size) if sizes and size == ROWS_UNIT else (size,)

    def run(self, arguments: Sequence[Any], length: int, size: int) -> tuple[Rows, ...]:
        """The results of a call; tries smaller ones beside it where nobody knows."""
        if size != ROWS_UNIT or length in self._known or self._is_silent:
            return self._computation.run(arguments)
        from kvspark.model.trials.fewer_rows import with_fewer_rows

        found: tuple[int, ...] = ()

        def tried(program: Any, tensors: Sequence[Any]) -> tuple[Any, ...]:
            nonlocal found
            made, found = with_fewer_rows(program, tensors, SIZES)
            return made

        try:
            made = self._computation.run_by(tried, arguments)
        except Exception:  # noqa: BLE001 - a bad row's: it is raised without the trial as well
            return self._computation.run(arguments)
        self._known[length] = found
        if self._proofs is not None:
            self._proofs.add({(length, rows): rows in found for rows in SIZES})
        return made


def short_calls_of(
    stage: Stage,
    computation: Computation,
    shapes: MicroBatch,
    proofs: Callable[[Stage], Proofs | None],
) -> ShortCalls | None:
    """The smaller calls of `stage`; None where there are none, or they would save next to nothing.

    Only where a call has 32 rows because a row is dear, or has lengths. With several threads each has its own
    share of a call, which smaller calls would cut in another way.
    """
    is_dear = stage.has_lengths or stage.rows == ROWS_UNIT
    if not isinstance(computation, GraphComputation) or not is_dear:
        return None
    if computation.threads > 1 or shapes.rows != ROWS_UNIT:
        return None
    return ShortCalls(computation, proofs(stage))


@lru_cache(maxsize=4096)
def cheapest(count: int, sizes: tuple[int, ...], whole: int) -> tuple[int, ...]:
    """Calls of `sizes` rows for `count` rows, or one of `whole`: those that cost least.

    To make a call costs about what one of its rows costs.
    """
    best: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    for rows in range(1, count + 1):
        choices = ((best[max(0, rows - size)], size) for size in sizes)
        best.append(min((cost + size + 1, (size, *calls)) for (cost, calls), size in choices))
    cost, calls = best[count]
    return tuple(sorted(calls, reverse=True)) if cost < whole + 1 else (whole,)
