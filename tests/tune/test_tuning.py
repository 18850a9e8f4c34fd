"""The search on made-up measurements: what is tried, what wins, and when nothing does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle

import pytest

from kvspark.errors import KvsparkError, LossyCodecError
from kvspark.tune.space import Candidate, Choice, Option, Space
from kvspark.tune.trial import Measured, Trial
from kvspark.tune.tuning import ROUNDS, Outcome, Tuning

Rate = Callable[[Candidate], float]


def option(name: str, *values: str, other_bits: bool = False) -> Option:
    others = [Choice(v, (((name, "key"), v),), other_bits) for v in values[1:]]
    return Option(name, (Choice(values[0]), *others))


SPACE = Space((option("a", "0", "1", "2", "3"), option("b", "0", "1", "2"), option("c", "0", "1")))


class Listening:
    def __init__(self) -> None:
        self.said: list[str] = []

    def begins(self, number: int, candidate: Candidate, part: str) -> None:
        self.said.append(f"{number} {part} {candidate.told}")

    def ended(self, trial: Trial, best: Trial | None, baseline: float, part: str) -> None:
        self.said.append(f"{trial.number} {part} ended")


def tuned(
    rate: Rate,
    *,
    space: Space = SPACE,
    trials: int = 100,
    seed: int = 0,
    seconds: float = 1e9,
    clock: Callable[[], float] | None = None,
    listener: Listening | None = None,
) -> Outcome:
    ticks = iter(range(10**9))
    return Tuning(
        space,
        lambda candidate: Measured(rate(candidate)),
        trials=trials,
        seconds=seconds,
        seed=seed,
        listener=listener or Listening(),
        clock=clock or (lambda: float(next(ticks))),
    ).run()


def together(candidate: Candidate) -> float:
    """`a` and `b` are worth something alone, and more together."""
    a, b, c = candidate.places
    return 100 + 30 * (a == 2) + 20 * (b == 1) + 100 * (a == 2 and b == 1) - 5 * c


def test_the_fastest_candidate_is_found_and_no_candidate_is_tried_twice():
    outcome = tuned(together)
    assert outcome.best is not None
    assert outcome.best.told == "a 2, b 1"
    assert outcome.is_better
    places = [trial.candidate.places for trial in outcome.trials]
    assert len(set(places)) == len(places) == SPACE.size
    assert outcome.gain == pytest.approx(1.5)


def test_what_is_fast_together_is_found_in_half_of_the_trials():
    found = [tuned(together, trials=14, seed=seed).best for seed in range(5)]
    assert [each.places[:2] for each in found if each is not None] == [(2, 1)] * 5


def test_each_change_is_tried_alone_before_changes_together():
    outcome = tuned(together, trials=8)
    changed = [len(trial.candidate.changed) for trial in outcome.trials]
    assert changed[:7] == [0, 1, 1, 1, 1, 1, 1]
    assert min(changed[7:]) > 1
    made = {"a 2": 1.3, "b 1": 1.2, "c 1": 0.95}
    assert outcome.best is not None
    wanted = {
        option.name: made.get(f"{option.name} {c.text}", 1.0) for option, c in outcome.best.changed
    }
    assert outcome.alone == pytest.approx(wanted)


def test_the_same_seed_tries_the_same_candidates_in_the_same_order():
    tried = [[t.candidate.places for t in tuned(together, seed=s).trials] for s in (7, 7, 8)]
    assert tried[0] == tried[1]
    assert tried[0] != tried[2]


def test_the_conf_as_it_is_is_measured_first_in_turns_and_last():
    listener = Listening()
    outcome = tuned(together, listener=listener)
    begun = [line for line in listener.said if not line.endswith("ended")]
    assert begun[0] == "0 trial as it is"
    assert begun[-1].endswith("last as it is")
    in_turns = [line.split(" ", 2)[2] for line in begun if " turn " in line]
    assert in_turns == ["as it is", "a 2, b 1", "a 2, b 1", "as it is"] * (ROUNDS // 2)
    assert len(outcome.baseline) == ROUNDS + 2


def test_a_candidate_that_fails_is_a_trial_with_its_reason():
    def rate(candidate: Candidate) -> float:
        if candidate.places[0] == 3:
            raise LossyCodecError("a label changes")
        return together(candidate)

    outcome = tuned(rate)
    failed = [trial for trial in outcome.trials if trial.measured is None]
    assert {trial.error for trial in failed} == {"KVS-1210 a label changes"}
    assert all(trial.candidate.places[0] == 3 for trial in failed)
    assert outcome.is_better


def test_a_conf_that_cannot_be_measured_as_it_is_ends_the_search():
    def rate(_: Candidate) -> float:
        raise KvsparkError("no row can be scored")

    with pytest.raises(KvsparkError, match="no row can be scored"):
        tuned(rate)


def test_nothing_wins_where_nothing_is_faster():
    outcome = tuned(lambda candidate: 100.0 - len(candidate.changed))
    assert outcome.best is None
    assert not outcome.is_better


def test_what_is_faster_by_less_than_the_noise_does_not_win():
    noise: Iterator[float] = cycle([0.8, 1.0, 1.2, 1.1, 0.9, 1.25, 0.85])

    def rate(candidate: Candidate) -> float:
        return (105.0 if candidate.changed else 100.0) * next(noise)

    outcome = tuned(rate)
    assert outcome.best is not None
    assert not outcome.is_better
    assert outcome.spread > 0.2


def test_a_candidate_that_was_lucky_once_does_not_win():
    seen: set[tuple[int, ...]] = set()

    def rate(candidate: Candidate) -> float:
        is_lucky = candidate.places == (1, 0, 0) and candidate.places not in seen
        seen.add(candidate.places)
        return 300.0 if is_lucky else 100.0

    outcome = tuned(rate)
    assert outcome.best is not None
    assert outcome.best.places == (1, 0, 0)
    assert not outcome.is_better


def test_a_best_that_fails_in_turns_does_not_win():
    seen: set[tuple[int, ...]] = set()

    def rate(candidate: Candidate) -> float:
        if candidate.changed and candidate.places in seen:
            raise KvsparkError("out of memory")
        seen.add(candidate.places)
        return together(candidate)

    outcome = tuned(rate)
    assert outcome.best is not None
    assert not outcome.is_better


def test_among_equally_fast_candidates_the_one_that_changes_least_wins():
    outcome = tuned(lambda each: 200.0 + 0.1 * each.places[1] if each.places[0] == 2 else 100.0)
    assert outcome.best is not None
    assert outcome.best.told == "a 2"


def test_same_bits_win_over_other_bits_that_are_as_fast():
    space = Space((option("dtype", "f32", "bf16", other_bits=True), option("a", "0", "1")))
    outcome = tuned(lambda each: 100.0 + 50 * bool(each.changed) + each.places[0], space=space)
    assert outcome.best is not None
    assert outcome.best.told == "a 1"
    assert not outcome.best.changes_bits


def test_no_trial_begins_once_the_turns_need_what_is_left():
    time = 0.0

    def rate(candidate: Candidate) -> float:
        nonlocal time
        time += 10.0
        return together(candidate)

    outcome = tuned(rate, seconds=150.0, clock=lambda: time)
    assert 2 <= len(outcome.trials) < SPACE.size
    assert time <= 150.0


def test_one_trial_is_made_however_few_seconds_there_are():
    assert len(tuned(together, seconds=0.5).trials) == 2


def test_a_conf_without_options_is_measured_and_left_as_it_is():
    outcome = tuned(lambda _: 100.0, space=Space(()))
    assert [trial.candidate.told for trial in outcome.trials] == ["as it is"]
    assert outcome.best is None
