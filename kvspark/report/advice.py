"""What a cache did for a run, in a sentence; and where it cost more than it saved, what to set."""

from __future__ import annotations

from kvspark.spark.runs.run_report import RunReport, StageReport
from kvspark.stats import StageStats

_COLD = 0.5
"""Of what was computed: where so much was written and little was found, it was a first night."""

_SMALL = 0.02
"""Of a run: what is within the scatter of runs is no ground for an advice either."""

_UNSEEN_S = 0.05
"""Seconds that are 0.0 as they are printed: no ground for an advice."""


def told_cache(report: RunReport) -> list[str]:
    """What the cache did, in lines; none for a run without a cache."""
    saved = report.seconds_saved
    if saved is None:
        return []
    unmeasured = [
        stage.name
        for stage in report.stages
        if _counted(report, stage).hits and stage.seconds_per_row is None
    ]
    if unmeasured:
        names = ", ".join(unmeasured)
        return [f"how much the cache saved is not known: no run has computed {names} here yet"]
    if abs(saved) < _UNSEEN_S:
        if not any(stage.lookups for stage in report.stats.stages.values()):
            return ["the cache saved and cost nothing: no row was looked up"]
        return ["the cache saved about as much as it cost, to a tenth of a second"]
    if saved >= 0:
        return [f"the cache saved about {saved:.1f} s of computing"]
    cost = f"the cache cost about {-saved:.1f} s more than it saved"
    if -saved < _SMALL * report.total_seconds:
        return [f"{cost}, of {report.total_seconds:.1f} s"]
    return [f"{cost}: {_why(report)}"]


def _why(report: RunReport) -> str:
    """What cost most, and what to set."""
    worst = min(report.stages, key=lambda stage: _net_s(report, stage))
    counted = _counted(report, worst)
    name, cost_s = worst.name, _spared_s(report, worst)
    lookup_s = counted.seconds_lookup / counted.lookups if counted.lookups else 0.0
    if counted.seconds_waited > counted.seconds_lookup + counted.seconds_insert:
        return (
            f"{counted.seconds_waited:.1f} s of waiting for other workers at {name}; set "
            "cache.lease_from_ms higher, or leave it out"
        )
    if counted.bytes_written and counted.hits < _COLD * counted.computed:
        return (
            f"{counted.computed:,} rows of {name} were computed and written for the next run, which "
            "will find them"
        )
    if lookup_s >= cost_s and counted.lookups:
        return (
            f"at {name} a look-up takes {_micro(lookup_s)} a row and computing "
            f"{_micro(cost_s)}; set plan.stages.{name}.cached: false"
        )
    if counted.seconds_insert > counted.seconds_lookup:
        return (
            f"{counted.seconds_insert:.1f} s of writing at {name}; set cache.overlap_bytes: "
            "67108864, and a thread of its own writes"
        )
    return (
        f"{counted.hits:,} of {counted.lookups:,} rows of {name} were found; if it stays so, set "
        f"plan.stages.{name}.cached: false"
    )


def _counted(report: RunReport, stage: StageReport) -> StageStats:
    return report.stats.stages.get(stage.name, StageStats())


def _net_s(report: RunReport, stage: StageReport) -> float:
    """Seconds that the cache saved at one stage, less what it cost there."""
    counted = _counted(report, stage)
    cost = counted.seconds_lookup + counted.seconds_insert + counted.seconds_waited
    return (counted.hits + counted.leased) * _spared_s(report, stage) - cost


def _spared_s(report: RunReport, stage: StageReport) -> float:
    """Seconds that a hit spares: the stage and all that lead to it."""
    by_name = {each.name: each for each in report.stages}
    names, left = {stage.name}, [stage.name]
    while left:
        upstream = set(by_name[left.pop()].upstream) - names
        names |= upstream
        left += upstream
    return sum(by_name[name].seconds_per_row or 0.0 for name in names)


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} us" if seconds < 0.001 else f"{seconds * 1e3:,.1f} ms"
