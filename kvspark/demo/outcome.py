"""What the nights came to: the values behind the table, the picture and `demo.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from rich.table import Table

from kvspark.stats import StageStats

STAGES = ("features", "trunk", "head")


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """One night, scored with the cache and once more without it."""

    name: str
    rows: int
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
            "stages": {name: _counts(self.stages[name]) for name in STAGES},
            "seconds": round(self.seconds, 3),
            "seconds_cache_off": round(self.seconds_cache_off, 3),
            "equal_to_cache_off": self.difference is None,
            "accuracy": None if self.accuracy is None else round(self.accuracy, 4),
            "output": str(self.output),
            "run_report": str(self.run_report),
        }


def table(outcomes: Sequence[Outcome]) -> Table:
    """The nights as a table for the terminal, one night a row."""
    made = Table(title="Rows that each night had to compute", title_justify="left")
    made.add_column("night", no_wrap=True)
    for heading in ("rows", *STAGES, "hit rate", "seconds", "x faster", "cache off, s", "accuracy"):
        made.add_column(heading, justify="right", no_wrap=True)
    made.add_column("same bits", justify="center", no_wrap=True)
    for outcome in outcomes:
        made.add_row(
            outcome.name,
            f"{outcome.rows:,}",
            *(f"{outcome.stages[name].computed:,}" for name in STAGES),
            f"{_percent(outcome.hit_rate)} %",
            f"{outcome.seconds:.1f}",
            f"{outcomes[0].seconds / outcome.seconds:.1f}",
            f"{outcome.seconds_cache_off:.1f}",
            "-" if outcome.accuracy is None else f"{outcome.accuracy:.3f}",
            "yes" if outcome.difference is None else f"[bold red]no: {outcome.difference}",
        )
    return made


def _percent(part: float) -> str:
    # 9,953 of 9,954 is not "100.0": only all of them is.
    return "100" if part == 1 else f"{min(100 * part, 99.9):.1f}"


def _counts(stage: StageStats) -> dict[str, int]:
    return {
        name: getattr(stage, name)
        for name in ("lookups", "hits", "duplicates", "computed", "weights_loaded")
    }
