"""What infer asks of a cache: the cache of each stage, and what works beside the computation."""

from __future__ import annotations

from typing import Protocol

from kvspark.cache.guard.guard import Guard
from kvspark.cache.stage.overlap import Overlap
from kvspark.cache.stage.stage_cache import StageCache
from kvspark.spec import TensorSpec


class StageCaches(Protocol):
    """What gives a stage its cache: `kvspark.cache.cache.Cache`."""

    def keyspace(
        self,
        identity: bytes,
        specs: tuple[TensorSpec, ...],
        *,
        codec: str = "raw",
        guard: Guard | None = None,
    ) -> StageCache:
        """The entries of the stage whose results `identity` names; `guard` is that of another connection."""
        ...

    def overlap(self) -> Overlap | None:
        """What looks rows up and inserts them beside the computation, where that is wanted."""
        ...
