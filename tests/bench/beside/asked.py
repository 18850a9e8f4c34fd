"""What was asked of kvspark, beside what was measured: a miss is printed as a miss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

from tests.bench.beside.contestants import BY_NAME, CACHED, CACHED_JOB, JOB, OURS, SPARKS
from tests.bench.beside.nets import HEADS
from tests.bench.beside.prepare import COLD, FEW, SAME

ALONE = "sentence_transformers"

Result = Mapping[str, Any]


@final
@dataclass(frozen=True, slots=True)
class Asked:
    """One ratio of speeds: at least `least`."""

    workload: str
    says: str
    least: float
    faster: tuple[str, str]
    """Contestant and night whose seconds divide."""
    slower: tuple[str, str]
    """Contestant and night whose seconds are divided."""

    def measured(self, workload: Result) -> float | None:
        """The ratio; None where one of both was not measured."""
        seconds = [seconds_of(workload, *each) for each in (self.slower, self.faster)]
        above, below = seconds
        return None if above is None or below is None else above / below


def seconds_of(workload: Result, contestant: str, night: str) -> float | None:
    """The median of a contestant's seconds; None where there is none or its rows are wrong."""
    nights = workload["contestants"].get(contestant, {}).get("nights", {})
    made = nights.get(night)
    return made["median_s"] if made and made["agrees"] else None


def _of_pairs() -> Iterator[Asked]:
    for head in HEADS:
        name = f"pairs-{head}"
        none, cold, warm = (OURS, COLD), (CACHED, COLD), (CACHED, SAME)
        yield Asked(name, "no cache / `predict_batch_udf`", 4.0, none, (SPARKS, COLD))
        yield Asked(name, "cold / no cache", 0.97, cold, none)
        yield Asked(name, "same night / no cache", 1.0, warm, none)
        yield from _of_jobs(name, 0.97, 1.0)


def _of_jobs(name: str, cold: float, warm: float) -> Iterator[Asked]:
    """A job has a plan that was measured; what it does besides scoring is in both."""
    yield Asked(name, "job, cold / job, no cache", cold, (CACHED_JOB, COLD), (JOB, COLD))
    yield Asked(name, "job, same night / job, no cache", warm, (CACHED_JOB, SAME), (JOB, COLD))


ASKED = (
    Asked("tabular", "no cache / `predict_batch_udf`", 1.0, (OURS, COLD), (SPARKS, COLD)),
    Asked("tabular", "cold / no cache", 0.97, (CACHED, COLD), (OURS, COLD)),
    Asked("tabular", "same night / no cache", 0.97, (CACHED, SAME), (OURS, SAME)),
    *_of_jobs("tabular", 0.97, 0.97),
    *_of_pairs(),
    Asked("texts", "no cache / `predict_batch_udf`", 1.8, (OURS, COLD), (SPARKS, COLD)),
    Asked("texts", "no cache / sentence-transformers", 0.95, (OURS, COLD), (ALONE, COLD)),
    Asked("texts", "cold / `predict_batch_udf`", 2.0, (CACHED, COLD), (SPARKS, COLD)),
    Asked("texts", "cold / no cache", 0.98, (CACHED, COLD), (OURS, COLD)),
    Asked("texts", "job, cold / job, no cache", 0.98, (CACHED_JOB, COLD), (JOB, COLD)),
    Asked("texts", "cold / sentence-transformers", 1.15, (CACHED, COLD), (ALONE, COLD)),
)

FEW_CHANGED = 1.25
"""1 % changed takes at most this much of the same night and 1 % of the cold one."""

FLAT = 0.85
"""What a row costs in the cheapest table, of what it costs in the dearest, after start-up."""


def answers(workloads: Mapping[str, Result]) -> list[dict[str, Any]]:
    """Each ratio that was asked of what was measured, in the order of the workloads."""
    made = []
    for asked in ASKED:
        if asked.workload in workloads:
            value = asked.measured(workloads[asked.workload])
            made.append(_answer(asked.workload, asked.says, asked.least, value))
    if "texts" in workloads:
        says = "(same night + 1 % of cold) / 1 % changed"
        made.append(_answer("texts", says, 1 / FEW_CHANGED, _few_changed(workloads["texts"])))
    if "scale" in workloads:
        ratios: Callable[[str], float | None] = workloads["scale"]["flat"].get
        for contestant in (OURS, CACHED_JOB):
            says = f"cheapest row / dearest row, {BY_NAME[contestant].title}"
            made.append(_answer("scale", says, FLAT, ratios(contestant)))
    return made


def _few_changed(texts: Result) -> float | None:
    seconds = [seconds_of(texts, CACHED, night) for night in (SAME, COLD, FEW)]
    same, cold, few = seconds
    return None if same is None or cold is None or few is None else (same + 0.01 * cold) / few


def _answer(workload: str, says: str, least: float, value: float | None) -> dict[str, Any]:
    return {
        "workload": workload,
        "ratio": says,
        "asked": round(least, 2),
        "measured": None if value is None else round(value, 2),
        "met": value is not None and value >= least,
    }
