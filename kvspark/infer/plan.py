"""Which stages are looked up and stored, and how misses are gathered: a plain frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from kvspark.errors import UsageError
from kvspark.model.bundle import Bundle
from kvspark.model.stage import Stage
from kvspark.spec import MicroBatch


@final
@dataclass(frozen=True, slots=True)
class StagePlan:
    """What the cache does for one stage."""

    cached: bool
    """Looked up before it is computed, and stored afterwards."""
    codec: str = "raw"
    share: float = 1.0
    """The share of distinct rows that are remembered, the same ones every night; the others are
    neither stored nor looked up."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"share must be above 0 and at most 1, got {self.share}")


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """What a predictor does with each stage."""

    stages: Mapping[str, StagePlan] = field(default_factory=dict)
    """By stage; a stage that is not named gets the default: cached if it gives the outputs, or if it
    is no feature stage and its results have a fixed size."""
    micro_batch: MicroBatch | None = None
    """Other shapes than the model's own; they change its fingerprints."""
    max_pending_rows: int = 4096
    """Distinct misses that are gathered before they are computed: a window of 32 rows a micro-batch
    and some 20 length buckets then pads less than one row in ten."""
    max_held_bytes: int = 128 << 20
    """Bytes of batches and results that wait for a pending row before it is computed."""

    def for_bundle(self, bundle: Bundle) -> Plan:
        """This plan with every stage of `bundle` named.

        Raises:
            UsageError: it names a stage that the model does not have.
        """
        names = [stage.name for stage in bundle.stages]
        unknown = [name for name in self.stages if name not in names]
        if unknown:
            raise UsageError(
                f"the plan names stage {unknown[0]!r}; model {bundle.name!r} has {', '.join(names)}"
            )
        last = bundle.stages[-1]
        stages = {
            stage.name: self.stages.get(stage.name, _default(stage, is_last=stage is last))
            for stage in bundle.stages
        }
        return Plan(stages, self.micro_batch, self.max_pending_rows, self.max_held_bytes)


def _default(stage: Stage, *, is_last: bool) -> StagePlan:
    return StagePlan(is_last or (stage.is_batched and stage.bytes_per_row is not None))
