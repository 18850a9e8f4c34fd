"""Outcomes of three nights, as a test needs them."""

from __future__ import annotations

from pathlib import Path

from kvspark.demo.nights.outcome import Outcome
from kvspark.stats import StageStats


def outcome(
    name: str, *, computed: tuple[int, int, int], hits: int = 0, difference: str | None = None
) -> Outcome:
    """A night of 1,000 rows with these rows computed by features, trunk and head."""
    features, trunk, head = computed
    return Outcome(
        name=name,
        rows=1000,
        new_texts=features,
        stages={
            "features": StageStats(computed=features),
            "trunk": StageStats(lookups=head, hits=head - trunk, computed=trunk),
            "head": StageStats(lookups=1000, hits=hits, computed=head),
        },
        seconds=50.0 / (1 + hits),
        seconds_cache_off=51.0,
        difference=difference,
        accuracy=0.75,
        output=Path("out") / name,
        run_report=Path("out") / name / "_kvspark" / "run.json",
    )


NIGHTS = [
    outcome("night 1: a & b", computed=(1000, 1000, 1000)),
    outcome("night 2: b", computed=(10, 10, 10), hits=990),
    outcome("night 3: b, new head", computed=(0, 0, 1000)),
]
