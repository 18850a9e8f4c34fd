"""What the plan is, and why: one line for each stage, and what the run takes with the cache and without it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, final

from kvspark.cache.stage.admission import entry_memory_bytes
from kvspark.plan.costs import Expectation, Night
from kvspark.plan.forecast import StageForecast, forecast, hit_rate, total_s
from kvspark.plan.plan import Plan
from kvspark.wording import micros

FEW = 0.005
"""A share below it would be told as 0 %."""


@final
@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage in the table."""

    name: str
    cached: bool
    share: float
    """The share of its distinct rows that are remembered, the same ones every night; 0 where it is not cached."""
    why: str
    bytes_a_row: int | None
    """Of its entry; None where it has none."""
    compute_us: float
    """Microseconds of a worker for a row, as `lookup_us`, `fetch_us` and `insert_us` are."""
    lookup_us: float
    fetch_us: float
    insert_us: float
    rows: float
    """Rows that are asked of it, if nothing behind it is found."""
    hit_rate: float
    """That is expected with that share, 0 to 1. The choice was made by the lower end of what the sample allows."""
    break_even: float | None
    """The hit rate from which caching it pays in this run; None where none does."""
    lookup_s: float
    """Expected worker seconds of this run, as `insert_s` and `compute_s` are."""
    insert_s: float
    compute_s: float
    lookups: float = 0.0
    """Expected rows of this run that the store is asked for, as those that are found there and inserted."""
    hits: float = 0.0
    inserts: float = 0.0
    computed: float = 0.0
    """Expected rows of this run that are computed."""

    @property
    def verdict(self) -> str:
        """`cached`, `40 % of rows cached`, `less than 1 % of rows cached`, or `not cached`."""
        if not self.cached:
            return "not cached"
        if self.share < FEW:
            return "less than 1 % of rows cached"
        return "cached" if self.share >= 1 else f"{100 * self.share:.0f} % of rows cached"


@final
@dataclass(frozen=True, slots=True)
class PlanTable:
    """What was measured, and what follows from it."""

    stages: tuple[PlannedStage, ...]
    """In topological order."""
    rows: int
    workers: int
    with_s: float
    """Expected wall seconds of all stages with the plan, all workers at work."""
    without_s: float
    """The same without a cache."""
    store_bytes: float
    """Memory of the store that the run will take."""
    trouble: str | None = None
    """Why nothing is inserted: the store is `full`, or `forgets` what is; None where entries are."""
    other_s: float | None = None
    """Wall seconds of a run besides: those that it had before it was planned, and the rest, to read and to write say, as
    the run before had it; None without one."""

    @property
    def cached(self) -> dict[str, bool]:
        """Whether each stage is cached."""
        return {stage.name: stage.cached for stage in self.stages}

    @property
    def computes(self) -> bool:
        """True if some worker will compute a row of the network, by what is expected."""
        return any(
            stage.bytes_a_row is not None and stage.computed >= max(1.0, FEW * stage.rows)
            for stage in self.stages
        )

    def applied_to(self, plan: Plan) -> Plan:
        """`plan`, which names all of these stages, with those cached that are here, the shares of their rows, and why."""
        stages = {
            each.name: replace(
                plan.stages[each.name], cached=each.cached, share=each.share or 1.0, why=each.why
            )
            for each in self.stages
        }
        return plan.with_stages(stages)

    def to_json(self) -> dict[str, Any]:
        """This value as plain JSON types."""
        return {**asdict(self), "stages": {each.name: asdict(each) for each in self.stages}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PlanTable:
        """The value that `to_json` wrote.

        Raises:
            TypeError, KeyError, AttributeError: it is none.
        """
        stages = [PlannedStage(**_known(PlannedStage, each)) for each in value["stages"].values()]
        own = {name: one for name, one in _known(cls, value).items() if name != "stages"}
        return cls(tuple(stages), **own)


def _known(kind: type, value: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `kind` in `value`: another version has more, or fewer."""
    return {each.name: value[each.name] for each in fields(kind) if each.name in value}


def plan_table(
    night: Night,
    shares: Mapping[str, float],
    expect: Expectation,
    *,
    rows: int,
    workers: int,
    deciders: Mapping[str, str] | None = None,
) -> PlanTable:
    """The table of `night` with the stages in `shares` cached; of a run of `rows` rows with `workers` workers.

    `deciders` says in words what decides for stages that are as they are whatever it costs.
    """
    likely = night.likely()
    made, alone = forecast(likely, shares), forecast(likely, {})
    memory = {
        name: one.inserted * entry_memory_bytes(night.costs[name].entry_bytes or 0)
        for name, one in made.items()
    }
    return PlanTable(
        tuple(
            _planned(
                likely,
                stage.name,
                shares,
                made[stage.name],
                _why(night, stage.name, shares, expect, deciders or {}),
            )
            for stage in night.stages
        ),
        rows,
        workers,
        total_s(made) / workers,
        total_s(alone) / workers,
        sum(memory.values()),
    )


def _planned(
    night: Night, name: str, shares: Mapping[str, float], made: StageForecast, why: str
) -> PlannedStage:
    cached, cost, rows = _cached(shares), night.costs[name], night.rows[name]
    return PlannedStage(
        name,
        name in cached,
        shares.get(name, 0.0),
        why,
        cost.entry_bytes,
        cost.compute_s * 1e6,
        cost.lookup_s * 1e6,
        cost.fetch_s * 1e6,
        cost.insert_s * 1e6,
        rows.asked,
        hit_rate(rows, shares.get(name, 0.0) or 1.0),
        _break_even(night, name, cached),
        made.lookup_s,
        made.insert_s,
        made.compute_s,
        made.looked_up,
        made.found,
        made.inserted,
        made.computed,
    )


def _recompute_s(night: Night, name: str, cached: Collection[str]) -> float:
    """Seconds for one row that the store lacks: the stage, and what it asks of the stages before it."""
    upstream = {before for stage in night.stages if stage.name == name for before in stage.upstream}
    seconds = night.costs[name].compute_s
    own = max(1.0, night.rows[name].asked)
    for before in upstream:
        cost, rows = night.costs[before], night.rows[before]
        a_row_s = _recompute_s(night, before, cached)
        if before in cached:
            a_row_s = min(a_row_s, cost.lookup_s + cost.fetch_s)
        seconds += a_row_s * rows.asked / own
    return seconds


def _break_even(night: Night, name: str, cached: Collection[str]) -> float | None:
    """The hit rate at which this run takes as long with the stage cached as without."""
    cost = night.costs[name]
    if cost.entry_bytes is None:
        return None
    insert_s = cost.insert_s if night.stores else 0.0
    saved_s = _recompute_s(night, name, cached) + insert_s - cost.fetch_s
    paid_s = cost.lookup_s + insert_s
    return paid_s / saved_s if 0 < paid_s <= saved_s else None


def _cached(shares: Mapping[str, float]) -> list[str]:
    return [name for name, share in shares.items() if share > 0]


def _why(
    night: Night,
    name: str,
    shares: Mapping[str, float],
    expect: Expectation,
    deciders: Mapping[str, str],
) -> str:
    """The reason in words, with the two numbers that decide where they do."""
    cost, rows, cached = night.costs[name], night.rows[name], _cached(shares)
    if cost.entry_bytes is None:
        return "its results are not stored: they are cheap, or have no entry"
    again_s = _recompute_s(night, name, cached)
    fetching_us, computing_us = 1e6 * (cost.lookup_s + cost.fetch_s), 1e6 * again_s
    fetching = f"fetching costs {micros(fetching_us)}, computing {micros(computing_us)}"
    if name in shares and name not in cached:
        return f"{fetching}; the cache's budget has no room for it"
    if name in deciders:
        return f"{fetching}; {deciders[name]}"
    if name not in cached:
        if again_s > cost.lookup_s + cost.fetch_s:
            if not night.stores:
                return (
                    f"{fetching}: at {rows.hits:.0%} hits, and nothing is inserted, it does not pay"
                )
            return (
                f"{fetching}: {rows.hits:.0%} hits now and {expect.again:.0%} the next time save less than "
                "looking up and inserting cost"
            )
        return fetching
    behind = [
        stage.name for stage in night.stages if name in stage.upstream and stage.name in cached
    ]
    if behind and expect.retrained > 0:
        return f"{fetching}; for rows that {behind[0]} lacks, and for the day it is made anew"
    return fetching
