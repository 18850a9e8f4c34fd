"""A plan on a terminal: a table of its stages, why each is as it is, and what a run takes."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kvspark.plan.table import FEW, PlannedStage, PlanTable
from kvspark.report.lines import say, size
from kvspark.stats import FORGETS, RunStats, StageStats
from kvspark.store.trouble import FULL
from kvspark.wording import count_of, micros

_TROUBLE = {
    FULL: "the store takes no entries (kvspark explain full)",
    FORGETS: "the store has lost what was inserted a moment before",
}
_HEADS = ("bytes", "compute", "look up", "fetch", "insert", "hits", "pays from")


def print_plan(plan: PlanTable, console: Console | None = None) -> None:
    """Prints what was measured for a row of each stage, in microseconds of a worker, and what follows."""
    console = console or Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("stage", overflow="fold")
    table.add_column("cached", no_wrap=True)
    for head in _HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    for stage in plan.stages:
        table.add_row(escape(stage.name), _cached(stage), *_cells(stage))
    console.print(table)
    for stage in plan.stages:
        say(console, f"{escape(stage.name)}: {escape(stage.why)}", indent=2)
    for line in plan_lines(plan):
        say(console, line)


def plan_lines(plan: PlanTable) -> list[str]:
    """What the run takes, with the plan and without a cache."""
    run = f"{count_of(plan.rows, 'row')}, {count_of(plan.workers, 'worker')}"
    lines = [
        f"{run}: {_s(plan.with_s)} s in stages and store, {_s(plan.without_s)} s without a cache"
    ]
    if plan.other_s is not None:
        lines.append(
            f"about {plan.with_s + plan.other_s:.1f} s in all: {plan.other_s:.1f} s besides, most of it as the run before had it"
        )
    if plan.trouble is not None:
        why = _TROUBLE.get(plan.trouble, plan.trouble)
        lines.append(f"{why}: what is there is looked up, and nothing is inserted")
    if plan.store_bytes:
        lines.append(f"the store grows by {size(int(plan.store_bytes))}")
    return lines


def outcome_lines(plan: PlanTable, stats: RunStats) -> list[str]:
    """What was planned of each stage that is computed in micro-batches, and what came true."""
    lines = []
    for stage in plan.stages:
        if stage.bytes_a_row is None:
            continue
        counted = stats.stages.get(stage.name, StageStats())
        lines.append(f"plan: {stage.name} {stage.verdict}, {stage.why}{_came_true(stage, counted)}")
    took_s = sum(
        each.seconds_lookup + each.seconds_insert + each.seconds_compute
        for each in stats.stages.values()
    )
    lines.append(
        f"plan: {_s(plan.with_s)} s in stages and store with {count_of(plan.workers, 'worker')}; "
        f"it was {_s(took_s / plan.workers)} s"
    )
    return lines


def _came_true(stage: PlannedStage, counted: StageStats) -> str:
    told = []
    if counted.computed:
        told.append(
            f"computing it alone {micros(counted.seconds_compute / counted.computed * 1e6)}"
        )
    if counted.lookups:
        looked_us = counted.seconds_lookup / counted.lookups * 1e6
        told.append(f"a look-up {micros(looked_us)}")
        told.append(f"{counted.hits / counted.lookups:.0%} hits of {stage.hit_rate:.0%} expected")
    return f"; came true: {', '.join(told)}" if told else ""


def _cached(stage: PlannedStage) -> str:
    if not stage.cached:
        return "no"
    if stage.share < FEW:
        return "<1%"
    return "yes" if stage.share >= 1 else f"{stage.share:.0%}"


def _cells(stage: PlannedStage) -> list[str]:
    us = micros(stage.compute_us)
    if stage.bytes_a_row is None:
        return ["-", us, *["-"] * (len(_HEADS) - 2)]
    pays = "never" if stage.break_even is None else f"{stage.break_even:.0%}"
    each = map(micros, (stage.lookup_us, stage.fetch_us, stage.insert_us))
    return [f"{stage.bytes_a_row:,}", us, *each, f"{stage.hit_rate:.0%}", pays]


def _s(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds >= 1 else f"{seconds:.2g}"
