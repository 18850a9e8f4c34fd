"""How long a run takes, stage by stage, for given shares of their rows that are cached.

Of the rows that are asked of a stage, the store has some: those found further down were never asked.
A row that has a result at a stage was computed by all stages before it, so what was computed before is nested:
of rows that the stage behind has not found, those left over are `computed before - found behind`. Which of them are
remembered is each stage's own matter: a share of the rows is, by their digests at that stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

from kvspark.plan.costs import Expectation, Night, StageCost, StageRows


@final
@dataclass(frozen=True, slots=True)
class StageForecast:
    """Rows and worker seconds of one stage in one run."""

    asked: float = 0.0
    looked_up: float = 0.0
    found: float = 0.0
    computed: float = 0.0
    inserted: float = 0.0
    lookup_s: float = 0.0
    insert_s: float = 0.0
    compute_s: float = 0.0

    @property
    def seconds(self) -> float:
        """All of them."""
        return self.lookup_s + self.insert_s + self.compute_s


def forecast(night: Night, shares: Mapping[str, float]) -> dict[str, StageForecast]:
    """The rows and seconds of each stage of `night`, if of those in `shares` so many rows are looked up and stored."""
    made: dict[str, StageForecast] = {}
    computed_behind: dict[str, float] = {night.stages[-1].name: 1.0}
    for stage in reversed(night.stages):
        rows, cost = night.rows[stage.name], night.costs[stage.name]
        share = shares.get(stage.name, 0.0)
        # The largest part of their rows that the stages behind compute, and so ask for here.
        part = computed_behind.get(stage.name, 0.0)
        hits = hit_rate(rows, share, part=part)
        made[stage.name] = _stage_forecast(
            cost, rows.asked * part, rows.distinct * part, share, hits, stores=night.stores
        )
        for name in stage.upstream:
            computed_behind[name] = max(computed_behind.get(name, 0.0), part * (1 - hits))
    return {stage.name: made[stage.name] for stage in night.stages}


def _stage_forecast(
    cost: StageCost, asked: float, distinct: float, share: float, hits: float, *, stores: bool
) -> StageForecast:
    """Of `asked` rows the part `hits` is found; of `share` of the distinct ones the others are stored, where it `stores`."""
    inserted = (share - hits) * distinct if stores else 0.0
    looked_up = asked * share
    # Who misses a row that another worker has stored meanwhile finds it.
    found = looked_up - inserted if stores else asked * hits
    computed = asked - found
    return StageForecast(
        asked=asked,
        looked_up=looked_up,
        found=found,
        computed=computed,
        inserted=inserted,
        lookup_s=looked_up * cost.lookup_s + found * cost.fetch_s,
        insert_s=inserted * cost.insert_s,
        compute_s=computed * cost.compute_s,
    )


def total_s(made: Mapping[str, StageForecast]) -> float:
    """Worker seconds of all stages."""
    return sum(one.seconds for one in made.values())


def expected_s(night: Night, shares: Mapping[str, float], expect: Expectation) -> float:
    """Worker seconds of `night`, and of the next runs as far as `expect` says what they are like."""
    tonight_s = total_s(forecast(night, shares))
    same_s = total_s(forecast(_next(night, expect, is_retrained=False), shares))
    other_s = total_s(forecast(_next(night, expect, is_retrained=True), shares))
    next_s = (1 - expect.retrained) * same_s + expect.retrained * other_s
    return tonight_s + expect.runs * next_s


def _next(night: Night, expect: Expectation, *, is_retrained: bool) -> Night:
    """The run after `night`, which finds what that one has stored; where it stores nothing, what is there now."""
    last = night.stages[-1].name
    rows = {}
    for name, each in night.rows.items():
        hits, stored = expect.again, 1.0
        if not night.stores:
            hits, stored = expect.again * each.hits, each.stored
        if is_retrained and name == last:
            hits = 0.0
        rows[name] = replace(each, hits=hits, stored=stored)
    return replace(night, rows=rows)


def hit_rate(rows: StageRows, share: float, *, part: float = 1.0) -> float:
    """The share of hits, if `share` of the rows is looked up, among the `part` of them that nothing behind has found."""
    if part <= 0 or share <= 0:
        return 0.0
    seen = min(1.0, rows.hits / rows.stored)  # of all rows, whether remembered or not
    return min(share, rows.stored) * min(1.0, max(0.0, (seen - (1 - part)) / part))
