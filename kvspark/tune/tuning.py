"""The search: the conf as it is, trials, and the best of them in turns with the conf as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Protocol, final

from kvspark.errors import KvsparkError
from kvspark.tune.proposals import Proposals
from kvspark.tune.space import Candidate, Space
from kvspark.tune.trial import Measure, Trial

ROUNDS = 4
"""Turns of the best and of the conf as it is. Two equal ones are told apart by chance once in 70 times:
that all four of one are above all four of the other."""
LEAST_GAIN = 0.03
"""What a change of a conf is worth to a person."""
_ALIKE = 0.03
"""Candidates that are so near the fastest are as good: the one that changes least is taken."""


class Listener(Protocol):
    """Who hears what happens while it happens."""

    def begins(self, number: int, candidate: Candidate, part: str) -> None:
        """A measurement begins; `part` is `trial`, `turn` or `last`."""

    def ended(self, trial: Trial, best: Trial | None, baseline: float, part: str) -> None:
        """It has ended; `best` is the fastest trial so far, `baseline` the conf's rows a second."""


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a search."""

    trials: tuple[Trial, ...]
    """All of the search; the first is the conf as it is."""
    baseline: tuple[float, ...]
    """Rows a second of the conf as it is, as often as it was measured: first, in turns, last."""
    best: Candidate | None
    """The fastest trial that is not the conf as it is; None if none was faster."""
    turns: tuple[tuple[float, float], ...] = ()
    """Rows a second in turns: of the conf as it is, and of the best."""
    alone: dict[str, float] = field(default_factory=dict)
    """By option of the best: how many times the conf's rows a second it made alone."""

    @property
    def gain(self) -> float:
        """How much faster the best was in turns, by the medians: 0.1 for 1.1 times."""
        if not self.turns:
            return 0.0
        old, new = zip(*self.turns, strict=True)
        return float(median(new) / median(old) - 1)

    @property
    def spread(self) -> float:
        """Of the conf as it is: the fastest less the slowest, as a part of the median."""
        return (max(self.baseline) - min(self.baseline)) / median(self.baseline)

    @property
    def is_better(self) -> bool:
        """True if the best was faster in every turn than the conf in any, and by enough."""
        if len(self.turns) < ROUNDS:
            return False
        old, new = zip(*self.turns, strict=True)
        return min(new) > max(old) and self.gain >= LEAST_GAIN


@final
class Tuning:
    """One search."""

    def __init__(
        self,
        space: Space,
        measure: Measure,
        *,
        trials: int,
        seconds: float,
        seed: int,
        listener: Listener,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._space = space
        self._measure = measure
        self._most = trials
        self._seconds = seconds
        self._proposals = Proposals(space, seed=seed)
        self._listener = listener
        self._clock = clock
        self._started = clock()
        self._trials: list[Trial] = []
        self._count = 0

    def run(self) -> Outcome:
        """What came of it.

        At least one trial is made; no more begin when `trials` are done, or when what `seconds` leave is
        what the turns at the end need.

        Raises:
            KvsparkError: the conf as it is cannot be measured.
        """
        first = self._tried(self._space.baseline, "trial", must=True)
        assert first.rate is not None
        self._trials.append(first)
        self._proposals.tell(first.candidate, first.rate)
        for candidate in self._candidates():
            trial = self._tried(candidate, "trial")
            self._trials.append(trial)
            self._proposals.tell(candidate, trial.rate)
        best = self._best()
        turns = [] if best is None else list(self._turns(best))
        last = self._tried(self._space.baseline, "last", must=True)
        assert last.rate is not None
        rates = [first.rate, *(old for old, _ in turns), last.rate]
        return Outcome(
            tuple(self._trials),
            tuple(rates),
            best,
            tuple(turns),
            {} if best is None else alone(best, self._trials, first.rate),
        )

    def _candidates(self) -> Iterator[Candidate]:
        for done in range(self._most):
            longest = max(trial.seconds for trial in self._trials)
            kept = longest + (2 * ROUNDS + 1) * median(trial.seconds for trial in self._trials)
            if done and self._clock() - self._started + kept > self._seconds:
                return
            candidate = self._proposals.next()
            if candidate is None:
                return
            yield candidate

    def _best(self) -> Candidate | None:
        """What changes least among the fastest; None where that is the conf as it is."""
        rates = {t.candidate: t.rate for t in self._trials if t.rate is not None}
        fastest = max(rates.values())
        alike = [each for each, rate in rates.items() if rate >= fastest / (1 + _ALIKE)]
        best = min(alike, key=lambda each: (each.weight, -rates[each]))
        return best if best.changed else None

    def _turns(self, best: Candidate) -> Iterator[tuple[float, float]]:
        """Each of both once, first this one, then that one; ends where one of them fails."""
        for turn in range(ROUNDS):
            order = [self._space.baseline, best]
            rates = [self._tried(each, "turn").rate for each in order[:: -1 if turn % 2 else 1]]
            old, new = rates[:: -1 if turn % 2 else 1]
            if old is None or new is None:
                return
            yield old, new

    def _tried(self, candidate: Candidate, part: str, *, must: bool = False) -> Trial:
        number, self._count = self._count, self._count + 1
        self._listener.begins(number, candidate, part)
        start = self._clock()
        try:
            measured, error = self._measure(candidate), None
        except KvsparkError as exc:
            if must:
                raise
            measured, error = None, exc.line()
        trial = Trial(number, candidate, measured, error, self._clock() - start)
        known = [each for each in [*self._trials, trial] if each.rate is not None]
        best = max(known, key=lambda each: each.rate or 0.0, default=None)
        baseline = (self._trials or [trial])[0].rate or 0.0
        self._listener.ended(trial, best, baseline, part)
        return trial


def alone(best: Candidate, trials: Sequence[Trial], baseline: float) -> dict[str, float]:
    """By option of `best`, how many times `baseline` its choice made where nothing else was changed."""
    made: dict[str, float] = {}
    for trial in trials:
        if len(trial.candidate.changed) != 1 or trial.rate is None:
            continue
        ((option, choice),) = trial.candidate.changed
        if (option, choice) in best.changed:
            made[option.name] = trial.rate / baseline
    return made
