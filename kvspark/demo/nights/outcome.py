"""What the nights came to: the values behind the table, the picture and `demo.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from rich import box
from rich.table import Table

from kvspark.stats import StageStats
from kvspark.wording import count_of

STAGES = ("features", "trunk", "head")


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """One night, scored with the cache and once more without it."""

    name: str
    rows: int
    new_texts: int
    """Distinct texts that no night before had: what the trunk cannot do without."""
    stages: Mapping[str, StageStats]
    """Of the run with the cache, by the names of `STAGES`."""
    seconds: float
    """Wall time of the whole job with the cache: read, preflight, score, write, validate, publish."""
    seconds_cache_off: float
    difference: str | None
    """Where the two outputs differ; None if they have the same bits."""
    accuracy: float | None
    """Held-out rows whose class the head names; None where no row is held out."""
    output: Path
    """The published Parquet."""
    run_report: Path
    degraded: tuple[str, ...] = ()
    """Why the cache was not, or not always, used."""

    @property
    def hit_rate(self) -> float:
        """Distinct rows that were found in the store, at whichever stage; 1 is all of them."""
        lookups = self.stages["head"].lookups
        return sum(stage.hits for stage in self.stages.values()) / lookups if lookups else 0.0

    def to_json(self) -> dict[str, Any]:
        """This value as plain JSON types."""
        return {
            "name": self.name,
            "rows": self.rows,
            "new_texts": self.new_texts,
            "stages": {name: _counts(self.stages[name]) for name in STAGES},
            "seconds": round(self.seconds, 3),
            "seconds_cache_off": round(self.seconds_cache_off, 3),
            "equal_to_cache_off": self.difference is None,
            "accuracy": None if self.accuracy is None else round(self.accuracy, 4),
            "output": str(self.output),
            "run_report": str(self.run_report),
            "degraded": list(self.degraded),
        }


def table(outcomes: Sequence[Outcome]) -> Table:
    """The nights as a table for the terminal, one night a column."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("", no_wrap=True)
    for outcome in outcomes:
        made.add_column(outcome.name.replace(": ", ":\n").replace(", ", ",\n"), justify="right")
    first = outcomes[0].seconds
    lines: dict[str, Callable[[Outcome], str]] = {
        "rows": lambda night: f"{night.rows:,}",
        "texts that no night before had": lambda night: f"{night.new_texts:,}",
        **{f"computed by the stage {stage}": _computed(stage) for stage in STAGES},
        "hit rate": lambda night: f"{_percent(night.hit_rate)} %",
        "seconds": lambda night: f"{night.seconds:.1f}",
        "x faster than night 1": lambda night: f"{first / night.seconds:.1f}",
        "seconds without the cache": lambda night: f"{night.seconds_cache_off:.1f}",
        "the same bits as without it": lambda night: "yes" if night.difference is None else "NO",
        "held-out accuracy of the head": lambda night: (
            "-" if night.accuracy is None else f"{night.accuracy:.3f}"
        ),
    }
    for heading, cell in lines.items():
        made.add_row(heading, *map(cell, outcomes))
    return made


def complaints(outcomes: Sequence[Outcome]) -> list[str]:
    """What did not go as the demo promises; empty if all did."""
    wrong = [
        f"{outcome.name}: the output differs from the one without the cache, in {outcome.difference}"
        for outcome in outcomes
        if outcome.difference is not None
    ]
    wrong += [
        f"{outcome.name}: the cache was not, or not always, used: {', '.join(outcome.degraded)}"
        for outcome in outcomes
        if outcome.degraded
    ]
    trunk = outcomes[-1].stages["trunk"]
    if trunk.computed or trunk.weights_loaded:
        wrong.append(
            f"{outcomes[-1].name}: the trunk computed {count_of(trunk.computed, 'row')} and "
            f"{count_of(trunk.weights_loaded, 'worker')} opened its weights; expected none"
        )
    return wrong


def _computed(stage: str) -> Callable[[Outcome], str]:
    return lambda night: f"{night.stages[stage].computed:,}"


def _percent(part: float) -> str:
    # 9,953 of 9,954 is not "100.0": only all of them is.
    return "100" if part == 1 else f"{min(100 * part, 99.9):.1f}"


def _counts(stage: StageStats) -> dict[str, int]:
    return {
        name: getattr(stage, name)
        for name in ("lookups", "hits", "duplicates", "computed", "weights_loaded")
    }
