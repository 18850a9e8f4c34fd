"""What the driver of a run adds to the namespace's registry after it."""

from __future__ import annotations

from collections.abc import Sequence

from kvspark.cache.cache import Cache
from kvspark.cache.namespace.namespace_stats import Use
from kvspark.model.stage.stage import Stage
from kvspark.stats import RunStats, StageStats


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
