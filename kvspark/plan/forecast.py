"""How long a run takes, stage by stage, for a given set of cached stages.

Of the rows that are asked of a stage, the store has some: those found further down were never asked.
A row that has a result at a stage was computed by all stages before it, so what the store has is nested:
of rows that the stage behind has not found, the hits left over are `hits - found behind`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import final

from kvspark.plan.costs import Expectation, Night


@final
@dataclass(frozen=True, slots=True)
class StageForecast:
    """Rows and worker seconds of one stage in one run."""

    asked: float = 0.0
    computed: float = 0.0
    inserted: float = 0.0
    lookup_s: float = 0.0
    insert_s: float = 0.0
    compute_s: float = 0.0

    @property
    def seconds(self) -> float:
        """All of them."""
        return self.lookup_s + self.insert_s + self.compute_s


def forecast(night: Night, cached: Collection[str]) -> dict[str, StageForecast]:
    """The rows and seconds of each stage of `night`, if those in `cached` are looked up and stored."""
    made: dict[str, StageForecast] = {}
    computed_behind: dict[str, float] = {night.stages[-1].name: 1.0}
    for stage in reversed(night.stages):
        rows, cost = night.rows[stage.name], night.costs[stage.name]
        # The largest share of their rows that the stages behind compute, and so ask for here.
        share = computed_behind.get(stage.name, 0.0)
        asked = rows.asked * share
        if stage.name in cached:
            left = _hits_left(rows.hits, share)
            computed = rows.distinct * share * (1 - left)
            passed = share * (1 - left)
            one = StageForecast(
                asked=asked,
                computed=computed,
                inserted=computed,
                lookup_s=asked * cost.lookup_s + (asked - computed) * cost.fetch_s,
                insert_s=computed * cost.insert_s,
                compute_s=computed * cost.compute_s,
            )
        else:
            passed = share
            one = StageForecast(asked=asked, computed=asked, compute_s=asked * cost.compute_s)
        made[stage.name] = one
        for name in stage.upstream:
            computed_behind[name] = max(computed_behind.get(name, 0.0), passed)
    return {stage.name: made[stage.name] for stage in night.stages}


def total_s(made: Mapping[str, StageForecast]) -> float:
    """Worker seconds of all stages."""
    return sum(one.seconds for one in made.values())


def expected_s(night: Night, cached: Collection[str], expect: Expectation) -> float:
    """Worker seconds of `night`, and of the next runs as far as `expect` says what they are like."""
    tonight_s = total_s(forecast(night, cached))
    same_s = total_s(forecast(_next(night, expect, is_retrained=False), cached))
    other_s = total_s(forecast(_next(night, expect, is_retrained=True), cached))
    next_s = (1 - expect.retrained) * same_s + expect.retrained * other_s
    return tonight_s + expect.runs * next_s


def _next(night: Night, expect: Expectation, *, is_retrained: bool) -> Night:
    last = night.stages[-1].name
    hits = {name: 0.0 if is_retrained and name == last else expect.again for name in night.rows}
    rows = {name: replace(each, hits=hits[name]) for name, each in night.rows.items()}
    return replace(night, rows=rows)


def _hits_left(hits: float, share: float) -> float:
    """The share of hits among the `share` of rows that nothing behind has found."""
    if share <= 0:
        return 0.0
    return min(1.0, max(0.0, (hits - (1 - share)) / share))
