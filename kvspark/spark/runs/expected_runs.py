"""What the next runs of an output will be like, as far as its history tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from kvspark.config.plan import ExpectConfig
from kvspark.plan.costs import Expectation
from kvspark.spark.runs.history import PUBLISHED, PastRun
from kvspark.spark.runs.phases import BEFORE_A_PLAN
from kvspark.spark.runs.run_report import RunReport

NIGHTS = 7
"""Runs whose hit rates count: a week of nights."""


def expected_runs(config: ExpectConfig, history: Sequence[PastRun]) -> Expectation:
    """What `config` says, and where `history` knows better, what it tells.

    How many rows come again is the mean hit rate of the last `NIGHTS` runs whose model the run before them had as well;
    runs without the cache for a part of the time are left out. How often the last stage is another one is counted
    over all runs. What `config` says counts as one more run of each: a night on a store that was emptied is no reason
    to cache nothing ever after.
    """
    expect = Expectation(config.again, config.retrained, config.runs)
    runs = [run for run in history if run.state == PUBLISHED and run.stages]
    pairs = list(pairwise(runs))
    rates = [
        _rate(after)
        for before, after in pairs
        if before.fingerprint == after.fingerprint and not after.degraded
    ]
    known = [rate for rate in rates if rate is not None][-NIGHTS:]
    expect = replace(expect, again=(sum(known) + config.again) / (len(known) + 1))
    changes = sum(before.fingerprint != after.fingerprint for before, after in pairs)
    return replace(expect, retrained=(changes + config.retrained) / (len(pairs) + 1))


def other_seconds(
    before: RunReport | None, *, passed_s: float, rows: int, workers: int, computes: bool
) -> float | None:
    """Wall seconds of a run of `rows` rows besides its stages and store.

    They are `passed_s` until it is planned, and from then on those of the run `before`: what that one had while it scored
    grows with the rows, all else does not. Workers open the model if the run `computes` a row; where all are found, nobody
    does. None where there was no such run.
    """
    if before is None or not before.rows_in or "score" not in before.seconds:
        return None
    inside = sum(
        each.seconds_lookup + each.seconds_insert + each.seconds_compute
        for each in before.stats.stages.values()
    )
    opened_s = sum(each.seconds_opened for each in before.stats.stages.values()) / workers
    scoring_s = max(0.0, before.seconds["score"] - inside / workers - opened_s)
    other = [s for name, s in before.seconds.items() if name not in (*BEFORE_A_PLAN, "score")]
    opening_s = opened_s if computes else 0.0
    return passed_s + opening_s + scoring_s * rows / before.rows_in + sum(other)


def _rate(run: PastRun) -> float | None:
    """The hit rate of the last stage that was looked up; None where none was."""
    stages = run.stages.values()
    rates = [float(stage["hits"] / stage["lookups"]) for stage in stages if stage["lookups"]]
    return rates[-1] if rates else None
