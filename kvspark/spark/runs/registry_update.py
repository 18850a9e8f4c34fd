"""What the driver of a run leaves in the namespace after it: what was written, and how long rows took."""

from __future__ import annotations

from collections.abc import Sequence

from kvspark.cache.cache import Cache
from kvspark.cache.namespace.namespace_stats import Use
from kvspark.infer.checks.stage_seconds import StageSeconds
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.model.stage.stage import Stage
from kvspark.stats import RunStats, StageStats

MEASURED_ROWS = 4_096
"""So many rows were computed where seconds of a run are better than those of a preflight."""


def take_stock(stages: Sequence[Stage], stats: RunStats, cache: Cache) -> None:
    """Adds to the registry what the tasks of a run have counted; best effort."""
    uses: dict[bytes, Use] = {}
    for stage in stages:
        counted = stats.stages.get(stage.name, StageStats())
        if counted.lookups or counted.bytes_written:
            left_out = counted.turned_away + counted.rested
            entries = max(0, counted.computed - left_out) if counted.bytes_written else 0
            uses[stage.fingerprint] = Use(stage.name, entries, counted.bytes_written)
    cache.registry().add(uses)


def remember_seconds(compiled: CompiledPlan, stats: RunStats, cache: Cache, threads: int) -> None:
    """Keeps what a row of each stage took in a run, for the plan of the next one; best effort."""
    threads = compiled.bundle.micro_batch.threads(threads)
    for stage in compiled.bundle.stages:
        counted = stats.stages.get(stage.name, StageStats())
        if counted.computed >= MEASURED_ROWS:
            seconds = counted.seconds_compute / (counted.computed + counted.padding_rows)
            StageSeconds(cache, stage, threads, compiled.device).remember(seconds)
