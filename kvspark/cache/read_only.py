"""A cache that is read and not written: for who looks at what is there before a run."""

from __future__ import annotations

from dataclasses import replace
from typing import final

from kvspark.cache.cache import Cache
from kvspark.cache.guard.guard import Guard
from kvspark.cache.stage.stage_cache import NoWriter, StageCache
from kvspark.spec import TensorSpec


@final
class ReadOnly:
    """The stages of `cache`, of which entries are read and not written."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def keyspace(
        self,
        identity: bytes,
        specs: tuple[TensorSpec, ...],
        *,
        codec: str = "raw",
        guard: Guard | None = None,
    ) -> StageCache:
        """As that of the cache, without what inserts and leases."""
        space = self._cache.keyspace(identity, specs, codec=codec, guard=guard)
        return replace(space, writer=NoWriter(), leases=None)

    def overlap(self) -> None:
        """Nothing is inserted beside the computation, nor looked up ahead."""
